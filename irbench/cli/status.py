"""``irbench status``: what the next run would do, and why.

Each job is missing, stale (with what changed), damaged, failed, unavailable, paused or current; all
but the current ones would be done. ``irbench verify`` also reads every image and all weights anew.

Reads   the config and the run's records. Writes nothing, imports no torch.

Try: ``irbench status``
     ``irbench status results/photos``
"""

from __future__ import annotations

import argparse
import json
import sys

from irbench import plan
from irbench.cli import common
from irbench.jobs import verify

NAME = "status"
HELP = "say what the next run would do, and why"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("run", nargs="?", default=common.CONFIG, metavar="CONFIG|RUN",
                        help="a config file; or a run by its name or folder, which is then asked "
                             "for what it last was (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Print one line per job that would be done, then how many there are; return the exit code."""
    planned = plan.load(common.config_of(arguments.run)[0])
    known = verify.Records(planned)
    states = [known.find(job) for job in planned.jobs()]
    to_do = [one for one in states if one.state != verify.CURRENT]
    for one in to_do:
        print(common.state_line(one), file=sys.stderr)
    counts = common.count_states(states)
    report = verify.find_report(planned)
    if to_do and report.state == verify.CURRENT:
        report = verify.ReportState("stale", "the jobs above come before it")
    current = report.state == verify.CURRENT
    if not current:
        print(common.state_line(report), file=sys.stderr)
    counted = ", ".join(f"{count} {state}" for state, count in counts.items())
    print(f"{planned.folder}: {counted}; the report "
          f"{'is current' if current else 'would be made'}.", file=sys.stderr)
    print(json.dumps({
        "run": planned.config["run"], "would_run": len(to_do), "report_current": current,
        "report": {"state": report.state, "reason": report.reason or None}, **counts,
        "jobs": [{"kind": one.job.kind, "key": one.job.key, "state": one.state,
                  "reason": one.reason or None} for one in states]}))
    return 0
