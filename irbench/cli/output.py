"""Files that a person names for a command to write, and the output of ``compare`` and ``check``.

``add_file`` adds such an option. Before a command starts, ``check`` refuses to lose what an option
names by mistake: a config, a catalog, a record, a source or somebody's own text, and the first of
two outputs in one place. ``write_file`` writes.

Try: ``irbench compare results/photos results/photos --format markdown``
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from irbench.catalog import citations
from irbench.core import files
from irbench.core.errors import UserError, refusal
from irbench.core.run_folder import RunFolder
from irbench.present import plain

SUFFIXES = {".md": "markdown", ".json": "json", ".xml": "junit", ".txt": "text"}
RUN = "a run folder, such as results/photos, or a baseline file"
# files that every repository has, whatever their suffix
TEXTS = re.compile(r"(readme|licen[cs]e|copying|notice|changelog|changes|contributing|authors|"
                   r"citation|security|requirements|package|makefile|snakefile|dockerfile|"
                   r"cmakelists)\b", re.IGNORECASE)
CITATIONS = (".bib", ".txt", "")
CATALOGS = {"datasets", "protocols", "recipes", "peers", "published", "rows", "weights"}


# -- options that name a file --------------------------------------------------------------------

@dataclass(frozen=True)
class NamedFile:
    """An option that names a file to write.

    Attributes:
        option: as it is given.
        dest: its name among the parsed arguments.
        suffixes: of the files that it may replace; "" for none.
        content: returns what an existing file is that must not be lost, as the end of a sentence,
            or "" if it may be replaced; default: by its suffix. Raises ValueError if it cannot be
            read.
    """

    option: str
    dest: str
    suffixes: tuple[str, ...]
    content: Callable[[Path], str] | None = None


def add_file(parser: argparse.ArgumentParser, option: str, help: str, suffixes: tuple[str, ...], *,
             group: argparse._ActionsContainer | None = None,
             content: Callable[[Path], str] | None = None, **more: object) -> None:
    """Add an option that names a file to write.

    Args:
        parser: of the verb or its action.
        option: its name, as ``--output``.
        help: what it is for.
        suffixes: of the files that it may replace.
        group: the group of the parser to which it belongs.
        content: see ``NamedFile``.
        more: passed to ``add_argument``.
    """
    added = (group or parser).add_argument(option, type=Path, metavar="FILE", help=help, **more)
    known = parser.get_default("named_files") or ()
    parser.set_defaults(named_files=(*known, NamedFile(option, added.dest, suffixes, content)))


def check(arguments: argparse.Namespace) -> None:
    """Raise UserError if a command would write over a file that is no output of its kind."""
    named = list(_named(arguments))
    for (one, first), (other, second) in itertools.combinations(named, 2):
        if _same(first, second):
            both = (f"{one.option} and {other.option} name" if one is not other else
                    f"{one.option} names twice")
            raise UserError(f"{both} the same file, {first}. Name two.")
    for one, path in named:
        if path.is_dir():
            raise UserError(f"{one.option} {path}: this is a folder; name a file.")
        if held := _held(one, path):
            raise UserError(f"{one.option} {path}: not written, because this file exists and "
                            f"{held}. Name another file, or move this one away.")


def write_file(option: str, path: Path, content: str | bytes) -> None:
    """Write a file that an option names. Raises UserError if that is not possible."""
    try:
        files.write_atomic(path, content)
    except OSError as error:
        raise UserError(f"{option} {path}: not written: {refusal(error)}") from None


def _named(arguments: argparse.Namespace) -> Iterator[tuple[NamedFile, Path]]:
    for one in getattr(arguments, "named_files", ()):
        given = getattr(arguments, one.dest)
        for path in given if isinstance(given, list) else [given]:
            if path is not None:
                yield one, Path(path)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)      # links, and disks that do not tell upper from lower case
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def _held(one: NamedFile, path: Path) -> str:
    """Return what an existing file holds that would be lost, "" if nothing is."""
    if not path.is_file() or not path.stat().st_size:
        return ""
    suffix = path.suffix.lower()
    if suffix not in one.suffixes:
        kinds = ", ".join(filter(None, one.suffixes))
        return f"is none that {one.option} writes ({kinds})"
    if TEXTS.match(path.name):
        return "is a text of a project"
    run = next((folder for folder in path.absolute().parents
                if RunFolder(folder).config.is_file() and RunFolder(folder).plan.is_file()), None)
    if run and suffix != ".log":
        return f"belongs to the run {run.name}"
    held = one.content or CONTENT.get(suffix)
    if held is None:
        return ""
    try:
        return held(path)
    except (OSError, ValueError, UserError) as error:
        return f"cannot be read ({error})"


def _json(path: Path) -> str:
    value = files.read_json(path)
    if not isinstance(value, dict):
        return "is not an output of irbench"
    if "baseline_version" in value:
        return "is a baseline"
    if {"models", "cells"} <= set(value):
        return "is a config"
    if {"kind", "spec"} <= set(value):
        return "is a record"
    return "is a catalog" if CATALOGS & set(value) else ""


def json_or_record(path: Path) -> str:
    """Return what a JSON file is that a record must not replace; another record it may."""
    held = _json(path)
    return "" if held == "is a record" else held


def bibtex(path: Path) -> str:
    """Return which entries of a BibTeX file would be lost."""
    known, text = citations.load()["entries"], files.read_text(path)
    own = [key for key in re.findall(r"^\s*@\w+\s*\{\s*([^,\s]+)", text, re.MULTILINE)
           if key not in known]
    if own:
        return f"holds entries that irbench does not have ({own[0]})"
    comments = rf"\s*(?:{re.escape(citations.USE)}.*\n)?"     # irbench's own
    return "" if re.match(rf"{comments}@", text) else "is not BibTeX"


def _csv(path: Path) -> str:
    head = files.read_text(path).partition("\n")[0]
    return "is a list of files" if re.search(r"\b(sha256|url)\b", head) or (
        head.startswith("#")) else ""


CONTENT: dict[str, Callable[[Path], str]] = {
    ".json": _json, ".bib": bibtex, ".csv": _csv,
    ".tex": lambda path: "is a whole document" * bool(re.search(
        r"\\documentclass|\\begin\{document\}", files.read_text(path))),
    ".html": lambda path: "is a whole page" * bool(re.search(
        "<html|<!doctype", files.read_text(path), re.IGNORECASE)),
    ".xml": lambda path: "is no result of tests" * ("<testsuite" not in files.read_text(path)),
}


# -- compare and check ---------------------------------------------------------------------------

def add_output(parser: argparse.ArgumentParser, formats: tuple[str, ...]) -> None:
    """Add the options of formats and files."""
    parser.add_argument("--format", choices=formats, help="default: text on stdout; for a file, "
                        "from its suffix (.md, .json, .xml, .txt)")
    add_file(parser, "--output", "write a file; may be given more than once", tuple(SUFFIXES),
             action="append", default=[])


def write(arguments: argparse.Namespace, printers: dict, found: object, counts: dict) -> None:
    """Write the requested files; print in the requested format, or text and a line of JSON."""
    named, asked = arguments.output, arguments.format
    formats = {}
    for path in named:                  # check all of them before writing the first
        name = SUFFIXES.get(path.suffix.lower())
        if asked and (name is None or (len(named) == 1 and asked != "github")):
            name = asked
        if name is None:
            raise UserError(f"--output {path}: unknown format. Give --format, or a name ending in "
                            f"{', '.join(SUFFIXES)}.")
        formats[path] = name
    for path, name in formats.items():
        write_file("--output", path, printers[name](found).rstrip("\n") + "\n")
    # GitHub reads annotations from stdout, even if files are written
    name = asked if asked and (not named or asked == "github") else "text"
    text = printers[name](found)
    if name == "json":
        text = plain.compact(json.loads(text))
    try:
        print(text)
        if name == "text":
            print(plain.compact(counts))
        sys.stdout.flush()
    except BrokenPipeError:     # | head: nobody reads a message, but the exit code is kept
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
