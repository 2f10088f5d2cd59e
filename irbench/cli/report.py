"""``irbench report``: tables, plots and report.html from a run's records.

Reads   the config and the run's records. Writes RUN/tables, RUN/figures and RUN/report.html,
        and RUN/.report, the digests of what they were made from.

Try: ``irbench report``
     ``irbench report --formats pdf svg``
"""

from __future__ import annotations

import argparse
import json

from irbench import report
from irbench.cli import common
from irbench.core import messages
from irbench.core.run_folder import FORMATS
from irbench.jobs import verify

NAME = "report"
HELP = "render tables, plots and report.html from the records"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    common.add_config_or_run_word(parser)
    parser.add_argument("--differences", action="store_true",
                        help="show measured - published in the cells of tables, like the config's "
                             "report.differences")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, metavar="FORMAT",
                        help="also write the plots as pdf or svg, like the config's "
                             "report.formats; png is always written")
    parser.add_argument("--plots", type=_count, metavar="N|all",
                        help="how many figures of one kind are drawn at most, like the config's "
                             "report.plots")
    common.add_log(parser)


def _count(text: str) -> int | str:
    try:
        return text if text == "all" else common.positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor 'all'") from None


def run(arguments: argparse.Namespace) -> int:
    """Write the report; return the exit code."""
    messages.log_to(arguments.log)
    planned = common.plan_of(arguments.run)
    asked = {"differences": arguments.differences or None, "formats": arguments.formats,
             "plots": arguments.plots}
    asked = {name: value for name, value in asked.items() if value}
    made_from = verify.report_inputs(planned)
    planned.run_folder.report_note.unlink(missing_ok=True)      # until all its files are written
    page = report.build(planned.folder, planned.report_spec | asked, progress=messages.say)
    if not asked:       # else it may differ from the config: the next run renders it again
        verify.note_report(planned, made_from)
    messages.say(f"report: {page}")
    print(json.dumps({"report": str(page)}))
    return 0
