"""docs/notebook.ipynb runs as it is printed; docs/python.md names every public name."""

import ast
import json

import pytest
import torch

import irbench
from tests.helpers.paths import ROOT

NOTEBOOK = json.loads((ROOT / "docs/notebook.ipynb").read_text())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(before)


def test_the_page_names_every_public_name():
    text = (ROOT / "docs/python.md").read_text()
    functions = [name for name in irbench.__all__ if name[0].islower()]
    assert not [name for name in functions if f"irbench.{name}" not in text]


def test_the_notebook_holds_no_outputs_and_its_code_is_python():
    assert NOTEBOOK["nbformat"] == 4
    for cell in NOTEBOOK["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"] and cell["execution_count"] is None
            ast.parse("".join(cell["source"]))


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(folder):
    """Its cells run in order in one namespace, as in a kernel; the last value of each is shown."""
    names = {}
    for number, cell in enumerate(NOTEBOOK["cells"]):
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]))
        shown = None
        if isinstance(tree.body[-1], ast.Expr):
            shown = ast.Expression(tree.body.pop().value)
        exec(compile(tree, f"cell {number}", "exec"), names)
        if shown:
            repr(eval(compile(shown, f"cell {number}", "eval"), names))
    assert names["result"].mean["psnr"] > names["bicubic"].mean["psnr"] - 5
    assert names["mine"].complete and not names["result"].complete
    assert names["restored"].size == (200, 160)

