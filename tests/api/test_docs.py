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


def test_the_notebook_shows_what_its_beginning_promises():
    code = "\n".join("".join(cell["source"]) for cell in NOTEBOOK["cells"]
                     if cell["cell_type"] == "code")
    for name in ("evaluate", "restore", "psnr", "ssim", "lpips", "load_run", "list_models"):
        assert f"irbench.{name}(" in code
    assert "idxmin" in code and ".plot." in code and "imshow" in code


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
    assert names["quick"].mean["psnr"] > names["bicubic"].mean["psnr"] - 5
    assert names["mine"].complete and not names["quick"].complete
    assert names["worst"] in set(names["mine"].images.index) and len(names["run"].cells) == 2
    assert len(names["gain"]) == 4
    assert names["restored"].size == (200, 160)

