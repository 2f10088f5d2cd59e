"""The pages as a site: links, navigation, generated pages, and what README promises to be."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from PIL import Image

import irbench
from irbench import cli
from tests.helpers import snippets
from tests.helpers.paths import ROOT

README = (ROOT / "README.md").read_text()
MKDOCS = ROOT / ".venv-docs/bin/mkdocs"     # made by `make docs`


def anchor(heading):
    """The anchor of a heading, as GitHub and MkDocs make it of plain words."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def anchors(path):
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.S | re.M)
    return {anchor(one) for one in re.findall(r"^#+ (.*)$", text, re.M)}


@pytest.mark.parametrize("page", snippets.PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", snippets.prose(page)):
        if "://" in target:
            continue
        file, _, part = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.exists(), f"{page}: {target}"
        # the site holds docs/ alone: MkDocs would find nothing there
        assert not page.startswith("docs/") or (ROOT / "docs") in path.resolve().parents, (
            f"{page}: {target} is not part of the site; name it, or give its full address")
        assert not part or part in anchors(path), f"{page}: {target}"


@pytest.mark.parametrize("page", snippets.PAGES)
def test_tables_are_whole(page):
    for table in re.findall(r"(?:^\|.*\n)+", snippets.prose(page), re.M):
        bars = {len(re.findall(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", line)))
                for line in table.splitlines()}
        assert len(bars) == 1, f"{page}: {table[:200]}"


def nav(entries):
    for entry in entries:
        for value in entry.values():
            yield from nav(value) if isinstance(value, list) else [value]


def test_every_page_is_in_the_navigation():
    given = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    pages = list(nav(given["nav"]))
    assert sorted(pages) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))
    assert given["strict"] is True
    assert f"/{given['site_dir']}/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_page_of_protocols_is_that_of_the_catalog(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert cli.main(["list", "protocols", "--markdown"]) == 0
    assert (ROOT / "docs/protocols.md").read_text() == capsys.readouterr().out, (
        "irbench list protocols --markdown > docs/protocols.md")


def test_only_protocols_have_a_page(capsys):
    assert cli.main(["list", "models", "--markdown"]) == 2
    assert "irbench list protocols --markdown" in capsys.readouterr().err


def test_the_api_page_has_every_public_name():
    shown = re.findall(r"^::: (\S+)$", (ROOT / "docs/api.md").read_text(), re.M)
    assert sorted(shown) == sorted(f"{irbench.HOMES[name]}.{name}" for name in irbench.__all__)


def test_readme_is_short_and_begins_with_a_picture_that_can_be_read():
    assert len(README.splitlines()) <= 150
    pictures = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", README)
    (words, path), *others = pictures
    assert all(len(text) > 40 and (ROOT / file).is_file() for text, file in others)
    assert README.index(path) < README.index("\n## ") and len(words) > 40
    # shown at 830 points: drawn for that width at twice the resolution, with letters of 12 points
    assert Image.open(ROOT / path).size[0] == 2 * 830
    source = (ROOT / path).with_suffix(".py").read_text()
    assert all(int(size) >= 12 for size in re.findall(r"fontsize=(\d+)", source))
    part, = re.findall(r"## Score my model\n(.*?)\n## ", README, re.S)
    code, = re.findall(r"```python\n(.*?)```", part, re.S)
    assert len([line for line in code.splitlines() if line]) <= 10


@pytest.mark.slow   # a network on 512 x 512 pixels
def test_the_picture_is_what_its_script_draws(tmp_path):
    import runpy

    import numpy as np
    import skimage

    draw = runpy.run_path(str(ROOT / "docs/restored.py"))["draw"]
    figure = draw(skimage.data.astronaut())
    figure.savefig(tmp_path / "new.png")
    new, old = (np.asarray(Image.open(path).convert("RGB")).astype(int)
                for path in (tmp_path / "new.png", ROOT / "docs/restored.png"))
    assert new.shape == old.shape
    assert np.abs(new - old).mean() < 1         # other versions draw letters differently


def test_values_of_the_bundled_weights_are_the_same_in_every_table():
    rows = [line for line in README.splitlines() if line.startswith("| `")]
    there = [line for line in (ROOT / "docs/reproduced.md").read_text().splitlines()
             if re.match(r"\| `[a-z_]+-[a-z0-9_]+@\d` \|", line)]
    assert [line for line in there if not line.startswith("| `sr-")] == [
        line for line in rows if "@" in line]
    for place, name in ((3, "Compacter"), (4, "SemanIR-light")):
        row, = (line for line in README.splitlines() if line.startswith(f"| {name}, bundled"))
        expected = []
        for line in there[:3]:
            cells = [cell.strip() for cell in line.split("|")]
            printed = f" ({cells[6]})" if name == "Compacter" else ""
            expected.append(cells[place + 1] + printed)
        assert [cell.strip() for cell in row.split("|")][2:5] == expected


def test_every_verb_has_one_row_with_an_example_that_parses():
    rows = [line.split(" | ") for line in (ROOT / "docs/commands.md").read_text().splitlines()
            if line.startswith("| `irbench")]
    names = [re.match(r"\| `irbench ([a-z]+)", row[0])[1] for row in rows]
    verbs = next(action for action in cli._parser()._actions if action.choices).choices
    assert sorted(names) == sorted(verbs)
    for row in rows:
        command = re.search(r"`irbench ([^`]+)`", row[-1])[1]
        cli._parser().parse_args(command.split())


def test_the_version_is_the_same_in_all_files():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == irbench.__version__
    assert citation["license"] == tomllib.loads((ROOT / "pyproject.toml").read_text())[
        "project"]["license"]
    entry = snippets.block("docs/cite.md", "bibtex")
    assert f"version = {{{irbench.__version__}}}" in entry
    assert citation["title"] in entry and citation["authors"][0]["name"] in entry


def test_the_changelog_keeps_a_changelog():
    text = (ROOT / "CHANGELOG.md").read_text()
    heads = re.findall(r"^## \[?([^\]\n]+)\]?", text, re.M)
    assert heads[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", one) for one in heads[1:])
    kinds = re.findall(r"^### (.*)$", text, re.M)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert irbench.__version__ in text


@pytest.mark.parametrize("path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")),
                         ids=lambda path: path.name)
