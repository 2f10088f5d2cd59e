"""The blocks of each page run in order, in a folder with a run and some pictures.

A page's Python shares one namespace; files that it shows are written; what is printed below a
command must be what the command prints.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from irbench import cli, plan
from irbench.imaging.images import write_png
from irbench.plan import file
from tests.helpers import snippets, tiny
from tests.helpers.paths import ROOT

LINKED = ("Snakefile", "workflow", "profiles", "baselines", "benchmarks", "irbench", "tests")
# their commands run here; their Python and YAML are tested in test_examples
EXAMPLES = {"docs/my-data.md", "docs/my-model.md", "docs/cost.md", "docs/metrics.md"}
# each is a world of its own, with a test that runs all its blocks
GUIDES = {"docs/own-table.md": "test_own_table.py", "docs/own-task.md": "test_own_task.py",
          "docs/real-noise.md": "test_real_noise.py", "docs/paper-table.md": "test_paper_table.py"}


def runs(one):
    return not one.not_run and one.page not in GUIDES and (one.language in snippets.SHELLS or (
        one.language == "python" and one.page not in EXAMPLES))


PAGES = [page for page in snippets.PAGES if any(map(runs, snippets.of_page(page)))]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder like a checkout after a run of one cell, with photographs, results and targets."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "config.yaml", folder)
    (folder / "docs").mkdir()
    for i in range(2):
        picture = tiny.photo(i, 48, 40)
        write_png(folder / f"photos/street{i}.png", picture[:24, :20])
        write_png(folder / f"targets/img{i}.png", picture)
        for name in (f"results/img{i}.png", f"results_x4/img{i}_x4.png"):
            write_png(folder / name, picture // 2 + 50)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cell = ["--protocol", "sr-x2", "--dataset", "photos", "--model", "bicubic"]
        assert cli.main(["eval", *cell]) == 0
        file.write(plan.load("config.yaml"))
        shutil.copytree("results/photos", "results/before")
    return folder


@pytest.fixture
def folder(checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    monkeypatch.syspath_prepend(checkout)       # as in a notebook or `python -c`
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield checkout
    torch.set_num_threads(before)


def shell(snippet, folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT),
                   "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-e", "-c", snippet.text], cwd=folder, env=environment,
                          capture_output=True, text=True, timeout=500)
    assert done.returncode == snippet.exit_code, (
        f"{snippet.where}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def expected(text):
    """What a block of output shows, as a pattern; ``...`` stands for anything."""
    return ".*".join(map(re.escape, re.split(r"\.\.\.", text.rstrip("\n"))))


@pytest.mark.slow   # commands start Python again and again
@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run_in_order(page, folder):
    names, printed = {"__name__": page}, None
    for one in snippets.of_page(page):
        if one.language == "text" and one.follows and printed is not None:
            assert re.search(expected(one.text), printed, re.S), f"{one.where}\n{printed}"
        printed = None
        if one.file and one.page not in EXAMPLES:
            (folder / one.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / one.file).write_text(one.text)
        elif runs(one) and one.language == "python":
            exec(compile(one.text, one.where, "exec"), names)
        elif runs(one):
            printed = shell(one, folder)
    check = CHECKS.get(page)
    if check:
        check(names, folder)


def python_page(names, folder):
    assert names["restored"].shape == (64, 96, 3)
    text = (ROOT / "docs/python.md").read_text()
    printed = re.search(r"print\(result\) +# (.*?), \.\.\.", text)[1]
    assert str(names["result"]).startswith(printed)
    assert names["mine"].complete and names["mine"].mean["psnr"] is not None
    assert len(names["run"].cells) and len(names["run"].images) == 4


def readme(names, folder):
    assert names["result"].complete and names["result"].mean["psnr"] > 25


def restore_page(names, folder):
    assert {path.name for path in (folder / "restored").iterdir()} == {
        "street0.png", "street1.png"}
    assert (folder / "scores.json").exists() and (folder / "scores.csv").exists()


def contributing(names, folder):
    assert (folder / "docs/protocols.md").read_text() == (ROOT / "docs/protocols.md").read_text()


CHECKS = {"docs/python.md": python_page, "README.md": readme, "docs/restore.md": restore_page,
          "CONTRIBUTING.md": contributing}


def test_every_page_with_commands_is_run_or_says_why_not():
    """Nothing is left out in silence: a page that does not run has only marked blocks, or tests."""
    for page in snippets.PAGES:
        for one in snippets.of_page(page):
            if one.language in snippets.SHELLS:
                assert page in PAGES or page in GUIDES or one.not_run
            if one.language == "python":
                assert page in PAGES or page in EXAMPLES or page in GUIDES
    tests = {**dict.fromkeys(EXAMPLES, "docs/test_examples.py"), **GUIDES}
    for page, test in tests.items():
        assert Path(page).name in (ROOT / "tests" / test).read_text(), "a test that reads the page"
