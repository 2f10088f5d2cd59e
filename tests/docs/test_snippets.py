"""Every command and snippet of the documentation is parsed and checked; see test_pages_run, too."""

import argparse
import ast
import contextlib
import functools
import re

import pytest
import yaml
from snakemake.cli import get_argument_parser

from irbench.catalog import peers, protocols, published, recipes
from irbench.cli import _parser
from irbench.data import sets
from irbench.models import registry
from irbench.plan import config
from irbench.weights import bundled
from tests.helpers import snippets
from tests.helpers.paths import ROOT

LANGUAGES = ("console", "bash", "python", "yaml", "text", "bibtex", "latex")
SECTIONS = {"datasets": sets.catalog, "protocols": protocols.catalog, "recipes": recipes.catalog,
            "peers": peers.catalog, "published": published.of_users}    # of a catalog
COMMANDS = [(one, words) for one in snippets.everywhere(*snippets.SHELLS)
            for words in one.commands]
# in blocks that are not run, which give the reason
LEFT_TO_THE_SHELL = {"source", "pip", "cd", "cp", "jupyter"}


def of_pages(*languages):
    return pytest.mark.parametrize("snippet", [
        pytest.param(one, id=one.where) for one in snippets.everywhere(*languages)])


def page_yaml(page):
    """What the catalogs and configs of a page define, in one mapping."""
    found = {}
    for one in snippets.of_page(page):
        if one.language == "yaml":
            for key, value in yaml.safe_load(one.text).items():
                if isinstance(value, dict):
                    found.setdefault(key, {}).update(value)
    return found


@pytest.mark.parametrize("page", snippets.PAGES)
def test_blocks_are_of_a_language_that_is_checked_and_marks_are_above_blocks(page):
    found = snippets.of_page(page)
    assert {one.language for one in found} <= set(LANGUAGES), page
    marks = [line for line in snippets.prose(page).splitlines() if "<!--" in line]
    marked = [one for one in found if one.not_run or one.exit_code]
    assert len(marks) == len(marked), f"{page}: a comment that marks no block: {marks}"
    assert all(one.language in snippets.SHELLS for one in marked)
    assert all(len(one.not_run.split()) > 2 for one in found if one.not_run), "a reason, please"


@pytest.mark.parametrize(("snippet", "words"), [
    pytest.param(one, words, id=f"{one.where} {' '.join(words[:3])}") for one, words in COMMANDS])
def test_a_command_is_one_that_exists(snippet, words):
    program, *arguments = words
    check = {"irbench": irbench_command, "snakemake": snakemake_command, "make": make_command,
             "pytest": files_of, "python": files_of, "ruff": files_of}.get(program)
    if check is None:
        assert snippet.not_run and program in LEFT_TO_THE_SHELL, f"{snippet.where}: {program}"
    else:
        check(snippet, arguments)


def irbench_command(snippet, arguments):
    arguments = numbers(arguments)
    given = parsed(arguments[:arguments.index(">")] if ">" in arguments else arguments)
    own = page_yaml(snippet.page)
    known = {
        "protocol": {*names_of_protocols(), *map(protocols.name_of, own.get("protocols", {}))},
        "dataset": {*sets.catalog(), *own.get("datasets", {})},
        "model": {*default_models(), *registry.cards(), *peer_names(), *own.get("models", {}),
                  *models_of(getattr(given, "config", None))}}
    for option, names in known.items():
        value = getattr(given, option, None)
        if isinstance(value, str) and not re.search(r"[./]", value):
            assert value.partition("@")[0] in names, f"{snippet.where}: {value}"
    files_of(snippet, arguments)


def parsed(arguments):
    try:
        return _parser().parse_args(arguments)
    except SystemExit:
        pytest.fail(f"irbench {' '.join(arguments)}: refused by the command line")


@functools.cache
def names_of_protocols():
    """Names of protocols, and those of blind trainings: denoise_color-blind."""
    return {*map(protocols.name_of, protocols.catalog()),
            *(f"{one.task}-blind" for one in protocols.catalog().values())}


def models_of(path):
    """Names of models of a config of this checkout; none for a config that is an example."""
    config = ROOT / str(path)
    return yaml.safe_load(config.read_text())["models"] if path and config.is_file() else {}


@functools.cache
def default_models():
    return set(config.load(ROOT / "config.yaml")["models"])


@functools.cache
def peer_names():
    return {*peers.catalog(), *(one.arch for one in bundled.catalog().values())}


def numbers(arguments):
    """The arguments with a number for each variable of the shell."""
    return [re.sub(r"^\$.*", "4", word) for word in arguments]


def snakemake_command(snippet, arguments):
    with contextlib.suppress(SystemExit):
        plain = numbers(arguments)
        if "--executor" in plain:       # its choices are the plugins that are installed
            assert snippet.not_run
            del plain[(place := plain.index("--executor")):place + 2]
        get_argument_parser().parse_args(plain)
        return files_of(snippet, arguments)
    pytest.fail(f"{snippet.where}: snakemake refuses {arguments}")


def make_command(snippet, arguments):
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    assert arguments and set(arguments) <= set(targets), snippet.where


def files_of(snippet, arguments):
    """Paths below the repository's own folders exist."""
    for word in arguments:
        if re.match(r"(workflow|baselines|benchmarks|tests|profiles|docs|irbench)/", word):
            assert (ROOT / word).exists(), f"{snippet.where}: {word}"


@of_pages("python")
def test_python_is_python(snippet):
    ast.parse(snippet.text)


@of_pages("yaml")
def test_yaml_is_a_config_a_catalog_or_a_workflow(snippet, tmp_path):
    given = yaml.safe_load(snippet.text)
    if "jobs" in given:
        return          # tests/workflow/test_action.py reads it
    if set(given) <= set(SECTIONS):
        (tmp_path / "catalog.yaml").write_text(snippet.text)
        for section in given:
            assert SECTIONS[section]((str(tmp_path / "catalog.yaml"),))
        return
    whole = {"run": "example", "models": {"input": None}, "cells": [
        {"protocol": "sr-x2", "datasets": ["photos"], "models": ["input"]}]}
    config.check({**whole, **given}, snippet.where)


@pytest.mark.parametrize("page", snippets.PAGES)
def test_commands_in_sentences_name_verbs_and_options_that_exist(page):
    verbs = next(action for action in _parser()._actions if action.choices).choices
    for code in snippets.inline(page):
        match = re.match(r"irbench ([a-z]+)\b", code)
        if not match:
            continue
        assert match[1] in verbs, f"{page}: {code}"
        parsers = [verbs[match[1]]]
        for action in parsers[0]._actions:
            if isinstance(action, argparse._SubParsersAction):      # data fetch, peers verify, ...
                parsers += action.choices.values()
        known = {option for one in parsers for option in one._option_string_actions}
        assert set(re.findall(r"(?<=\s)--[a-z-]+", code)) <= known, f"{page}: {code}"


@pytest.mark.parametrize("page", snippets.PAGES)
def test_files_named_in_sentences_exist(page):
    for code in snippets.inline(page):
        if re.fullmatch(r"(irbench|workflow|tests|benchmarks|profiles|baselines|docs)/[\w./-]*",
                        code):
            assert (ROOT / code).exists(), f"{page}: {code}"
