"""``irbench peers``: published models of other groups that irbench can fetch and run.

Reads   the catalog of peers, and for ``verify`` the anchors; sets and weights are fetched.
Writes  results/anchors, see ``irbench.fidelity.anchor_run``.

Try: ``irbench peers list``
     ``irbench peers verify imdn``
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

from irbench.catalog import peers
from irbench.cli import anchors as anchors_verb
from irbench.core import messages
from irbench.core.errors import UserError, unknown
from irbench.fidelity import anchors

NAME = "peers"
HELP = "list other groups' models, or check that one gives the value that its paper prints"
ACTIONS = {
    "list": "show every peer: task, levels, whether a value is known",
    "verify": "fetch, load, score on the sets with known values: exit 1 if a value differs, 3 if "
              "none could be compared",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for action, text in ACTIONS.items():
        actions.add_parser(action, help=text, description=text)
    verify = actions.choices["verify"]
    verify.add_argument("names", nargs="*", metavar="NAME",
                        help="peers; default: all with a known value")
    anchors_verb.add_compute(verify)


def run(arguments: argparse.Namespace) -> int:
    """Do one action; return the exit code."""
    return {"list": _list, "verify": _verify}[arguments.action](arguments)


def _list(arguments: argparse.Namespace) -> int:
    known = _rows()
    for name, peer in peers.catalog().items():
        rows = known.get(name, [])
        print(f"{name}: {peer.summary}; " + (
            f"{len(rows)} rows with known values" if rows else "no known value"))
    print(json.dumps({"peers": len(peers.catalog()), "with_known_values": len(known)}))
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    messages.log_to(arguments.log)
    known = _rows()
    for name in arguments.names:
        if name not in peers.catalog():
            raise unknown("peer", name, peers.catalog())
        if name not in known:
            raise UserError(f"{name}: no value is known that its weights should give. Known for: "
                            f"{', '.join(known)}.")
    chosen = arguments.names or list(known)
    catalog = anchors.load()
    return anchors_verb.compare(replace(catalog, rows=tuple(
        row for row in catalog.rows if row.model in chosen)), arguments)


def _rows() -> dict[str, list[anchors.Anchor]]:
    """Return the anchor rows of each peer that has any."""
    found: dict[str, list[anchors.Anchor]] = {}
    for row in anchors.load().rows:
        if row.model in peers.catalog():
            found.setdefault(row.model, []).append(row)
    return found
