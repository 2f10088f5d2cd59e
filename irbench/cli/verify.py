"""``irbench verify``: check that a run's results belong to the present config, code, data, weights.

Records that are missing, stale or damaged come first, then the report: after a whole run there are
none. Records that say why there is no result are listed apart.

Reads   the config and the run. Exit code: 1 if there is anything to say.

Try: ``irbench verify``
     ``irbench verify results/photos``
"""

from __future__ import annotations

import argparse
import json
import sys

from irbench.cli import common
from irbench.core import digests
from irbench.jobs import verify

NAME = "verify"
WITHOUT_RESULT = ("failed", "unavailable", "paused")
HELP = "check that a run's results and report belong to the present config, code and weights"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    common.add_config_or_run_word(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print one sentence per problem; return the exit code."""
    planned = common.plan_of(arguments.run)
    found = verify.find(planned)
    if (report := verify.find_report(planned, digests.fresh_digest)).state != verify.CURRENT:
        found.append(report)
    without = [one for one in found if one.state in WITHOUT_RESULT]
    for one in (one for one in found if one not in without):
        print(common.state_line(one), file=sys.stderr)
    if without:
        print(f"Without a result, which the next run tries to get ({len(without)}):",
              file=sys.stderr)
        for one in without:
            print(f"  {common.state_line(one)}", file=sys.stderr)
    print(json.dumps({"problems": len(found), **common.count_states(found)}))
    return 1 if found else 0
