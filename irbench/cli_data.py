"""``irbench data``: list, fetch and check datasets, and look for leaks between them.

Reads   a config, if there is one: its ``data_root``, its ``catalog_paths``, its sets.
Writes  images below ``data_root``; ``fetch`` writes the record of a set of the config's run.

Try: ``irbench data list``
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from irbench import cli_leak
from irbench.errors import UserError

ACTIONS = {
    "list": "show every set of the catalog: task, count, size, where from, state here",
    "fetch": "download and check sets",
    "check": "say what is found of sets, what is missing or broken, and how to get it",
    "leak": "look for images of test sets among those trained on; exit code 1: some were, "
            "3: none was found, but not all could be compared",
}


def add_options(verb, job_options: Callable) -> None:
    """Add the verb's actions to its parser; ``job_options`` adds what every job takes."""
    actions = verb.add_subparsers(dest="action", metavar="ACTION", required=True)
    for action, text in ACTIONS.items():
        sub = actions.add_parser(action, help=text, description=text)
        sub.add_argument("--config", default="config.yaml", help="default: %(default)s")
        if action in ("fetch", "leak"):
            job_options(sub, device=False)
        else:
            sub.add_argument("--log", help="also write messages to this file")
        if action != "leak":
            sub.add_argument("names", nargs="*", metavar="NAME",
                             help="datasets; default: those of the config"
                             + (", without one all of the catalog" if action == "list" else ""))
        if action != "fetch":
            sub.add_argument("--data-root", metavar="FOLDER",
                             help="where the data lie; default: the config's, or data")
    sub = actions.choices["check"]
    sub.add_argument("--accept", action="store_true",
                     help="files of a manual or archive set were changed on purpose; hold the set "
                          "to what is here now")
    cli_leak.add_options(actions.choices["leak"])


def run(arguments, run_job: Callable) -> int:
    """Do one action; return the exit code. ``run_job`` does a job and writes its record."""
    if arguments.action == "leak":
        return cli_leak.run(arguments, run_job)
    if arguments.action == "fetch":
        return _fetch(arguments, run_job)
    return {"list": _list, "check": _check}[arguments.action](arguments)


def _fetch(arguments, run_job: Callable) -> int:
    from irbench import datasets, plan, records

    if arguments.names and not _has_config(arguments):
        known, root, _ = catalog_of(arguments)
        for entry in _entries(known, arguments.names):
            _fetch_ahead(entry, root)
        return 0
    loaded = plan.load(arguments.config)
    root = Path(loaded.config["data_root"])
    for name in arguments.names or list(loaded.data):
        entry = loaded.entry(name)
        if name not in loaded.data:  # any set of the catalog can be fetched ahead
            _fetch_ahead(entry, root)
            continue
        job = loaded.data[name]

        def work(entry=entry, job=job) -> dict:
            phases = records.Phases()
            with phases("fetch"):
                found = datasets.fetch(entry, root)
            if job.spec["dataset"]["sha256"] is None:
                # only now is it known what the set holds
                job = plan.load(arguments.config).data[entry.name]
            images = found.role("input" if entry.paired else "hr")
            return records.make(
                "data", job.key, job.spec, seconds=phases.seconds,
                result={"count": len(images), "sha256": datasets.digest(entry),
                        "bytes": sum(item.bytes for item in found.images),
                        "images": [item.name for item in images]})

        run_job(arguments, job, work)
    return 0


def _fetch_ahead(entry, root: Path) -> None:
    from irbench import datasets

    found = datasets.fetch(entry, root)
    print(json.dumps({"dataset": entry.name, "files": len(found.images)}))


# -- without a run -----------------------------------------------------------------------------

def _has_config(arguments) -> bool:
    """Say whether there is a config: the default one need not be there, another one must be."""
    return arguments.config != "config.yaml" or Path("config.yaml").is_file()


