"""``irbench info``: all details of one name or file, or of this machine, as JSON.

Reads   the catalogs and the config, which may be missing; or a record or checkpoint. ``machine``
        asks nvidia-smi for GPUs: as many jobs of a run use one at once, unless
        ``--resources gpu=N`` says otherwise.

Try: ``irbench info results/photos/cells/sr-x2@2/photos/bicubic.json``
     ``irbench info machine``
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
from pathlib import Path

from irbench.api import references
from irbench.cli import names
from irbench.core import machine, records
from irbench.core.errors import UserError, unknown
from irbench.inference import gpus
from irbench.weights import loading

NAME = "info"
HELP = ("show all details of one model, peer, protocol, dataset, recipe, record or "
        "checkpoint; or of this machine")
MACHINE = "machine"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("name", help=f"a name, or the path of a record or checkpoint; or {MACHINE}")
    names.add_config(parser, "search")


def run(arguments: argparse.Namespace) -> int:
    """Print the details; return the exit code. Raises UserError for an unknown name."""
    path = Path(arguments.name)
    if arguments.name == MACHINE and not path.exists():
        found = _machine()
    elif path.is_file():
        found = records.read(path) if path.suffix == ".json" else loading.describe(path)
    else:
        if _is_path(arguments.name):
            raise _no_file(path)
        known = names.everything(arguments.config)
        # the version of a protocol may be omitted
        newest = {name.rpartition("@")[0]: name for name in known["protocols"]}
        wanted = newest.get(arguments.name, arguments.name)
        found = next((group[wanted] for group in known.values() if wanted in group), None)
        if found is None:
            raise unknown("name", arguments.name, (n for g in known.values() for n in g),
                          shown_by="irbench list")
        if dataclasses.is_dataclass(found):
            found = dataclasses.asdict(found)
    print(json.dumps(found, indent=1, default=str))
    return 0


def _is_path(name: str) -> bool:
    """Return whether a word means a file, not a name of the catalogs."""
    return references.is_path(name) or Path(name).suffix in (".json", ".yaml", ".yml")


def _no_file(path: Path) -> UserError:
    """Build the error for a path that is no file, with those that are like it."""
    if path.is_dir():
        return UserError(f"{path}: a folder. Give the path of a record or checkpoint in it.")
    place = next((one for one in path.parents if one.is_dir()), Path())
    wrong, *rest = path.relative_to(place).parts
    beside = difflib.get_close_matches(wrong, sorted(one.name for one in place.iterdir()))
    near = [str(found) for one in beside if (found := place.joinpath(one, *rest)).is_file()]
    return UserError(f"{path}: no such file." + (f" Did you mean {' or '.join(near)}?" if near else
                     " Give the path of a record or checkpoint, or a name (irbench list)."))


def _machine() -> dict:
    """Return what this machine offers to jobs: cores, memory and GPUs.

    ``cores`` are those that this process may use; ``usable`` names the GPUs that it may use.
    """
    known = machine.provenance()
    return {**{name: known["hardware"][name] for name in ("platform", "cpu", "memory_bytes")},
            "cores": machine.usable_cores(), "python": known["python"],
            "gpus": [dataclasses.asdict(gpu) for gpu in gpus.installed()],
            "usable": list(gpus.find())}
