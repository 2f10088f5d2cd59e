"""The list of plots: it is whole, its names are those of files, and reading it is cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from irbench import snakefile
from irbench.present import style
from irbench.report import collect, plots
from tests.helpers.report_fixtures import Builder

FOLDER = Path(plots.__file__).parent


def test_every_module_that_draws_is_in_the_list_once():
    drawing = {path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__" and any(
        isinstance(node, ast.FunctionDef) and node.name == "draw"
        for node in ast.parse(path.read_text()).body)}
    assert sorted(plot.module for plot in plots.PLOTS) == sorted(drawing)
    names = [plot.name for plot in plots.PLOTS]
    assert len(set(names)) == len(names) and not any("-" in name for name in names)


@pytest.mark.parametrize(("stem", "name"), [
    ("quality", "quality"), ("quality-sr", "quality"), ("crops-sr-x2@1-set5", "crops"),
    ("training", "training"), ("qualities", None), ("my-quality", None)])
def test_a_file_is_of_the_plot_that_its_name_begins_with(stem, name):
    found = plots.plot_of(stem)
    assert (found and found.name) == name


def test_snakemakes_report_sorts_by_the_kind_of_a_plot():
    assert snakefile.drawing("crops-sr-x2@1-set5") == "visual comparison"
    assert snakefile.drawing("quality-sr") == snakefile.drawing("mine") == "plots"


def test_a_plot_of_jobs_that_a_run_has_not_is_silent(tmp_path, monkeypatch):
    run = collect.collect(tmp_path, Builder(tmp_path).plan)
    monkeypatch.setattr(plots.importlib, "import_module", lambda name: pytest.fail(name))
    for plot in plots.PLOTS:
        if plot.needs:
            assert plots.draw(plot, run) == style.Drawing(), plot.name


def test_the_list_imports_no_matplotlib():
    code = "import sys, irbench.report.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