def catalog_of(arguments) -> tuple[dict, Path, list[str]]:
    """Return the catalog, the folder of all data and the config's sets; a config is no must."""
    from irbench import config as configs
    from irbench import datasets

    if _has_config(arguments):
        settings = configs.load(arguments.config)
    else:
        settings = {"catalog_paths": [], "data_root": "data", "cells": [], "models": {}}
    root = Path(getattr(arguments, "data_root", None) or settings["data_root"])
    known = datasets.catalog(settings["catalog_paths"], root)
    used = [name for group in settings["cells"] for name in (*group["datasets"],
                                                             *_trained(settings, group))]
    return known, root, list(dict.fromkeys(used))


def _trained(settings: dict, group: dict) -> Iterable[str]:
    """Yield the sets that the models of a group of cells are trained on; recipes may choose them.

    Unlike the plan this looks at no set: a broken one can be checked.
    """
    from irbench import protocols
    from irbench.training import recipe

    protocol = None
    for name in group["models"]:
        entry = settings["models"].get(name) or {}
        if entry.get("training"):
            protocol = protocol or protocols.get(group["protocol"],
                                                 tuple(settings["catalog_paths"]))
            yield from recipe.fit(recipe.resolve(entry["training"], f"models.{name}.training"),
                                  entry.get("arch", name), protocol)["data"]


def _entries(known: dict, names: list[str]) -> list:
    from irbench.errors import unknown

    for name in names:
        if name not in known:
            raise unknown("dataset", name, known)
    return [known[name] for name in names]


def _list(arguments) -> int:
    from tabulate import tabulate

    from irbench import datasets

    known, root, _ = catalog_of(arguments)
    lines = []
    for entry in _entries(known, arguments.names or list(known)):
        count, size = datasets.extent(entry, root)
        lines.append([
            entry.name, " ".join(entry.tasks) or "-", entry.use,
            "-" if count is None else f"{count}{' pairs' if entry.paired else ''}",
            "-" if size is None else f"{size / 1e6:.1f}", _origin(entry),
            datasets.state(entry, root)])
    print(tabulate(lines, ["dataset", "tasks", "use", "count", "MB", "from",
                           f"in {root} (by size)"], disable_numparse=True,
                   colalign=("left", "left", "left", "right", "right", "left", "left")))
    return 0


def _origin(entry) -> str:
    """Say in a few words where a set comes from."""
    from urllib.parse import urlsplit

    from irbench import datasets

    if entry.kind == "local":
        return f"folder {entry.home}"
    if entry.kind == "manual":
        # all of it: irbench data check NAME
        places = re.findall(r"Google Drive|[\w-]+(?:\.[\w-]+)*\.(?:com|org|ca|net|io)\b", entry.get)
        return f"by hand: {places[0]}" if places else "by hand"
    urls = ([archive.url for archive in entry.archives] or
            [row.url for row in datasets.manifest(entry)])
    places = dict.fromkeys(f"package {urlsplit(url).netloc}" if url.startswith("package:")
                           else urlsplit(url).netloc or "folder" for url in urls)
    return ", ".join(places) + (" (archive)" if entry.archives else "")


def _check(arguments) -> int:
    from irbench import datacheck, progress

    progress.log_to(arguments.log)
    known, root, used = catalog_of(arguments)
    names = arguments.names or used
    if not names:
        raise UserError("irbench data check: name the sets to check; there is no config.yaml here "
                        "that names some. irbench data list shows all.")
    results = []
    for entry in _entries(known, names):
        result = datacheck.check(entry, root, arguments.accept)
        results.append(result)
        counts = ", ".join(f"{count} {role}" for role, count in result.found.items()) or "nothing"
        expected = "" if result.expected is None else (
            f", expected {result.expected} {datacheck.unit(entry)}")
        state = "incomplete or changed" if result.problems else "complete"
        progress.say(f"{entry.name}: {state}: found {counts}{expected}")
        for problem in result.problems:
            progress.say(f"  - {problem}")
        if result.problems:
            progress.say(f"  {result.get}")
    print(json.dumps({"sets": [result.as_dict() for result in results]}))
    return 1 if any(result.problems for result in results) else 0
