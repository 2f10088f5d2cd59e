"""The registry: cards without imports, one owner a name, errors that help."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys

import pytest

from irbench.core.errors import UserError
from irbench.models import registry

PLUGIN = '''
LOADED = __file__
CARDS = {{
    "{name}": {{
        "title": "Toy", "builder": "build", "tasks": ["sr"], "in_paper": False,
        "source": "a test", "learned": False, "options": {{"gain": 1.0}},
        "levels": {{"sr": ["x2"]}},
    }},
}}

def build(task, scale, channels, gain=1.0):
    return (task, scale, channels, gain, LOADED)
'''


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def plugin(tmp_path, name="toy", file="toy.py"):
    return write(tmp_path / file, PLUGIN.format(name=name))


def test_listing_and_planning_import_no_torch():
    code = ("import sys; from irbench.models import registry; found = registry.cards(); "
            "assert 'compacter' in found and 'semanir-s' in found, found; "
            "bad = {'torch', 'numpy'} & set(sys.modules); assert not bad, bad")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_cards_hold_what_the_tables_need():
    known = registry.cards()
    assert {"compacter", "semanir-s", "semanir-b", "semanir-unet", "semanir-light"} <= set(known)
    for card in known.values():
        assert card.title and card.tasks and card.source
        assert card.in_paper or card.note, f"{card.name}: a table must say it is not in the paper"
        # in the table of somebody's paper these would be that paper and its authors
        assert not re.search(r"\b(ours?|the paper)\b", card.note), card.name


def test_free_options_are_those_that_change_no_weights():
    for name in ("semanir-s", "semanir-b", "semanir-light", "semanir-unet"):
        card = registry.get(name)
        assert {"k", "attention", "similarity"} <= set(card.free) <= set(card.options)
        assert not {"width", "layers", "stages", "heads"} & set(card.free)
    assert not registry.get("bicubic").free


def test_references_are_marked_and_say_so(tmp_path):
    marked = {name for name, card in registry.cards().items() if card.reference}
    assert marked == {"swinir-m-random", "swinir-s-random"}
    for name in marked:
        card = registry.get(name)
        assert not card.learned and card.note in card.summary
    assert registry.get("compacter").summary == "Compacter"


def test_can_follows_tasks_and_levels():
    card = registry.get("semanir-s")
    assert card.can("sr", "x2")
    assert not card.can("sr", "x8")
    assert not card.can("denoise_color", "sigma25")
    assert registry.get("semanir-unet").can("denoise_color", "sigma25")


def test_an_unknown_name_suggests_near_ones():
    with pytest.raises(UserError) as caught:
        registry.get("compactor")
    assert "unknown model 'compactor'" in str(caught.value)
    assert "Did you mean 'compacter'" in str(caught.value)
    assert "semanir-light" in str(caught.value)


def test_a_plugin_is_read_without_running_it_and_loaded_when_asked(tmp_path):
    path = write(tmp_path / "lazy.py",
                 PLUGIN.format(name="lazy") + "\nprint('imported')\n")
    before = set(sys.modules)
    card = registry.get("lazy", (path,))
    assert card.options == {"gain": 1.0} and card.path == tmp_path / "lazy.py"
    assert not [m for m in set(sys.modules) - before if m.startswith("irbench_plugin_lazy")]
    assert card.load()("sr", 2, 3)[:4] == ("sr", 2, 3, 1.0)
    assert "lazy" not in registry.cards()


def test_plugins_of_one_file_name_stay_apart(tmp_path):
    paths = (plugin(tmp_path, "one", "a/model.py"), plugin(tmp_path, "two", "b/model.py"))
    loaded = [registry.get(name, paths).load()("sr", 2, 3)[-1] for name in ("one", "two")]
    assert loaded == [str(tmp_path / "a/model.py"), str(tmp_path / "b/model.py")]


def test_a_file_named_twice_is_one_plugin(tmp_path):
    path = plugin(tmp_path)
    assert "toy" in registry.cards((path, str(tmp_path / "." / "toy.py")))


@pytest.mark.parametrize("name", ["compacter", "toy"])
def test_a_taken_name_is_refused(tmp_path, name):
    paths = (plugin(tmp_path, "toy", "first.py"), plugin(tmp_path, name, "second.py"))
    with pytest.raises(UserError, match="already taken") as caught:
        registry.cards(paths)
    assert "second.py" in str(caught.value)
    assert "toy" not in registry.cards()


GOOD = PLUGIN.format(name="toy")


@pytest.mark.parametrize(("text", "message"), [
    ("NAME = 'toy'\nCARDS = {NAME: {}}", "must be a literal"),
    ("CARDS = dict(toy={})", "must be a literal"),
    ("CARDS = {[1]: {}}", "must be a literal"),
    ("CARDS: dict", "must be a literal"),
    ("CARDS = ['toy']", "dict of dicts"),
    ("CARDS = {'toy': 1}", "dict of dicts"),
    ("CARDS = {'toy': {}, 'toy': {}}", "'toy' twice"),
    ("CARDS = {'toy': {}}", "missing builder"),
    (GOOD.replace('"title"', '"titel"'), "missing title; unknown titel"),
    (GOOD.replace('["sr"], "in', '"sr", "in'), "tasks is 'sr'; it takes a list"),
    (GOOD.replace('"levels"', '"free": "gain", "levels"'), "free is 'gain'; it takes a list"),
    (GOOD.replace('"levels"', '"free": ["gian"], "levels"'),
     "free: unknown option 'gian'. Did you mean 'gain'"),
    (GOOD.replace('"levels"', '"reference": "yes", "levels"'),
     "reference is 'yes'; it takes True or False"),
    ("x = 1", "no CARDS found"),
    ("CARDS = {(1, 2): {}, (1, 2): {}}", r"holds \(1, 2\) twice"),
    ("CARDS = {1: {}}".replace("{}", "{'title': 't', 'builder': 'b', 'tasks': [], 'in_paper': "
                               "True, 'source': 's', 'learned': True}"), "name is a text"),
    ("CARDS = {'a': " + "[" * 150 + "]" * 150 + "}", "dict of dicts"),
    ("CARDS = {'a': " + "[" * 3000 + "]" * 3000 + "}", "too many|cannot parse"),
    ("CARDS = {'a': " + "-" * 3000 + "1}", "cannot parse|must be a literal"),
    ("CARDS = {}\0", "holds the character NUL"),
    *[(GOOD.replace('"levels"', f'"{key}": {value}, "levels"'), f"{key} is .*; it takes {takes}")
      for key, value, takes in (
          ("note", "3", "a text"), ("published_as", "None", "a text"),
          ("dtypes", "['float31']", "a list of float32"), ("dtypes", "'float32'", "a list of"),
          ("dtypes", "[[]]", "a list of float32"), ("free", "[1]", "a list of texts"),
          ("size_multiple", "0", "a whole number"), ("size_multiple", "True", "a whole number"),
          ("size_multiple", "'8'", "a whole number"))],
    (GOOD.replace('"levels"', '"options": {1: 2}, "levels"'), "options is .*a mapping from names"),
    (GOOD.replace('["sr"], "in', '[None], "in'), "tasks is .*a list of texts"),
    (GOOD.replace('"title": ', '"title": 7 or '), "must be a literal"),
    ("CARDS = {'t': {'title': 7, 'builder': 'b', 'tasks': [], 'in_paper': True, 'source': 's', "
     "'learned': True}}", "title is 7; it takes a text"),
    ("CARDS = {'t': {'title': 't', 'builder': 'b', 'tasks': [], 'in_paper': 0, 'source': 's', "
     "'learned': True}}", "in_paper is 0; it takes True or False"),
    ("CARDS = {'t': {'title': 't', 'builder': 'b', 'tasks': [], 'in_paper': True, 'source': 's', "
     "'learned': True, 'levels': {'sr': 'x2'}}}", "levels is .* lists of levels"),
    ("CARDS = {", "line 1"),
])
def test_bad_cards_are_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as caught:
        registry.cards((write(tmp_path / "bad.py", text),))
    assert "bad.py" in str(caught.value)


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        registry.cards((str(tmp_path / "absent.py"),))
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        registry.cards((str(tmp_path / "binary.py"),))


def test_installed_packages_are_looked_through_once(tmp_path, monkeypatch, installed):
    announce(monkeypatch, "announced_twice")
    plugin(tmp_path, file="announced_twice.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    asked, real = [], importlib.metadata.entry_points
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: asked.append(group)
                        or real(group))
    for _ in range(3):
        registry.get("toy")
        registry.cards().clear()  # a caller's copy
    assert asked == ["irbench.models"]


def test_errors_of_loading_name_the_file(tmp_path):
    broken = write(tmp_path / "broken.py", GOOD.replace("LOADED =", "import nothing_such #"))
    with pytest.raises(UserError, match=r"broken\.py.*ModuleNotFoundError.*nothing_such"):
        registry.get("toy", (broken,)).load()
    assert not [m for m in sys.modules if m.startswith("irbench_plugin_broken")]
    lacking = write(tmp_path / "lacking.py", GOOD.replace("def build", "def built"))
    with pytest.raises(UserError, match=r"lacking\.py.*builder 'build'"):
        registry.get("toy", (lacking,)).load()


@pytest.fixture
def installed():
    """Forget which packages announce models, before and after a test."""
    known = (registry._cards, registry._entry_points)
    for one in known:
        one.cache_clear()
    yield
    for one in known:
        one.cache_clear()


def announce(monkeypatch, value):
    point = importlib.metadata.EntryPoint("toy", value, "irbench.models")
    monkeypatch.setattr(importlib.metadata, "entry_points",
                        lambda group: [point] if group == "irbench.models" else [])


def test_an_installed_package_announces_models(tmp_path, monkeypatch, installed):
    plugin(tmp_path, file="announced_toy.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    announce(monkeypatch, "announced_toy")
    assert registry.get("toy").path == tmp_path / "announced_toy.py"
    assert "announced_toy" not in sys.modules


@pytest.mark.parametrize("value", ["no_such_module", "no_such_package.models"])
def test_an_entry_point_to_nothing_is_named(monkeypatch, value, installed):
    announce(monkeypatch, value)
    with pytest.raises(UserError, match=f"'{value}', which is not installed"):
        registry.cards()
