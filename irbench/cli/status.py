"""``irbench status``: what the next run would do, and why.

Each job is missing, stale (with what changed), damaged, failed, unavailable, paused or current; all
but the current ones would be done. Those that a process is doing now are shown as ``running``.
``irbench verify`` also reads every image and all weights anew. The JSON on stdout lists all jobs,
but not on a terminal, where it would hide the lines above it.

Reads   the config and the run's records. Writes nothing, imports no torch.

Try: ``irbench status``
     ``irbench status results/photos``
"""

from __future__ import annotations

import argparse
import json
import sys

from irbench.cli import common
from irbench.core.run_folder import worked_at
from irbench.jobs import verify

NAME = "status"
HELP = "say what the next run would do, and why"
RUNNING = "running"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    common.add_config_or_run_word(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print one line per job that would be done, then how many there are; return the exit code."""
    planned = common.plan_of(arguments.run)
    known = verify.Records(planned)
    states = [known.find(job) for job in planned.jobs()]
    to_do = [one for one in states if one.state != verify.CURRENT]
    running = worked_at(one.job.record for one in to_do)
    for one in to_do:
        print(f"{RUNNING:11} {one.job.title}" if one.job.record in running
              else common.state_line(one), file=sys.stderr)
    counts = common.count_states(states)
    report = verify.find_report(planned)
    if to_do and report.state in (verify.CURRENT, verify.STALE):
        report = verify.ReportState(verify.STALE, "the jobs above come before it")
    current = report.state == verify.CURRENT
    if not current:
        print(common.state_line(report), file=sys.stderr)
    counted = ", ".join(f"{count} {state}" for state, count in counts.items())
    if running:
        counted += f" ({len(running)} {RUNNING} now)"
    print(f"{planned.folder}: {counted}; the report "
          f"{'is current' if current else 'would be made'}.", file=sys.stderr)
    jobs = [{"kind": one.job.kind, "key": one.job.key, "state": one.state,
             "reason": one.reason or None, "running": one.job.record in running} for one in states]
    print(json.dumps({
        "run": planned.config["run"], "would_run": len(to_do), "running": len(running),
        "report_current": current,
        "report": {"state": report.state, "reason": report.reason or None}, **counts,
        **({} if sys.stdout.isatty() else {"jobs": jobs})}))
    return 0
