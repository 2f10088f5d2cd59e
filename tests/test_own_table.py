"""The guide docs/own-table.md works as printed: a table from a user's own files only."""

import re

import pytest
import yaml

from irbench import cli, plan
from irbench.catalog import peers, protocols, published, recipes
from irbench.core.errors import UserError
from irbench.data import sets
from irbench.imaging.images import write_png
from irbench.plan import file
from irbench.present import markdown
from irbench.report import collect
from irbench.report.tables import tables
from tests.helpers import tiny
from tests.helpers.paths import ROOT

TEXT = (ROOT / "docs" / "own-table.md").read_text()
CATALOG, CONFIG = re.findall(r"```yaml\n(.*?)```", TEXT, re.S)
MODEL, = re.findall(r"```python\n(.*?)```", TEXT, re.S)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """The guide's files, with little images."""
    monkeypatch.chdir(tmp_path)
    for name in ("street", "street_train"):
        for i in range(9 if "train" in name else 2):
            write_png(tmp_path / name / f"{name}{i}.png", tiny.photo(i + len(name), 40, 48))
    (tmp_path / "my_catalog.yaml").write_text(CATALOG)
    (tmp_path / "my_model.py").write_text(MODEL)
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path


def edit(world, change):
    """Write the guide's catalog, changed by a function."""
    value = yaml.safe_load(CATALOG)
    change(value)
    (world / "my_catalog.yaml").write_text(yaml.safe_dump(value))


def test_the_guide_gives_a_table_with_all_its_rows(world):
    edit(world, lambda value: value["recipes"]["mine"].update(steps=2, batch=2, holdout=0,
                                                              validate_every=None))
    names = ["--protocol", "denoise_color-sigma35", "--model"]
    assert cli.main(["train", *names, "mynet"]) == 0
    for model in ("input", "mynet", "mynet.plus"):
        assert cli.main(["eval", *names, model, "--dataset", "street"]) == 0
    planned = plan.load("config.yaml")
    run = collect.collect(planned.folder, planned.report_spec)
    table, = tables.build(run)
    shown = [row.heads[0].shown for row in table.measured]
    assert {"MyNet (ours)", "MyNet+ (ours)", "Rival"} <= set(shown)
    text = markdown.to_markdown(table)
    assert "30.10" in text and "Rival 2025, table 2" in text
    assert "not in the paper" not in text.replace("not in the paper, not ranked", "")
    assert "self-ensemble" in text


def test_the_plan_knows_recipe_and_peer(world):
    planned = plan.load("config.yaml")
    recipe = planned.models["mynet"].training
    assert (recipe.recipe, recipe.steps, recipe.patch) == ("mine", 2000, 32)
    assert recipe.ema == 0.999                  # from its base
    cell = planned.find("cell", protocol="denoise_color-sigma35", dataset="street", model="rival")
    assert cell.spec["model"]["checkpoint"]["sha256"] == "0" * 64
    assert cli.main(["info", "rival", "--config", "config.yaml"]) == 0
    assert cli.main(["info", "mine", "--config", "config.yaml"]) == 0


def test_a_published_value_changes_the_report_and_no_cell(world):
    before = plan.load("config.yaml")
    report = before.report_fingerprint
    edit(world, lambda value: value["published"][0].update(value="30.11"))
    after = plan.load("config.yaml")
    assert report != after.report_fingerprint
    assert file.read(file.write(after)).figures == after.figures
    assert [job.fingerprint for job in before.jobs()] == [job.fingerprint for job in after.jobs()]


@pytest.mark.parametrize("section", ["datasets", "protocols", "recipes", "peers", "published"])
def test_a_name_in_two_files_is_refused_with_both(world, section):
    (world / "again.yaml").write_text(yaml.safe_dump(
        {section: yaml.safe_load(CATALOG)[section]}))
    load = {"datasets": sets.catalog, "protocols": protocols.catalog, "recipes": recipes.catalog,
            "peers": peers.catalog, "published": published.of_users}[section]
    paths = (str(world / "my_catalog.yaml"), str(world / "again.yaml"))
    if section == "published":      # rows name a protocol, which is in the first file
        assert len(load(paths[:1])) == 1
    with pytest.raises(UserError) as caught:
        load(paths)
    assert all(path in str(caught.value) for path in paths)


@pytest.mark.parametrize(("section", "value", "message"), [
    ("recipes", {"demo": {"steps": 3}}, "recipe 'demo' is defined already by irbench itself"),
    ("recipes", {"own": {"stepz": 3}}, "recipe 'own': unknown field 'stepz'. Did you mean"),
    ("recipes", {"own": {"base": "shrt"}}, "unknown recipe 'shrt'. Did you mean 'short'"),
    ("recipes", {"own": {"base": ["short"]}}, "recipe 'own': base"),
    ("recipes", {"own": 3}, "recipe 'own': valid is a mapping"),
    ("recipes", {"own": {"for": [{"set": {"patchh": 1}}]}}, "unknown field 'patchh'"),
    ("recipes", {"own": {"for": [3]}}, "for: valid is a list"),
    ("recipes", [3], "section 'recipes': valid is a mapping"),
    ("peers", {"dat": {}}, "peer 'dat': missing"),
    ("peers", {"A b": {}}, "not a valid name"),
    ("published", {"a": 1}, "section 'published': valid is a list of rows"),
    ("published", [3], "row 1: valid is a mapping"),
    ("published", [{"value": 30.1}], "row 1: missing source, task"),
    ("publisht", [], "unknown section 'publisht'. Did you mean 'published'"),
])
def test_mistakes_in_a_catalog_are_explained(tmp_path, section, value, message):
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump({section: value}))
    load = {"recipes": recipes.catalog, "peers": peers.catalog}.get(section, published.of_users)
    with pytest.raises(UserError, match=message) as caught:
        load([path])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("change", "message"), [
    ({"value": 30.1}, "value is 30.1; valid is a text in quotes, which keeps its decimals"),
    ({"value": "much"}, "value is 'much'; it is a decimal number"),
    ({"metric": "psnrr"}, "unknown metric 'psnrr'"),
    ({"level": "sigma36"}, "unknown protocol 'denoise_color-sigma36'. Did you mean"),
    ({"versions": "1"}, "versions is '1'; valid is a list"),
    ({"versions": [0]}, "versions is '0'"),
    ({"method": "a\nb"}, "one line of text"),
    ({"colour": "x"}, "unknown field 'colour'"),
    ({"dataset": "streat"}, "published value of 'Rival': unknown dataset 'streat'. Did you"),
])
def test_mistakes_in_a_printed_value_are_explained(world, change, message):
    edit(world, lambda value: value["published"][0].update(change))
    with pytest.raises(UserError, match=re.escape(message)):
        plan.load("config.yaml")


def test_a_row_that_irbench_has_is_refused(world):
    one = published.load()[0]
    row = {**one.as_dict(), "value": "1.00"}
    row.pop("text")
    edit(world, lambda value: value["published"].append(row))
    with pytest.raises(UserError, match=r"row 2 repeats irbench's own published.csv"):
        plan.load("config.yaml")


def test_a_peer_of_irbench_keeps_its_name(world):
    edit(world, lambda value: value["peers"].update(dat=value["peers"]["rival"]))
    with pytest.raises(UserError, match="peer 'dat' is defined already by irbench itself"):
        plan.load("config.yaml")
