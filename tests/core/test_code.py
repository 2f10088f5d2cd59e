"""The digest of Python code: prose moves none, a changed expression does, imports are followed."""

import shutil

import pytest

from irbench.core import code
from irbench.core.code import closure, of_text

# -- one file ------------------------------------------------------------------------------------

@pytest.mark.parametrize(("one", "other"), [
    ("x = 1  # why", "\n\nx=1"),
    ("x = 'a'", 'x = "a"'),
    ("x = 'ab'", "x = ('a'\n     'b')"),
    ("x = f(a, b)", "x = (f(\n    a,\n    b,\n))"),
    ("x = 1000", "x = 1_000"),
    ('"""One."""\nx = 1', '"""Two."""\n\nx = 1'),
    ('def f():\n    """One."""\n    return 1', "def f():\n    return 1"),
    ('class A:\n    """One."""', "class A:\n    pass"),
    ("x = 1\n'''said of x'''", "x = 1"),
    ("from __future__ import annotations\nx = 1", "x = 1"),
    ("def f(a: int, *b: str, c: int = 1) -> None: return a", "def f(a, *b, c=1): return a"),
    ("x: int = 1", "x = 1"),
    ("def f():\n    x: int = 1\n    return x", "def f():\n    x = 1\n    return x"),
    ("class A:\n    x: int", "class A:\n    x: 'list[str]'"),
    ("class A:\n    x: int = 1", "class A:\n    x: float = 1"),
    ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\nx = 1",
     "from typing import TYPE_CHECKING\nx = 1"),
])
def test_prose_and_layout_move_no_digest(one, other):
    assert of_text(one) == of_text(other)


@pytest.mark.parametrize(("one", "other"), [
    ("x = 1", "x = 2"),
    ("x = 1", "x = 1.0"),
    ("x = 1", "x = True"),
    ("x = 'a'", "x = b'a'"),
    ("x = 'a'", "x = 'A'"),
    ("x = a + b", "x = a - b"),
    ("x = a.b", "x = a.c"),
    ("x = [a, b]", "x = (a, b)"),
    ("x = {**a, 'b': 1}", "x = {a: None, 'b': 1}"),
    ("f(a)", "f(*a)"),
    ("f(a=1)", "f(b=1)"),
    ("x = 1\ny = 2", "y = 2\nx = 1"),
    ("if a:\n    b()\nc()", "if a:\n    b()\n    c()"),
    ("def f(a): return a", "async def f(a): return a"),
    ("def f(a, b): return a", "def f(a, *, b): return a"),
    ("def f(a=1): return a", "def f(a=2): return a"),
    ("@cache\ndef f(): return 1", "def f(): return 1"),
    ("import a as b", "import a as c"),
    ("from . import a", "from .. import a"),
    ("class A:\n    x: int", "class A:\n    pass"),
    ("class A:\n    x: int = 1", "class A:\n    x = 1"),
    ("class A:\n    x: int = 1", "class A:\n    x: ClassVar[int] = 1"),
    ("def f():\n    x: int\n    return x", "def f():\n    return x"),
    ("@jit\ndef f(n): return n", "@jit\ndef f(n: tl.constexpr): return n"),
    ("if TYPE_CHECKING:\n    x = 1\nelse:\n    x = 2", "x = 1"),
    ("x = 1 +", "x = 1 -"),  # not valid Python: it counts by its bytes
])
def test_a_changed_expression_moves_the_digest(one, other):
    assert of_text(one).digest != of_text(other).digest


