"""Output of ``compare`` and ``check``: the formats they print and the files they write.

Try: ``irbench compare results/photos results/photos --format markdown``
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from irbench.core.errors import UserError
from irbench.core.files import write_atomic
from irbench.present import plain

SUFFIXES = {".md": "markdown", ".json": "json", ".xml": "junit", ".txt": "text"}
RUN = "a run folder, such as results/photos, or a baseline file"


def add_output(parser: argparse.ArgumentParser, formats: tuple[str, ...]) -> None:
    """Add the options of formats and files."""
    parser.add_argument("--format", choices=formats, help="default: text on stdout; for a file, "
                        "from its suffix (.md, .json, .xml, .txt)")
    parser.add_argument("--output", metavar="FILE", type=Path, action="append", default=[],
                        help="write a file; may be given more than once")


def write(arguments: argparse.Namespace, printers: dict, found: object, counts: dict) -> None:
    """Write the requested files; print in the requested format, or text and a line of JSON."""
    files, asked = arguments.output, arguments.format
    formats = {}
    for path in files:                  # check all of them before writing the first
        if path.is_dir():
            raise UserError(f"--output {path}: this is a folder; name a file.")
        name = SUFFIXES.get(path.suffix.lower())
        if asked and (name is None or (len(files) == 1 and asked != "github")):
            name = asked
        if name is None:
            raise UserError(f"--output {path}: unknown format. Give --format, or a name ending in "
                            f"{', '.join(SUFFIXES)}.")
        formats[path] = name
    for path, name in formats.items():
        try:
            write_atomic(path, printers[name](found).rstrip("\n") + "\n")
        except OSError as error:
            raise UserError(f"--output {path}: not written: {error.strerror}.") from None
    # GitHub reads annotations from stdout, even if files are written
    name = asked if asked and (not files or asked == "github") else "text"
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
