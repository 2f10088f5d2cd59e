"""``irbench data``: list, fetch and check datasets, and look for leaks between them.

Reads   a config, if there is one: its ``data_root``, its ``catalog_paths``, its sets.
Writes  images below ``data_root``; ``fetch`` writes the record of a set of the config's run.

Try: ``irbench data list``
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from irbench.errors import UserError

ACTIONS = ("list", "fetch", "check", "leak")


def add_options(sub) -> None:
    """Add the verb's own arguments to its parser."""
    sub.add_argument("action", choices=ACTIONS)
    sub.add_argument("names", nargs="*", metavar="NAME",
                     help="datasets; default: those of the config (list: all of the catalog)")
    sub.add_argument("--data-root", metavar="FOLDER",
                     help="list and check: where the data lie; default: the config's, or data")
    sub.add_argument("--accept", action="store_true",
                     help="check: files of a manual or archive set were changed on purpose; hold "
                          "the set to what is here now")
    for use in ("train", "test"):
        sub.add_argument(f"--{use}", nargs="+", metavar="NAME",
                         help=f"leak: {use} sets to compare; default: those of the config")


def run(arguments, run_job: Callable) -> int:
    """Do one action; return the exit code. ``run_job`` does a job and writes its record."""
    if arguments.accept and arguments.action != "check":
        raise UserError("--accept goes with: irbench data check NAME")
    if arguments.action == "leak":
        from irbench import leaks

        return leaks.command(arguments, run_job)
    if arguments.action == "fetch":
        return _fetch(arguments, run_job)
    return {"list": _list, "check": _check}[arguments.action](arguments)


def _fetch(arguments, run_job: Callable) -> int:
    from irbench import datasets, plan, records

    loaded = plan.load(arguments.config)
    root = Path(loaded.config["data_root"])
    for name in arguments.names or list(loaded.data):
        entry = loaded.entry(name)
        if name not in loaded.data:  # any set of the catalog can be fetched ahead
            found = datasets.fetch(entry, root)
            print(json.dumps({"dataset": name, "files": len(found.images)}))
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


# -- without a run -----------------------------------------------------------------------------

def catalog_of(arguments) -> tuple[dict, Path, list[str]]:
    """Return the catalog, the folder of all data and the config's sets; a config is no must."""
    from irbench import config as configs
    from irbench import datasets

    # the default config need not be there; another one must be
    if arguments.config == "config.yaml" and not Path("config.yaml").is_file():
        settings = {"catalog_paths": [], "data_root": "data", "cells": [], "models": {}}
    else:
        settings = configs.load(arguments.config)
    root = Path(arguments.data_root or settings["data_root"])
    known = datasets.catalog(settings["catalog_paths"], root)
    used = [name for group in settings["cells"] for name in group["datasets"]]
    used += [name for model in settings["models"].values()
             for name in (model.get("training") or {}).get("data", [])]
    return known, root, list(dict.fromkeys(used))


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
    print(tabulate(lines, ["dataset", "tasks", "use", "count", "MB", "from", f"in {root}"],
                   disable_numparse=True,
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
