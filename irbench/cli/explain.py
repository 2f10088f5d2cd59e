"""``irbench explain``: find the conventions under which a cell gives a published value.

Reads   a cell's record and kept images, or runs its model.

Try: ``irbench explain sr-x2/set5/bicubic --published 33.66``
     ``irbench explain sr-x2/set5/bicubic --published 0.9299 --metric ssim --rerun``
"""

from __future__ import annotations

import argparse
import json

from tabulate import tabulate

from irbench.cli import common
from irbench.core import messages, metrics
from irbench.fidelity import explain

NAME = "explain"
HELP = ("score a cell under the conventions in which toolkits differ, and show which give a "
        "published value")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    common.add_config(parser)
    parser.add_argument("cell", metavar="CELL", help="PROTOCOL/DATASET/MODEL of the config, or the "
                        "path of a cell's record")
    parser.add_argument("--published", required=True, metavar="VALUE",
                        help="the value as printed; its number of decimals matters")
    parser.add_argument("--metric", choices=metrics.explained(), default="psnr")
    parser.add_argument("--rerun", action="store_true", help="run the model again, even if its "
                        "outputs were kept: adds unrounded outputs, other inputs and, for learned "
                        "models, padded inputs (up to 12 more runs per image)")
    parser.add_argument("--top", type=common.positive, default=12,
                        help="number of lines, default: %(default)s")


def run(arguments: argparse.Namespace) -> int:
    """Score the cell and print what explains the value; return the exit code."""
    planned, job = explain.resolve(arguments.cell, arguments.config)
    found = explain.explain(
        planned, job, arguments.published, arguments.metric, rerun=arguments.rerun,
        progress=lambda items: messages.track(items, f"explain {job.title}", len(items)))
    messages.say(f"outputs: {found.outputs}")
    if found.untried:
        messages.say(f"not tried without --rerun: {found.untried}")
    # all causes, however many; then the nearest others, and the protocol itself
    others = [c for c in found.candidates if c not in found.causes]
    shown = [*found.causes, *others[:max(0, arguments.top - len(found.causes))]]
    if found.protocol not in shown:
        shown.append(found.protocol)
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
        "explanations": [explain.plain(c) for c in found.matches],
        "chance": {"within": found.near, "shares": found.shares},
        "nearest": [explain.plain(c) for c in found.candidates[:arguments.top]]}))
    return 0
