"""Options of verbs that also work without a config: ``eval`` and ``profile``.

With any of them ``config.yaml`` is not read.

Try: ``irbench eval --help``
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from irbench.api import references
from irbench.cli import common
from irbench.core.errors import UserError
from irbench.plan import single

OPTIONS = ("weights", "options", "metrics", "catalog", "data_root", "height", "width")


def add_no_config(parser: argparse.ArgumentParser) -> None:
    """Add the option that asks for no config."""
    parser.add_argument("--no-config", action="store_true",
                        help=f"do without a config although there is a {common.CONFIG}")


def add_options(parser: argparse.ArgumentParser, weights: str) -> argparse._ArgumentGroup:
    """Add the options that say what a config would say; return their group.

    ``weights``: the help of ``--weights``.
    """
    alone = parser.add_argument_group(
        "without a config", f"With any of these options {common.CONFIG} is not read.")
    alone.add_argument("--weights", metavar="FILE", help=weights)
    common.add_model_options(alone)
    alone.add_argument("--catalog", metavar="FILE", action="append", default=[],
                       help="your own datasets and protocols; may be given more than once")
    common.add_data_root(alone)
    return alone


def wanted(arguments: argparse.Namespace) -> bool:
    """Return whether no config is to be read; raise UserError if that is unclear."""
    given = reasons(arguments)
    named = arguments.plan or arguments.config != common.CONFIG
    if given and named:
        raise UserError(f"{given[0]} goes without a config, but "
                        f"{'--plan' if arguments.plan else '--config'} names one. Omit one of "
                        "them; a config has keys for the same: plugins, checkpoint, options, "
                        "metrics, profile, catalog_paths, data_root.")
    return bool(given) or not (named or common.has_config(arguments))


def reasons(arguments: argparse.Namespace) -> list[str]:
    """Return the given options that mean that no config is read."""
    models = arguments.model if isinstance(arguments.model, list) else [arguments.model]
    return [*(["--no-config"] if arguments.no_config else []),
            *(f"--model {model}" for model in models if references.is_path(model)),
            *(f"--{name.replace('_', '-')}" for name in OPTIONS if getattr(arguments, name, None))]


def explained(arguments: argparse.Namespace, error: UserError) -> UserError:
    """Return an error with options in place of Python's arguments.

    If a name is unknown that a config may define, it says first that none was read, and why: a list
    of valid names is long.
    """
    text, why = str(error), reasons(arguments)
    if text.partition(": ")[0] in single.ARGUMENTS:
        text = f"--{text}"
    if (why and not arguments.no_config and Path(common.CONFIG).is_file()
            and re.search(r"\bunknown (model|dataset|protocol|metric) ", text)):
        text = (f"{common.CONFIG} was not read, because of {' and '.join(why)}: {text} To use what "
                f"{common.CONFIG} defines, omit {' and '.join(why)}.")
    return type(error)(text)
