"""A baseline: the results of a run in one small file, to commit and to compare with later runs.

Reads and writes one JSON file, with one line for each set, protocol, model, cell and profile,
sorted. It keeps the scores of every image, because paired tests need them.

Scores are rounded to less than the difference between machines (``Metric.exact_decimals``,
``Metric.noise``). When a file is updated, it keeps every value that changed by no more than this
noise (``settle``). So the diff of the file shows only real changes, and small changes cannot add up
unnoticed, because the next comparison uses the kept value.

A latency that other work disturbed (``core.machine.busy``) is kept with the cores that were busy,
so that no later run is judged by it.

Try: ``irbench baseline write results/photos --output /tmp/photos.json``
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

from irbench.compare import inputs, migrate
from irbench.compare.runs import OUTDATED, CellData, ProfileData, RunData, judged
from irbench.core import files, metrics, statistics
from irbench.core.errors import UserError
from irbench.core.metrics import METRICS

VERSION = migrate.VERSION
EDITED = 10                     # times the noise; kept and rounded values differ by less than 4
DIGITS = 4                      # significant digits of a latency
MEMORY = 0.05                   # share: smaller differences in peak memory count as equal
HARDWARE = ("platform", "cpu", "cores", "gpu")
NOT_SCORED = "it had no mean when the baseline was written"
REASON = 200                    # number of characters of a reason to keep


# -- writing -----------------------------------------------------------------------------------

def write(path: Path, run: RunData, *, partial: bool = False) -> dict:
    """Write the baseline of a run; return its content.

    An existing baseline is updated (see ``settle``). Any other existing file is not overwritten.

    Raises:
        UserError: a cell or profile of the run's config has no result, and ``partial`` is False;
            the run is itself a baseline; it has no result; ``path`` is not a baseline file.
    """
    if run.baseline:
        raise UserError(f"{run.where}: this is a baseline file already; give a run folder.")
    out = unfinished(run)
    if out and not partial:
        shown = "\n".join(f"  {key}: {reason}" for key, reason in list(out.items())[:10])
        more = f"\n  and {len(out) - 10} more" if len(out) > 10 else ""
        old = any(one.status == OUTDATED for one in (*run.cells.values(), *run.profiles.values()))
        raise UserError(f"{run.where}: {len(out)} results are missing, so the baseline would not "
                        f"cover them:\n{shown}{more}\nRun the workflow again, or leave them out "
                        f"with --partial{', or take outdated ones with --stored' * old}.")
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: this is not a file; give --output the name of a file.")
    try:
        previous = load(path) if path.exists() else None
    except UserError as error:
        raise UserError(f"{error}\nThe file was not overwritten, because it may not be a baseline. "
                        f"Delete {path} first, or give --output another name.") from None
    run = judged(run)
    content = form(settle(run, judged(previous)) if previous else run)
    if not content["cells"] and not content["profiles"]:
        raise UserError(f"{run.where}: it contains no result to record.")
    files.write_atomic(path, text(content))
    return content


def unfinished(run: RunData) -> dict[str, str]:
    """Return key -> reason for each cell and profile without a complete result, planned or not."""
    found = {one.key: f"{one.status}: {one.reason}"[:REASON]
             for one in (*run.cells.values(), *run.profiles.values()) if one.status != "ok"}
    if run.planned:
        found |= {key: "not computed" for key in run.planned.wanted() if key not in run.cells}
    return dict(sorted(found.items()))


def form(run: RunData) -> dict:
    """Return a run as plain data in the current version of the file format."""
    content = {"baseline_version": VERSION, "run": run.name, "title": run.title,
               "provenance": _provenance(run.provenance),
               "datasets": {}, "protocols": {}, "models": {}, "code": {"cell": {}, "profile": {}},
               "cells": {}, "profiles": {}, "left_out": unfinished(run)}
    for key, cell in sorted(run.cells.items()):
        if cell.status == "ok":
            content["cells"][key] = _cell(content, cell)
    for key, profile in sorted(run.profiles.items()):
        if profile.status == "ok":
            content["profiles"][key] = _profile(content, profile)
    for section in ("datasets", "protocols", "models"):
        content[section] = dict(sorted(content[section].items()))
    content["code"] = {kind: dict(sorted(made.items())) for kind, made in content["code"].items()}
    if "code_parts" in content:
        content["code_parts"] = dict(sorted(content["code_parts"].items()))
    if rows := metrics.described({name for cell in run.cells.values() for name in cell.means}):
        content["metrics"] = rows       # of those that are not irbench's own
    return content


def text(content: dict) -> str:
    """Return plain data as JSON, with one line per entry of each section."""
    def line(value: object) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    parts = []
    for name, value in content.items():
        if name in ("provenance",) or not isinstance(value, dict) or not value:
            parts.append(f"{line(name)}: {line(value)}")
        else:
            rows = ",\n".join(f" {line(key)}: {line(entry)}" for key, entry in value.items())
            parts.append(f"{line(name)}: {{\n{rows}\n}}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _provenance(full: dict) -> dict:
    hardware = full.get("hardware") or {}
    return {**{k: v for k, v in full.items() if v is not None},
            "hardware": {k: hardware[k] for k in HARDWARE if hardware.get(k) is not None}}


def _cell(content: dict, cell: CellData) -> dict:
    names = list(cell.images)
    entry: dict = {"mean": {m: _score(m, cell.means[m]) for m in metrics.ordered(cell.means)}}
    shared = content["datasets"].setdefault(cell.dataset, {
        "sha256": cell.inputs.get("data"), "images": names})
    if shared != {"sha256": cell.inputs.get("data"), "images": names}:
        entry |= {"data": cell.inputs.get("data"), "images": names}
    for metric in METRICS:
        scores = [cell.images[name].get(metric) for name in names]
        if any(score is not None for score in scores):
            entry[metric] = [None if score is None else _score(metric, score) for score in scores]
    if cell.missing:
        entry["missing"] = sorted(cell.missing)     # the record of the run holds the reasons
    return {**entry, **_made_from(content, "cell", cell)}


def _score(metric: str, score: float) -> float:
    return round(score, metrics.get(metric).exact_decimals)


def _profile(content: dict, profile: ProfileData) -> dict:
    return {"parameters": profile.parameters, "macs": profile.macs,
            "latency_ms": [_rounded(sample) for sample in profile.latency],
            "peak_memory_bytes": profile.peak_memory, "peak_memory_of": profile.peak_memory_of,
            "condition": profile.condition,
            **({"busy_elsewhere": profile.busy_elsewhere} if profile.disturbed else {}),
            **_made_from(content, "profile", profile)}


def _rounded(sample: float) -> float:
    return float(f"{sample:.{DIGITS}g}")


def _made_from(content: dict, kind: str, one: CellData | ProfileData) -> dict:
    """Return the inputs of a result for its line; long ones are stored in separate sections."""
    made = one.inputs
    if not made:
        return {}
    entry: dict = {}
    definition = {k: v for k, v in (made.get("protocol") or {}).items() if k != "id"}
    if content["protocols"].setdefault(one.protocol, definition) != definition:
        entry["protocol"] = definition
    if made.get("model"):
        entry["model"] = f"{one.model}:{inputs.digest(made['model'])[:8]}"
        content["models"][entry["model"]] = made["model"]
    if made.get("weights"):
        entry["weights"] = made["weights"]
    if made.get("training"):
        entry["training"] = (made["training"] if isinstance(made["training"], str)
                             else inputs.digest(made["training"]))
    if made.get("settings"):
        entry["settings"] = {k: inputs.digest(v) if isinstance(v, dict) else v
                             for k, v in made["settings"].items()}
    # usually the code is the same for all cells of a model
    if content["code"][kind].setdefault(one.model, made.get("code")) != made.get("code"):
        entry["code"] = made.get("code")
    if made.get("parts"):       # of a network of the user's
        content.setdefault("code_parts", {})[made["code"]] = made["parts"]
    return entry


# -- updating a file ---------------------------------------------------------------------------

def settle(run: RunData, previous: RunData) -> RunData:
    """Return the run, but with the previous file's values where the change is within the noise."""
    cells = {key: _settled(cell, previous.cells.get(key)) for key, cell in run.cells.items()}
    profiles = {key: _steady(profile, previous.profiles.get(key))
                for key, profile in run.profiles.items()}
    return replace(run, cells=cells, profiles=profiles)


