"""``irbench history``: each metric over the runs of a folder, and where its level changed.

Reads the run folders and baseline files in a folder. ``--output`` writes history.csv (one line per
run, key and metric), history.md and figures/history-<metric>.{png,pdf,svg}. Exit codes: 0 done,
2 invalid options or files, 3 no value occurs in two runs (the history is shown, but there is
nothing to compare).

Try: ``irbench history results --metric psnr``
     ``irbench history results --dataset set5 --output trends``
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from irbench.compare import history
from irbench.compare import history_tables as tables
from irbench.core import files, messages, metrics
from irbench.core.errors import UserError
from irbench.present import text

NAME = "history"
HELP = ("show each metric over the runs of a folder, and its steps: exit 3 if no value is in two "
        "runs")
FORMATS = ("table", "markdown", "csv", "json")
FILTERS = {"protocol": "'sr-*'", "dataset": "set5", "model": "'compacter*'",
           "metric": ", ".join([*metrics.METRICS, "parameters", "macs", "latency"])}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("folder", type=Path, metavar="FOLDER",
                        help="folder with run folders (results/RUN) and baseline files")
    for name, example in FILTERS.items():
        parser.add_argument(f"--{name}", nargs="+", action="extend", default=[], metavar="PATTERN",
                            help=f"only these, * matches anything: {example}")
    parser.add_argument("--format", choices=FORMATS, default="table",
                        help="format of the output, default: %(default)s")
    parser.add_argument("--output", type=Path, metavar="DIR",
                        help="also write history.csv, history.md and figures/ to this folder")


def run(arguments: argparse.Namespace) -> int:
    """Print the history, and write it if requested; return the exit code."""
    if arguments.output and arguments.output.exists() and not arguments.output.is_dir():
        raise UserError(f"--output {arguments.output}: this is a file; name a folder.")
    found = history.read(arguments.folder, {name: getattr(arguments, name) for name in FILTERS})
    written = _write(found, arguments.output) if arguments.output else None
    if arguments.format == "table":
        print(tables.terminal(found))
        print(json.dumps({
            "runs": len(found.runs), "skipped": len(found.skipped), "series": len(found.series),
            "steps": sum(len(one.steps) for one in found.series),
            "output": written and str(written)}))
    elif arguments.format == "json":
        print(json.dumps(tables.document(found)))
    else:
        print({"markdown": tables.markdown, "csv": tables.tidy}[arguments.format](found), end="")
    if any(len(one.points) > 1 for one in found.series):
        return 0
    why = (f"one run ({found.runs[0].name})" if len(found.runs) == 1
           else f"no value is in two of the {len(found.runs)} runs")
    messages.say(f"{arguments.folder}: {why}, so nothing can be compared over time. Exit code 3.")
    return 3


def _write(found, folder: Path) -> Path:
    """Write tables and plots; the table names the plots."""
    from irbench.compare import history_plot  # imports matplotlib, which takes a second

    drawn = history_plot.draw(found, folder)
    figures = "".join(
        f"\n![{text.markdown(figure.alt)}](figures/{figure.stem}.png)\n\n"
        f"{text.markdown(figure.caption)}\n" for figure in drawn)
    files.write_atomic(folder / "history.csv", tables.tidy(found))
    files.write_atomic(folder / "history.md", tables.markdown(found) + figures)
    return folder
