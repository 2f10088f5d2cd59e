"""``irbench verify``: check that a run's results belong to the present config, code, data, weights.

Reads   the config and the run. Exit code: 1 if something is missing, stale or altered.

Try: ``irbench verify``
     ``irbench verify --config workflow/configs/benchmark.yaml``
"""

from __future__ import annotations

import argparse
import json
import sys

from irbench import plan
from irbench.cli import common
from irbench.jobs import verify

NAME = "verify"
HELP = "check that a run's results belong to the present config, code and weights"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    common.add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print one sentence per problem; return the exit code."""
    problems = verify.check(plan.load(arguments.config))
    for problem in problems:
        print(problem, file=sys.stderr)
    print(json.dumps({"problems": len(problems)}))
    return 1 if problems else 0
