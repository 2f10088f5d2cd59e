"""``irbench init``: a config and a model of your own to start from; both work as they are.

Writes  ``config.yaml`` and ``my_model.py`` into a folder; existing files are never replaced.

Try: ``irbench init``
     ``irbench init my-benchmark``
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
from pathlib import Path

from irbench.cli import common
from irbench.core import messages
from irbench.core.errors import UserError
from irbench.core.files import expanded, write_atomic

NAME = "init"
HELP = "write a commented config and a model to start from"
TEMPLATES = Path(__file__).parent / "templates"
# the ending keeps the model's template from counting as a module of irbench
FILES = {common.CONFIG: "config.yaml", "my_model.py": "my_model.py.txt"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("folder", nargs="?", default=".", metavar="DIR",
                        help="where to write; default: the current folder")


def run(arguments: argparse.Namespace) -> int:
    """Write the files; return the exit code."""
    folder = expanded(arguments.folder)
    # a link to a file that does not exist is something, too
    if taken := [name for name in FILES if os.path.lexists(folder / name)]:
        raise UserError(f"{folder / taken[0]} exists already; nothing was written. Name another "
                        "folder, or move the file away.")
    for name, template in FILES.items():
        write_atomic(folder / name, (TEMPLATES / template).read_text(encoding="utf-8"))
    here = folder.resolve() == Path.cwd()
    name = f"{'./' * str(folder).startswith('-')}{folder}"      # "cd -" is the folder before
    messages.say(f"Run it: {'' if here else f'cd {shlex.quote(name)} && '}irbench run")
    print(json.dumps({"written": [str(folder / name) for name in FILES]}))
    return 0
