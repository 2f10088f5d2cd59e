"""``irbench list``: all models, peers, protocols, datasets, recipes and metrics available.

Reads   the catalogs, and a config if one is given.

Try: ``irbench list metrics``
     ``irbench list models --config config.yaml``
"""

from __future__ import annotations

import argparse

from irbench.cli import common

NAME = "list"
HELP = "list models, peers, protocols, datasets, recipes and metrics"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("what", nargs="?",
                        choices=["models", "peers", "protocols", "datasets", "recipes", "metrics"])
    parser.add_argument("--config", help="also list what this config adds")


def run(arguments: argparse.Namespace) -> int:
    """Print the requested lists; return the exit code."""
    known = common.everything(arguments.config)
    for group in [arguments.what] if arguments.what else known:
        print(f"{group}:")
        width = max(map(len, known[group]))
        for name, entry in known[group].items():
            title = entry["note"] if isinstance(entry, dict) else str(
                getattr(entry, "summary", entry.title))
            print(f"  {name:<{width}}  {title}")
    return 0
