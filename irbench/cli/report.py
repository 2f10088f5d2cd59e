"""``irbench report``: tables, plots and report.html from a run's records.

Reads   the config and the run's records. Writes RUN/tables, RUN/figures and RUN/report.html,
        and RUN/.report, the digests of what they were made from.

Try: ``irbench report``
     ``irbench report --differences``
"""

from __future__ import annotations

import argparse
import json

from irbench import plan, report
from irbench.cli import common
from irbench.core import messages
from irbench.jobs import verify

NAME = "report"
HELP = "render tables, plots and report.html from the records"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    common.add_config(parser)
    parser.add_argument("--differences", action="store_true",
                        help="show measured - published in the cells of tables, like the config's "
                             "report.differences")
    common.add_log(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the report; return the exit code."""
    messages.log_to(arguments.log)
    planned = plan.load(arguments.config)
    spec = planned.report_spec | ({"differences": True} if arguments.differences else {})
    made_from = verify.report_inputs(planned)
    planned.run_folder.report_note.unlink(missing_ok=True)      # until all its files are written
    page = report.build(planned.folder, spec, progress=messages.say)
    if not arguments.differences:   # that differs from the config: the next run renders it again
        verify.note_report(planned, made_from)
    messages.say(f"report: {page}")
    print(json.dumps({"report": str(page)}))
    return 0
