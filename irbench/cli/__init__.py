"""The command line: one module per verb. The workflow's rules run the same commands.

The last line on stdout of a verb that does something is one JSON document; messages and progress
go to stderr. Exit codes: 0 done; 1 done, but a problem was found (verify, check); 2 invalid input,
no result; 3 no problem found, but incomplete: some sets could not be compared (data leak, anchors),
nothing could be compared (check, compare, history), or a training was stopped.

Try: ``irbench --help``
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap

from irbench import __version__
from irbench.cli import (
    anchors,
    baseline,
    bench,
    check,
    checkpoints,
    cite,
    compare,
    completion,
    data,
    evaluate,
    explain,
    history,
    info,
    init,
    listing,
    output,
    peers,
    plan,
    profile,
    report,
    restore,
    run,
    score,
    status,
    table,
    train,
    verify,
    work,
)
from irbench.core import messages
from irbench.core.errors import UserError
from irbench.jobs import life

VERBS = (init, run, plan, data, train, evaluate, profile, bench, report, listing, info, status,
         verify, anchors, peers, explain, compare, check, baseline, history, checkpoints, restore,
         score, table, cite, completion)

MAY_BE_EMPTY = ("--snakemake",)
WIDTH = 78      # of a verb's description in its help


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    messages.print_anything()
    parser = _parser()
    if unfinished := _unfinished(parser, argv):
        unfinished.print_help(sys.stderr if argv else sys.stdout)
        return 2 if argv else 0     # a verb without its action is a mistake
    arguments = parser.parse_args(argv)
    arguments.argv, arguments.parser = argv, parser
    life.watch()
    if life.is_watching():
        messages.plain()        # other jobs of the run write to the same terminal

    def call() -> int | None:
        if any("\0" in one for one in argv):    # no system call takes it
            raise UserError("an argument holds the character NUL. Remove it.")
        # "" would mean the current folder where a path is wanted
        if empty := [before for before, one in zip(["", *argv], argv, strict=False)
                     if not one and before not in MAY_BE_EMPTY]:
            raise UserError(f"an argument is empty (after {empty[0]!r}); perhaps a variable of the "
                            "shell is not set. Give a value, or remove it.")
        output.check(arguments)
        return arguments.call(arguments)

    return work.answer(call)


def _unfinished(parser: argparse.ArgumentParser,
                argv: list[str]) -> argparse.ArgumentParser | None:
    """Return the parser that asks for one more word: no verb is given, or a verb has actions."""
    below = next((one for one in parser._actions if isinstance(one, argparse._SubParsersAction)),
                 None)
    if below is None:
        return None
    return _unfinished(below.choices[argv[0]], argv[1:]) if argv and argv[0] in below.choices else (
        None if argv else parser)


def _examples(text: str) -> str:
    """Return the commands of a module's text, as the end of its help."""
    found = re.findall(r"``(irbench [^`]*)``", text.partition("Try:")[2])
    return "\n  ".join(["examples:", *(" ".join(one.split()) for one in found)]) if found else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="irbench", description="Benchmark image restoration and reproduce published values.",
        epilog="Each verb has its own --help, with examples. The whole pipeline: irbench run")
    parser.add_argument("--version", action="version", version=f"irbench {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for verb in VERBS:
        sub = verbs.add_parser(verb.NAME, help=verb.HELP,
                               description=textwrap.fill(verb.HELP, WIDTH),
                               formatter_class=argparse.RawDescriptionHelpFormatter)
        sub.set_defaults(call=verb.run)
        verb.add_options(sub)
        sub.epilog = "\n\n".join(filter(None, [textwrap.fill(sub.epilog or "", WIDTH),
                                               _examples(verb.__doc__ or "")]))
    return parser
