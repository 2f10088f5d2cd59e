"""``irbench list``: all models, peers, protocols, datasets, recipes and metrics available.

Reads   the catalogs, and a config if one is given.

Try: ``irbench list metrics``
     ``irbench list protocols --markdown``
"""

from __future__ import annotations

import argparse

from irbench.cli import common
from irbench.core.errors import UserError
from irbench.present import protocol_page

NAME = "list"
HELP = "list models, peers, protocols, datasets, recipes and metrics"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("what", nargs="?",
                        choices=["models", "peers", "protocols", "datasets", "recipes", "metrics"])
    parser.add_argument("--config", help="also list what this config adds")
    parser.add_argument("--markdown", action="store_true", help="for protocols: a page of tables "
                        "with every convention, as in the documentation")


def run(arguments: argparse.Namespace) -> int:
    """Print the requested lists; return the exit code. Raises UserError for other pages."""
    known = common.everything(arguments.config)
    if arguments.markdown:
        if arguments.what != "protocols":
            raise UserError("--markdown is for protocols: irbench list protocols --markdown")
        print(protocol_page.page(known["protocols"].values()), end="")
        return 0
    for group in [arguments.what] if arguments.what else known:
        print(f"{group}:")
        width = max(map(len, known[group]))
        for name, entry in known[group].items():
            title = entry["note"] if isinstance(entry, dict) else str(
                getattr(entry, "summary", entry.title))
            print(f"  {name:<{width}}  {title}")
    return 0
