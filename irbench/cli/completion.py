"""``irbench completion``: completion of verbs and options by the Tab key of a shell.

Prints a script for the shell, made by the package shtab (``pip install shtab``). It completes
without starting irbench; ``eval "$(irbench completion bash)"`` reads it into bash. Reads and writes
nothing.

Try: ``irbench completion bash``
     ``irbench completion zsh``
"""

from __future__ import annotations

import argparse

from irbench.core.errors import UserError

NAME = "completion"
HELP = "print a script that makes a shell complete verbs and options"
SHELLS = ("bash", "zsh")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("shell", choices=SHELLS)


def run(arguments: argparse.Namespace) -> int:
    """Print the script; return the exit code."""
    try:
        import shtab
    except ImportError:
        raise UserError("completion needs the package shtab, which is not installed. "
                        "pip install shtab, then run the same command again.") from None
    print(shtab.complete(arguments.parser, arguments.shell))
    return 0