def test_a_file_is_read_again_when_it_changed(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("x = 1")
    before = code.of_file(path)
    path.write_text("x = 10")
    assert before.digest != code.of_file(path).digest == of_text("x = 10").digest


def test_what_a_file_contributes_is_kept_for_other_processes(tmp_path, monkeypatch):
    """By its text, not its path or time; and a change of the code that digests it counts."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    parsed = []
    monkeypatch.setattr(code, "of_text", lambda text: parsed.append(text) or of_text(text))
    found = []
    for name in ("a.py", "b.py"):
        path = tmp_path / name
        path.write_text("from .a import b\nimport_module(f'c.d.{x}')")
        code._of_file.cache_clear()
        found.append(code.of_file(path))
    assert len(parsed) == 1 and found[0] == found[1] == of_text(path.read_bytes())
    monkeypatch.setattr(code, "_parser", lambda: b"other code")
    code._of_file.cache_clear()
    assert code.of_file(path) == found[0] and len(parsed) == 2


# -- imports -------------------------------------------------------------------------------------

def package(folder, **files):
    """Write a package: the names of its files with __ for /, and their texts. Returns its root."""
    for name, text in {"__init__": "", **files}.items():
        parts = name.split("__") if name != "__init__" else [name]
        path = folder.joinpath("pack", *[part or "__init__" for part in parts]).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "pack"


def names(entries, root, outside=()):
    return list(closure(entries, outside, root).modules)


@pytest.mark.parametrize(("text", "reached"), [
    ("import pack.sub.b", {"pack.sub", "pack.sub.b"}),
    ("from pack.sub import b", {"pack.sub", "pack.sub.b"}),
    ("from pack.sub.b import value", {"pack.sub", "pack.sub.b"}),
    ("from pack.sub import value", {"pack.sub"}),
    ("from pack.sub import *", {"pack.sub"}),
    ("from . import c", {"pack.c"}),
    ("from .sub import b", {"pack.sub", "pack.sub.b"}),
    ("def f():\n    from pack import c", {"pack.c"}),
    ("try:\n    import pack.c as d\nexcept ImportError:\n    d = None", {"pack.c"}),
    ("if TYPE_CHECKING:\n    from pack import c", set()),
    ("import importlib\nimportlib.import_module('pack.c')", {"pack.c"}),
    ("from importlib import import_module\nimport_module(f'pack.sub.{x}')",
     {"pack.sub", "pack.sub.b", "pack.sub.d", "pack.c"}),
])
def test_imports_are_followed(tmp_path, text, reached):
    root = package(tmp_path, a=text, c="", sub__="", sub__b="value = 1",
                   sub__d="from ..c import x")
    assert set(names(["pack.a"], root)) == {"pack", "pack.a"} | reached


def test_a_circle_of_imports_ends(tmp_path):
    root = package(tmp_path, a="from pack import b", b="from pack import a")
    assert names(["pack.b"], root) == ["pack", "pack.a", "pack.b"]


def test_what_is_outside_is_not_followed(tmp_path):
    root = package(tmp_path, a="from pack import b\nfrom pack.sub import c", b="import pack.d",
                   d="", sub__="import pack.d", sub__c="")
    assert names(["pack.a"], root, ["pack", "pack.b"]) == [
        "pack.a", "pack.d", "pack.sub", "pack.sub.c"]
    assert names(["pack.a"], root, ["pack", "pack.b", "pack.sub.*"]) == ["pack.a"]
    assert names(["pack.a"], root, ["pack", "pack.b", "pack.sub.c"]) == ["pack.a"]
    assert names(["pack.b"], root, ["pack", "pack.b"]) == ["pack.b", "pack.d"]


def test_other_packages_are_named(tmp_path):
    root = package(tmp_path, a="import numpy.linalg\ndef f():\n    from cv2 import blur\n"
                               "    from importlib.util import find_spec\n    find_spec('lpips')")
    assert closure(["pack.a"], root=root).packages == {"numpy", "cv2", "importlib", "lpips"}


def test_a_plugin_counts_with_the_files_beside_it(tmp_path):
    root = package(tmp_path / "lib", a="x = 1", b="")
    plugin = tmp_path / "mine" / "net.py"
    plugin.parent.mkdir()
    plugin.write_text("import torch\nimport parts\nfrom more.inner import y\nfrom pack import a")
    (tmp_path / "mine" / "parts.py").write_text("from parts2 import z")
    (tmp_path / "mine" / "parts2.py").write_text("z = 1")
    (tmp_path / "mine" / "unused.py").write_text("z = 1")
    (tmp_path / "mine" / "more").mkdir()
    (tmp_path / "mine" / "more" / "inner.py").write_text("y = (")
    found = closure([plugin], root=root)
    assert list(found.modules) == ["more.inner", "net", "pack", "pack.a", "parts", "parts2"]
    assert found.packages == {"torch"}
    # the same plugin elsewhere is the same code
    shutil.copytree(tmp_path / "mine", tmp_path / "yours")
    assert closure([tmp_path / "yours" / "net.py"], root=root).digest == found.digest
    (tmp_path / "yours" / "parts2.py").write_text("z = 2")
    assert closure([tmp_path / "yours" / "net.py"], root=root).digest != found.digest


def test_a_plugin_of_an_installed_package_counts_with_that_package_alone(tmp_path):
    site = tmp_path / "site-packages"
    (site / "own").mkdir(parents=True)
    (site / "numpy").mkdir()
    (site / "numpy" / "__init__.py").write_text("")
    (site / "own" / "__init__.py").write_text("")
    (site / "own" / "net.py").write_text("import numpy\nfrom . import parts\nimport own.more")
    (site / "own" / "parts.py").write_text("")
    (site / "own" / "more.py").write_text("")
    (site / "single.py").write_text("import numpy")
    root = package(tmp_path)
    assert names([site / "own" / "net.py"], root) == ["own", "own.more", "own.net", "own.parts"]
    assert names([site / "single.py"], root) == ["single"]


def test_a_plugin_beside_the_package_counts_with_the_files_beside_it(tmp_path):
    root = package(tmp_path, a="import parts")
    (tmp_path / "net.py").write_text("import parts\nimport pack.a")
    (tmp_path / "parts.py").write_text("")
    assert names([tmp_path / "net.py"], root) == ["net", "pack", "pack.a", "parts"]
    assert names(["pack.a"], root) == ["pack", "pack.a"]
