"""``irbench list``: all models, peers, protocols, datasets, recipes, metrics, published methods.

Reads   the catalogs and the config, which may be missing.

Try: ``irbench list metrics``
     ``irbench list protocols --markdown``
"""

from __future__ import annotations

import argparse

from irbench.catalog import published
from irbench.cli import names
from irbench.core.errors import UserError
from irbench.present import protocol_page

NAME = "list"
HELP = "list models, peers, protocols, datasets, recipes, metrics and published methods"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("what", nargs="?", metavar="WHAT",
                        choices=["models", "peers", "protocols", "datasets", "recipes", "metrics",
                                 "published"],
                        help="%(choices)s; default: all")
    names.add_config(parser, "list")
    parser.add_argument("--markdown", action="store_true", help="for protocols: a page of tables "
                        "with every convention, as in the documentation")


def run(arguments: argparse.Namespace) -> int:
    """Print the requested lists; return the exit code. Raises UserError for other pages."""
    known = names.everything(arguments.config)
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
        if group == "published" and any(name.endswith("*") for name in known[group]):
            print(f"  * {published.ONE_MODEL};\n    irbench table --rows "
                  "takes the name without it, if no other method has it")
    return 0
