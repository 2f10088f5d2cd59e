"""Every verb is one module of one shape."""

import inspect
import pkgutil
import re
import shlex

import pytest

from irbench import cli
from irbench.cli import leaks

SHARED = {"alone", "names", "common", "output", "results", "work"}


def examples(module):
    """The commands of a module's text, each a list of words without the program's name."""
    text = module.__doc__[module.__doc__.index("Try:"):]
    return [shlex.split(command)[1:] for command in re.findall(r"``(irbench [^`]*)``", text)]


@pytest.mark.parametrize("verb", [*cli.VERBS, leaks], ids=lambda verb: verb.NAME)
def test_a_verb_has_the_shape_of_all(verb):
    assert verb.NAME and verb.HELP
    assert list(inspect.signature(verb.add_options).parameters) == ["parser"]
    assert list(inspect.signature(verb.run).parameters) == ["arguments"]
    found = examples(verb)
    assert len(found) == 2
    for words in found:
        assert words[:2] == ["data", "leak"] if verb is leaks else words[0] == verb.NAME
        assert cli._parser().parse_args(words).call


@pytest.mark.parametrize("verb", cli.VERBS, ids=lambda verb: verb.NAME)
def test_every_help_has_the_two_examples(verb, capsys):
    with pytest.raises(SystemExit):
        cli.main([verb.NAME, "--help"])
    text = capsys.readouterr().out
    shown = [shlex.split(line)[1:] for line in text.partition("examples:\n")[2].splitlines()]
    assert shown == examples(verb)
    assert max(map(len, text.partition("examples:")[0].splitlines())) <= 80


def test_all_modules_are_verbs_but_what_they_share():
    modules = {one.name for one in pkgutil.iter_modules(cli.__path__)}
    verbs = {verb.__name__.rpartition(".")[2] for verb in (*cli.VERBS, leaks)}
    assert modules == verbs | SHARED


# -- the config, by either form ------------------------------------------------------------------

@pytest.mark.parametrize("verb", [
    "run", "status", "plan", "report", "verify", "cite", "train", "eval", "profile"])
def test_the_config_is_a_word_or_an_option(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    more = {"train": ["--protocol", "sr-x2", "--model", "m"],
            "profile": ["--protocol", "sr-x2", "--model", "m"],
            "eval": ["--protocol", "sr-x2", "--model", "m", "--dataset", "d"]}.get(verb, [])
    said = []
    for form in (["no.yaml"], ["--config", "no.yaml"], ["--config=no.yaml"]):
        assert cli.main([verb, *form, *more]) == 2
        said.append(capsys.readouterr().err)
    assert len(set(said)) == 1 and "no.yaml" in said[0]
    with pytest.raises(SystemExit, match="2"):
        cli.main([verb, "no.yaml", "--config", "other.yaml", *more])
    assert "not allowed with" in capsys.readouterr().err