def test_issue_templates_are_forms_of_github(path):
    form = yaml.safe_load(path.read_text())
    if path.name == "config.yml":
        assert form == {"blank_issues_enabled": True}
        return
    assert {"name", "description", "body"} <= set(form) <= {
        "name", "description", "title", "labels", "body"}
    ids = [one["id"] for one in form["body"]]
    assert len(set(ids)) == len(ids)
    for one in form["body"]:
        assert one["type"] in ("textarea", "input", "dropdown")
        assert one["attributes"]["label"]
        assert ("options" in one["attributes"]) == (one["type"] == "dropdown")


@pytest.mark.slow   # builds the whole site
@pytest.mark.skipif(not MKDOCS.exists() and not shutil.which("mkdocs"),
                    reason="no MkDocs: make docs installs it into .venv-docs")
def test_the_site_is_built_without_a_warning(tmp_path):
    program = str(MKDOCS) if MKDOCS.exists() else shutil.which("mkdocs")
    done = subprocess.run([program, "build", "--strict", "--site-dir", str(tmp_path / "site")],
                          cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    api = (tmp_path / "site/api/index.html").read_text()
    for name in irbench.__all__:
        assert f'id="{irbench.HOMES[name]}.{name}"' in api, name
    python = (tmp_path / "site/python/index.html").read_text()
    assert 'href="../notebook.ipynb" download' in python
    index = json.loads((tmp_path / "site/search/search_index.json").read_text())
    pages = {Path(one["location"].partition("#")[0]).name for one in index["docs"]}
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"} <= pages
