"""``irbench data``: list, fetch and check datasets, and search for leaks between them.

Reads   a config, if there is one: its ``data_root``, its ``catalog_paths``, its sets.
Writes  images below ``data_root``; ``fetch`` writes the record of a set of the config's run.

Try: ``irbench data list``
     ``irbench data fetch set5``
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

from tabulate import tabulate

from irbench.cli import common, leaks, work
from irbench.core import messages
from irbench.core.errors import UserError
from irbench.data import check, obtain, sets

NAME = "data"
HELP = "list, fetch and check datasets, search for leaks"
ACTIONS = {
    "list": "show every set of the catalog: task, count, size, origin, local state",
    "fetch": "download and check sets",
    "check": "show what was found of sets, what is missing or broken, and how to get it",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for action, text in ACTIONS.items():
        sub = actions.add_parser(action, help=text, description=text)
        if action == "fetch":
            common.add_run(sub)
            common.add_job(sub, device=False)
        else:
            common.add_config(sub)
            common.add_log(sub)
        sub.add_argument("names", nargs="*", metavar="NAME",
                         help="datasets; default: those of the config"
                         + (", or all of the catalog without a config" if action == "list" else ""))
        if action != "fetch":
            common.add_data_root(sub)
    actions.choices["check"].add_argument(
        "--accept", action="store_true", help="files of a manual or archive set were changed "
        "intentionally; accept its present content")
    leaks.add_options(actions.add_parser(leaks.NAME, help=leaks.HELP, description=leaks.HELP))


def run(arguments: argparse.Namespace) -> int:
    """Do one action; return the exit code."""
    return {"list": _list, "fetch": _fetch, "check": _check,
            leaks.NAME: leaks.run}[arguments.action](arguments)


def _fetch(arguments: argparse.Namespace) -> int:
    if arguments.names and not (arguments.plan or common.has_config(arguments)):
        known, root, _ = common.catalog_of(arguments)
        for entry in common.entries(known, arguments.names):
            _fetch_ahead(entry, root)
        return 0
    planned = common.load_plan(arguments)
    for name in arguments.names or list(planned.data):
        entry = planned.entry(name)
        if name in planned.data:
            work.run_job(arguments, planned, planned.data[name])
        else:  # any set of the catalog can be fetched in advance
            _fetch_ahead(entry, Path(planned.config["data_root"]))
    return 0


def _fetch_ahead(entry: sets.DatasetEntry, root: Path) -> None:
    found = obtain.fetch(entry, root)
    print(json.dumps({"dataset": entry.name, "files": len(found.images)}))


def _list(arguments: argparse.Namespace) -> int:
    known, root, _ = common.catalog_of(arguments)
    lines = []
    for entry in common.entries(known, arguments.names or list(known)):
        count, size = sets.extent(entry, root)
        lines.append([
            entry.name, " ".join(entry.tasks) or "-", entry.use,
            "-" if count is None else f"{count}{' pairs' * (check.unit(entry) == 'pairs')}",
            "-" if size is None else f"{size / 1e6:.1f}", _origin(entry),
            sets.state(entry, root)])
    print(tabulate(lines, ["dataset", "tasks", "use", "count", "MB", "from",
                           f"in {root} (by size)"], disable_numparse=True,
                   colalign=("left", "left", "left", "right", "right", "left", "left")))
    return 0


def _origin(entry: sets.DatasetEntry) -> str:
    """Return the origin of a set in a few words."""
    if entry.kind == "local":
        return f"folder {entry.home}"
    if entry.kind == "manual":
        # irbench data check NAME shows the complete text
        places = re.findall(r"Google Drive|[\w-]+(?:\.[\w-]+)*\.(?:com|org|ca|net|io)\b", entry.get)
        return f"by hand: {places[0]}" if places else "by hand"
    urls = ([archive.url for archive in entry.archives] or
            [row.url for row in sets.manifest(entry)])
    places = dict.fromkeys(f"package {urlsplit(url).netloc}" if url.startswith("package:")
                           else urlsplit(url).netloc or "folder" for url in urls)
    return ", ".join(places) + (" (archive)" if entry.archives else "")


def _check(arguments: argparse.Namespace) -> int:
    messages.log_to(arguments.log)
    known, root, used = common.catalog_of(arguments)
    names = arguments.names or used
    if not names:
        raise UserError("irbench data check: name the sets to check, because there is no "
                        "config.yaml in this folder. irbench data list shows all sets.")
    results = []
    for entry in common.entries(known, names):
        result = check.check(entry, root, arguments.accept)
        results.append(result)
        counts = ", ".join(f"{count} {role}" for role, count in result.found.items()) or "nothing"
        expected = "" if result.expected is None else (
            f", expected {result.expected} {check.unit(entry)}")
        state = "incomplete or changed" if result.problems else "complete"
        messages.say(f"{entry.name}: {state}: found {counts}{expected}")
        for problem in result.problems:
            messages.say(f"  - {problem}")
        if result.problems and result.get:
            messages.say(f"  {result.get}")
    print(json.dumps({"sets": [result.as_dict() for result in results]}))
    return 1 if any(result.problems for result in results) else 0
