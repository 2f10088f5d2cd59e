"""Migration of baseline files: each older version is converted to the next, one step at a time.

Version 0 is the plain form, which can be written by hand from any source of scores: the name of a
run, cells and profiles, with one object per image and without inputs. Version 1 holds the scores of
a cell as one list per metric, the names of the images once per set, and the inputs of each result.
tests/compare/baselines has an example of each.

Try: ``python -c "from irbench.compare import migrate; print(migrate.VERSION)"``
"""

from __future__ import annotations

import math

from irbench.core.errors import UserError
from irbench.core.metrics import METRICS

VERSION = 1


def to_current(content: dict, where: str) -> dict:
    """Return a baseline in the current form.

    Raises:
        UserError: its version is unknown or newer than this irbench, or its form does not match.
    """
    version = content["baseline_version"]
    if not isinstance(version, int) or isinstance(version, bool) or version < 0:
        raise UserError(f"{where}: baseline_version is {version!r}; valid: 0 to {VERSION}.")
    if version > VERSION:
        raise UserError(f"{where}: baseline_version {version} needs a newer irbench; this one "
                        f"reads versions 0 to {VERSION}. Update irbench, or write the file again "
                        "with irbench baseline write.")
    for step in range(version, VERSION):
        try:
            content = STEPS[step](content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{where}: not in the form of baseline_version {step} ({error!r}). "
                            "Write it again: irbench baseline write RUN --output FILE.") from None
    return content


def _from_0(old: dict) -> dict:
    """Convert one object per image to one list per metric; unknown values stay unknown."""
    cells = {}
    for key, entry in old["cells"].items():
        names = list(entry["images"])
        scores = entry["images"].values()
        columns = {m: [image.get(m) for image in scores] for m in METRICS
                   if any(image.get(m) is not None for image in scores)}
        means = {m: math.fsum(column) / len(column) for m, column in columns.items()
                 if None not in column}
        cells[key] = {"mean": entry.get("mean") or means, "images": names, **columns}
    profiles = {key: {"parameters": entry.get("parameters"), "macs": entry.get("macs"),
                      "latency_ms": [], "peak_memory_bytes": None, "peak_memory_of": "",
                      "condition": {}} for key, entry in (old.get("profiles") or {}).items()}
    name = str(old.get("run") or "baseline")
    return {"baseline_version": 1, "run": name, "title": name, "provenance": {}, "datasets": {},
            "protocols": {}, "models": {}, "code": {"cell": {}, "profile": {}}, "cells": cells,
            "profiles": profiles, "left_out": {}}


STEPS = {0: _from_0}