def _settled(cell: CellData, old: CellData | None) -> CellData:
    if old is None:
        return cell

    def kept(new: dict[str, float], before: dict[str, float]) -> dict[str, float]:
        return {m: before[m] if m in before and abs(score - before[m]) <= METRICS[m].noise
                else score for m, score in new.items()}

    return replace(cell, means=kept(cell.means, old.means), images={
        name: kept(scores, old.images.get(name, {})) for name, scores in cell.images.items()})


def _steady(new: ProfileData, old: ProfileData | None) -> ProfileData:
    """Keep the old latency and memory of a profile unless they differ significantly.

    A disturbed latency says nothing of the old one of the same network, so that is kept as well;
    an undisturbed one replaces a disturbed one.
    """
    if old is None or old.condition != new.condition:
        return new
    if old.latency and new.latency and (
            (old.parameters, old.macs) == (new.parameters, new.macs) if new.disturbed else
            not old.disturbed
            and statistics.mann_whitney(old.latency, new.latency) >= statistics.LEVEL):
        new = replace(new, latency=old.latency, busy_elsewhere=old.busy_elsewhere)
    if (old.peak_memory and new.peak_memory and old.peak_memory_of == new.peak_memory_of
            and abs(new.peak_memory - old.peak_memory) <= MEMORY * old.peak_memory):
        new = replace(new, peak_memory=old.peak_memory)
    return new


