"""Bad values of models' options are refused before any job."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from irbench import plan
from irbench.core.errors import UserError
from irbench.models import layers, registry
from irbench.plan import config
from tests.helpers import tiny

CARDS = registry.cards()


def refused(folder, change):
    path = tiny.make(folder)
    value = yaml.safe_load(path.read_text())
    change(value)
    path.write_text(yaml.safe_dump(value))
    with pytest.raises(UserError) as caught:
        plan.load(path)
    return str(caught.value)


@pytest.mark.parametrize(("given", "message"), [
    ({"width": "wide"}, "width is 'wide'; it takes a whole number, as 4."),
    ({"width": 4.0}, "width is 4.0; it takes a whole number, as 4."),
    ({"width": True}, "width is True; it takes a whole number"),
    ({"width": None}, "width is None; it takes a whole number"),
    ({"width": 0}, "width is 0; it must be at least 1."),
    ({"strength": "0.1"}, "strength is '0.1'; it takes a number, as 0.1."),
    ({"strengh": 1}, "unknown option of tiny 'strengh'. Did you mean 'strength'?"),
])
def test_a_bad_value_ends_the_plan_and_is_named_with_its_place(tmp_path, given, message):
    wording = refused(tmp_path, lambda value: value["models"]["tiny"].update(options=given))
    assert "config.yaml: models.tiny.options: " in wording and message in wording


@pytest.mark.parametrize("given", [{}, {"strength": 0}, {"strength": 2}, {"width": 1}])
def test_good_values_are_taken(tmp_path, given):
    path = tiny.make(tmp_path)
    value = yaml.safe_load(path.read_text())
    value["models"]["tiny"]["options"] = given
    value["models"]["tiny"]["variants"] = {"off": {"options": {"strength": 0.0}},
                                           "on": {"options": {"strength": 1}}}
    path.write_text(yaml.safe_dump(value))
    if given.get("strength") == 0:      # the variant `off` would be its base
        del value["models"]["tiny"]["variants"]["off"]
        path.write_text(yaml.safe_dump(value))
    assert plan.load(path).models["tiny"].options == {"width": 4, "strength": 0.1, **given}


@pytest.mark.parametrize("name", CARDS)
def test_every_default_is_a_value_that_its_card_takes(name):
    CARDS[name].check("here", CARDS[name].options)


@given(st.sampled_from(sorted(CARDS)), st.data())
def test_what_the_plan_takes_the_network_takes_by_kind_and_no_more(name, data):
    """The check before all jobs and that of the builders (``layers.options_of``) are one."""
    card = CARDS[name]
    if not card.options:
        return
    option = data.draw(st.sampled_from(sorted(card.options)))
    value = data.draw(st.one_of(st.integers(-2, 3), st.floats(-2, 3), st.booleans(), st.none(),
                                st.text(max_size=3), st.lists(st.integers(), max_size=2)))

    def verdict(check):
        try:
            check()
        except UserError:
            return False
        return True

    assert verdict(lambda: card.check("here", {option: value})) == verdict(
        lambda: layers.options_of(name, {name: {"options": card.options}}, {option: value}))


@pytest.mark.parametrize(("change", "place"), [
    (lambda value: value.update(seed=1.0), "seed: expected integer, found 1.0"),
    (lambda value: value.setdefault("profile", {}).update(samples=3.0),
     "profile.samples: expected integer, found 3.0"),
    (lambda value: value["models"]["tiny"].update(inference={"overlap": 8.0}),
     "models.tiny.inference.overlap: expected integer or null, found 8.0"),
    (lambda value: value["models"]["tiny"]["training"].update(steps=2.0),
     "models.tiny.training: steps is 2.0; valid: a whole number"),
])
def test_a_count_with_a_fraction_of_nothing_is_no_count(tmp_path, change, place):
    assert place in refused(tmp_path, change)
    with pytest.raises(UserError, match="profile.batch: expected integer, found 2.0"):
        config.section("profile", {"batch": 2.0})
