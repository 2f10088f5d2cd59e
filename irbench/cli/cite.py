"""``irbench cite``: what to cite for a run, as BibTeX: models, methods, datasets and metrics.

Reads   a config or a run and its records, and the catalog. Prints BibTeX; ``--output`` writes it.

Try: ``irbench cite results/photos``
     ``irbench cite --all --output refs.bib``
"""

from __future__ import annotations

import argparse
import json

from irbench.catalog import citations
from irbench.cli import common, output
from irbench.core import messages
from irbench.report.facts import citing

NAME = "cite"
HELP = "print what to cite for a run, as BibTeX: models, methods, datasets and metrics"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    common.add_config_or_run_word(parser)
    parser.add_argument("--all", action="store_true", help="print every entry that irbench has")
    output.add_file(parser, "--output", "write this file instead", output.CITATIONS,
                    content=output.bibtex)


def run(arguments: argparse.Namespace) -> int:
    """Print or write the entries; return the exit code."""
    if arguments.all:
        cited = citing.Cited(tuple(sorted(citations.load()["entries"])), ())
    else:
        cited = citing.of_run(common.collected(arguments.run))
    if cited.remark:
        messages.say(cited.remark)
    if not arguments.output:
        print(cited.bibtex, end="")
        return 0
    output.write_file("--output", arguments.output, cited.bibtex)
    print(json.dumps({"citations": str(arguments.output), "entries": len(cited.keys)}))
    return 0