# -- reading -----------------------------------------------------------------------------------

def load(path: Path) -> RunData:
    """Return the run that a baseline file holds, migrated from older versions.

    Raises:
        UserError: the file is not JSON, not a baseline, damaged, or of a newer version.
    """
    again = "Write it again: irbench baseline write RUN --output FILE."
    try:
        content = files.read_json(path, parse_constant=_refuse, parse_float=_finite,
                                  object_pairs_hook=_once)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}). {again}") from None
    if isinstance(content, dict) and "schema_version" in content:
        raise UserError(f"{path}: this is one record of a run; give the run's folder, or a "
                        "baseline file.")
    if not isinstance(content, dict) or "baseline_version" not in content:
        raise UserError(f"{path}: not a baseline file: it has no baseline_version. {again}")
    content = migrate.to_current(content, str(path))
    try:
        return _run(content, path)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: a damaged baseline file ({error!r}). {again}") from None


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a score")


def _finite(text: str) -> float:
    value = float(text)                 # 1e999 is infinite
    return value if math.isfinite(value) else _refuse(text)


def _number(value: object) -> float:
    """Return a finite number as float; a text that Python could read as one is none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def _once(pairs: list[tuple[str, object]]) -> dict:
    """Refuse duplicate keys, as after a careless merge: JSON would silently use the last one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} appears twice")
    return found


def _check_form(content: dict) -> None:
    """Raise TypeError for wrong types that would otherwise only fail in a comparison."""
    common = content["provenance"]
    hardware = common.get("hardware") or {}
    parts = [(common.get("git") or {}).get("commit"), common.get("time"),
             *(hardware.get(name) for name in HARDWARE if name != "cores")]
    if not all(isinstance(part, str | None) for part in parts):
        raise TypeError("provenance: not in the expected form")
    for part in ("python", "packages"):
        inputs.libraries({part: common.get(part)}, {part: common.get(part)})
    for name, shared in content["datasets"].items():
        if not all(isinstance(image, str) for image in shared.get("images") or ()):
            raise TypeError(f"datasets: {name}: the name of an image is not a string")
    for key, entry in content["cells"].items():
        if not all(isinstance(image, str) for image in entry.get("images") or ()):
            raise TypeError(f"{key}: the name of an image is not a string")
    for key, entry in content["profiles"].items():
        if not isinstance(entry["condition"], dict):
            raise TypeError(f"{key}: its condition is not an object")
        for name in ("parameters", "macs", "peak_memory_bytes"):
            if entry[name] is not None and type(entry[name]) not in (int, float):
                raise TypeError(f"{key}: {name} is {entry[name]!r}, not a count")


