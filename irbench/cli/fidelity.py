"""The verbs that show whether figures can be trusted: ``anchors`` and ``explain``.

Try: ``irbench anchors --list``
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from irbench.core import metrics


def add(verb: Callable[..., argparse.ArgumentParser], positive: Callable[[str], int]) -> None:
    """Add both verbs to the command line; ``verb`` makes a parser (see ``irbench.cli``)."""
    sub = verb("anchors", _anchors, "check this pipeline against figures that need no training: "
               "exit 1 if one fails, 3 if none could be compared", config=False)
    sub.add_argument("--list", action="store_true", help="show rows and references, compute none")
    sub.add_argument("--only", metavar="PATTERN",
                     help="rows whose PROTOCOL/DATASET/MODEL holds this (* fits anything)")
    sub.add_argument("--jobs", type=positive, help="processes; default: one a CPU")
    sub.add_argument("--data-root", default="data",
                     help="where fetched sets lie, default: %(default)s")
    sub.add_argument("--file", type=Path, help="anchors of your own, in the form of irbench's "
                     "catalog/anchors.yaml")
    sub.add_argument("--attempt", type=int, default=0, help=argparse.SUPPRESS)
    sub.add_argument("--log", help="also write messages to this file")
    sub = verb("explain", _explain, "score a cell under the conventions in which toolkits differ, "
               "and name those that give a published figure")
    sub.add_argument("cell", metavar="CELL", help="PROTOCOL/DATASET/MODEL of the config, or the "
                     "path of a cell's record")
    sub.add_argument("--published", required=True, metavar="VALUE",
                     help="the figure as printed: its decimals count")
    sub.add_argument("--metric", choices=metrics.explained(), default="psnr")
    sub.add_argument("--rerun", action="store_true", help="run the model again, though its outputs "
                     "were kept: adds unrounded outputs and other inputs")
    sub.add_argument("--top", type=positive, default=12, help="lines, default: %(default)s")


def _anchors(arguments: argparse.Namespace) -> int:
    from irbench.core import messages
    from irbench.fidelity import anchors

    messages.log_to(arguments.log)
    catalog = anchors.load(arguments.file or anchors.CATALOG)
    if arguments.list:
        rows = catalog.select(arguments.only)
        for row in rows:
            known = (f"{r.metric} {r.text or 'computed'} ({r.source}), within {r.tolerance:g}"
                     f"{'' if r.text else ' standard errors'}: {r.reason}" for r in row.references)
            print(f"{row.name}: {'; '.join(known)}")
        print(json.dumps({"rows": len(rows)}))
        return 0
    from irbench.fidelity import anchor_run

    compared = anchor_run.run(catalog, data_root=arguments.data_root, only=arguments.only,
                              jobs=arguments.jobs or anchor_run.processes(),
                              attempt=arguments.attempt)
    print(anchor_run.table(compared))
    print("why each tolerance: irbench anchors --list")
    number = anchors.counts(compared)
    number["compared"] = sum(c.verdict != "SKIP" for c in compared)
    print(json.dumps(number))
    if number["fail"]:
        return 1
    return 0 if number["compared"] else 3


def _explain(arguments: argparse.Namespace) -> int:
    from tabulate import tabulate

    from irbench.core import messages
    from irbench.fidelity import explain

    plan, job = explain.resolve(arguments.cell, arguments.config)
    found = explain.explain(
        plan, job, arguments.published, arguments.metric, rerun=arguments.rerun,
        progress=lambda items: messages.track(items, f"explain {job.title}", len(items)))
    messages.say(f"outputs: {found.outputs}")
    if found.untried:
        messages.say(f"not tried without --rerun: {found.untried}")
    shown = list(found.candidates[:arguments.top])
    if found.protocol not in shown:
        shown.append(found.protocol)
    shown = [c for c in found.simplest[:1] if c not in shown] + shown
    places = metrics.decimals(arguments.published) + 2
    print(tabulate(
        [[f"{c.value:.{places}f}", metrics.signed(c.value - float(arguments.published), places),
          f"prints as {arguments.published}" if c.prints_as else "", c.text] for c in shown],
        [arguments.metric, "difference", "", "conventions"], disable_numparse=True,
        colalign=["right", "right", "left", "left"]))
    print(found.verdict)
    print(json.dumps({
        "cell": "/".join(job.key.values()), "metric": arguments.metric,
        "published": arguments.published, "outputs": found.outputs,
        "protocol": found.protocol.value,
        "explanations": [explain.plain(c) for c in found.simplest],
        "chance": {"within": found.near, "shares": found.shares},
        "nearest": [explain.plain(c) for c in found.candidates[:arguments.top]]}))
    return 0
