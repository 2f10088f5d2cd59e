"""The results that ``check``, ``baseline`` and ``compare`` are given: of a folder, file or config.

Results that were made from other inputs than their run has now (its model, code, weights, set or
metrics changed, and it was not run again) count only with ``--stored``.

Reads the records of a run, and plans its config. Writes notes to stderr, nothing else.

Try: ``irbench check results/photos --baseline baselines/photos.json``
"""

from __future__ import annotations

import argparse
import shlex

from irbench import plan as plans
from irbench.compare import loading, planned, runs
from irbench.compare.runs import RunData
from irbench.core import messages
from irbench.core.errors import UserError
from irbench.jobs import verify


def add_stored(parser: argparse.ArgumentParser) -> None:
    """Add the option for results as they are."""
    parser.add_argument("--stored", action="store_true", help="count results as they are stored, "
                        "also those whose model, code or data changed since; default: these are "
                        "outdated and do not count")


def of_folder(given: str, stored: bool) -> RunData:
    """Return the run that a folder or a baseline file holds.

    Outdated results have the status "outdated", unless ``stored``. A note says how many results are
    outdated and count nevertheless, or why this is unknown.

    Raises UserError as ``loading.load``.
    """
    run = loading.load(given)
    if run.baseline:
        return run
    found = verify.outdated_of(given)
    if found.unknown:
        messages.say(f"{given}: taken as stored; it is unknown whether results are outdated: "
                     f"{found.unknown.rstrip('.')}.")
    return _counting(run, found.reasons, given, stored)


def of_config(config: str, stored: bool) -> RunData:
    """Return the run of a config; outdated results have the status "outdated", unless ``stored``.

    Raises UserError if the config cannot be planned, or its run has no record yet.
    """
    plan = plans.load(config)
    if not plan.folder.is_dir():
        raise UserError(f"{plan.folder}: config {config} has not been run here yet. Run it "
                        f"(irbench run {shlex.quote(str(config))}), or name a run folder.")
    loaded = runs.of_folder(plan.folder, planned.from_config(plan.config))
    return _counting(loaded, verify.outdated(plan), config, stored)


def _counting(run: RunData, outdated: dict[str, str], given: str, stored: bool) -> RunData:
    """Return a run without its outdated results; with them, and a note, if ``stored``."""
    if not stored:
        return runs.without(run, outdated)
    counted = [one.path for one in (*run.cells.values(), *run.profiles.values())
               if one.path in outdated]
    if counted:
        messages.say(f"{given}: outdated results that count as stored: {len(counted)} "
                     f"({counted[0]}: {outdated[counted[0]]}). irbench status {given} lists them.")
    return run