def _run(content: dict, path: Path) -> RunData:
    common = content["provenance"]
    _check_form(content)
    rows = metrics.adopt_all(content.get("metrics") or (), f"{path}: metrics")
    cells = {}
    for key, entry in sorted(content["cells"].items()):
        protocol, dataset, model = key.split("/")
        shared = content["datasets"].get(dataset) or {}
        names = entry.get("images", shared.get("images"))
        columns = {m: entry[m] for m in METRICS if m in entry}
        for metric, column in columns.items():
            if len(column) != len(names):
                raise ValueError(f"{key}: {len(column)} {metric} of {len(names)} images")
        images = {name: {m: _number(column[i]) for m, column in columns.items()
                         if column[i] is not None} for i, name in enumerate(names)}
        made = _inputs(content, "cell", protocol, model, entry)
        if made:
            made["data"] = entry.get("data", shared.get("sha256"))
        cells[key] = CellData(
            protocol, dataset, model, "ok", "", {m: _number(v) for m, v in entry["mean"].items()},
            images, dict.fromkeys(entry.get("missing") or (), NOT_SCORED), made,
            str(common.get("time") or ""), common,
            rows={name: rows[name] for name in entry["mean"] if name in rows})
    profiles = {}
    for key, entry in sorted(content["profiles"].items()):
        protocol, model = key.split("/")
        profiles[key] = ProfileData(
            protocol, model, "ok", "", entry["parameters"], entry["macs"],
            tuple(map(_number, entry["latency_ms"])), entry["condition"],
            entry["peak_memory_bytes"], entry["peak_memory_of"],
            _inputs(content, "profile", protocol, model, entry), str(common.get("time") or ""),
            common, busy_elsewhere=(
                _number(entry["busy_elsewhere"]) if "busy_elsewhere" in entry else None))
    for one in cells.values():
        for name, scores in (*one.images.items(), ("its mean", one.means)):
            if bad := next((m for m, v in scores.items()
                            if not (rows.get(m) or METRICS[m]).holds(v)), None):
                raise ValueError(f"{one.key}: {bad} of {name} is {scores[bad]}, outside of its "
                                 "range")
        for metric, mean in one.means.items():
            scores = [image[metric] for image in one.images.values() if metric in image]
            if scores and abs(math.fsum(scores) / len(scores) - mean) > (
                    EDITED * (rows.get(metric) or METRICS[metric]).noise):
                raise ValueError(f"{one.key}: its mean {metric} is not the mean over its images")
    return RunData(content["run"], content["title"], cells, profiles, common, str(path),
                   baseline=True)


def _inputs(content: dict, kind: str, protocol: str, model: str, entry: dict) -> dict:
    definition = entry.get("protocol", content["protocols"].get(protocol))
    if definition is None and "model" not in entry:     # the inputs are unknown (version 0)
        return {}
    code = entry.get("code", content["code"][kind].get(model))
    parts = (content.get("code_parts") or {}).get(code)
    if parts and not all(isinstance(known, str | None)
                         for known in (parts["irbench"], *parts["files"].values())):
        raise TypeError(f"code_parts: {code}: a digest is not a string")
    return {"protocol": {"id": protocol, **(definition or {})}, "data": None,
            "model": content["models"].get(entry.get("model")) or {},
            "weights": entry.get("weights"), "training": entry.get("training") or {},
            "settings": entry.get("settings") or {}, "code": code,
            **({"parts": parts} if parts else {})}
