"""``irbench info``: all details of one name or file, or of this machine, as JSON.

Reads   the catalogs, and a config if one is given; or a record or checkpoint. ``machine`` asks
        nvidia-smi for GPUs: as many jobs of a run use one at once, unless ``--resources gpu=N``
        says otherwise.

Try: ``irbench info results/photos/cells/sr-x2@1/photos/bicubic.json``
     ``irbench info machine``
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from irbench.cli import common
from irbench.core import machine, records
from irbench.core.errors import unknown
from irbench.inference import gpus
from irbench.weights import loading

NAME = "info"
HELP = ("show all details of one model, peer, protocol, dataset, recipe, record or "
        "checkpoint; or of this machine")
MACHINE = "machine"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("name", help=f"a name, or the path of a record or checkpoint; or {MACHINE}")
    parser.add_argument("--config", help="also search what this config adds")


def run(arguments: argparse.Namespace) -> int:
    """Print the details; return the exit code. Raises UserError for an unknown name."""
    path = Path(arguments.name)
    if arguments.name == MACHINE and not path.exists():
        found = _machine()
    elif path.is_file():
        found = records.read(path) if path.suffix == ".json" else loading.describe(path)
    else:
        known = common.everything(arguments.config)
        # the version of a protocol may be omitted
        names = {name.rpartition("@")[0]: name for name in known["protocols"]}
        wanted = names.get(arguments.name, arguments.name)
        found = next((group[wanted] for group in known.values() if wanted in group), None)
        if found is None:
            raise unknown("name", arguments.name, (n for g in known.values() for n in g))
        if dataclasses.is_dataclass(found):
            found = dataclasses.asdict(found)
    print(json.dumps(found, indent=1, default=str))
    return 0


def _machine() -> dict:
    """Return what this machine offers to jobs: cores, memory and GPUs.

    ``cores`` are those that this process may use; ``usable`` names the GPUs that it may use.
    """
    known = machine.provenance()
    return {**{name: known["hardware"][name] for name in ("platform", "cpu", "memory_bytes")},
            "cores": machine.usable_cores(), "python": known["python"],
            "gpus": [dataclasses.asdict(gpu) for gpu in gpus.installed()],
            "usable": list(gpus.find())}
