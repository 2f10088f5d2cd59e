"""Compute the anchors' cells like those of any run, and compare them with their references.

Reads   the same files as a run. An anchor is skipped, with the reason, if its data or weights are
        missing; it fails if they are damaged.
Writes  results/anchors: config.json and cells/ as in every run (a finished cell whose inputs are
        unchanged is not computed again), anchors.csv, anchors.md and anchors.json.

Try: ``irbench anchors --only set5``
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import multiprocessing
import os
import signal
import textwrap
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tabulate import tabulate

from irbench import plan as plans
from irbench.core import code, digests, files, locks, messages, metrics, records
from irbench.core.errors import Damaged, Unavailable, UserError
from irbench.core.run_folder import RunFolder
from irbench.data import obtain
from irbench.data import sets as datasets
from irbench.fidelity import anchors
from irbench.fidelity.anchors import Anchor, Anchors, ReferenceCheck
from irbench.imaging import degrade
from irbench.inference import allocator
from irbench.jobs import evaluate, life
from irbench.jobs.result import Result, failure, record_of
from irbench.jobs.run import LET_GO
from irbench.plan import config as configs
from irbench.present import tidy

RUN = "anchors"
FOLDER = RunFolder.of_run(RUN)
COLUMNS = ("protocol", "dataset", "model", "metric", "measured", "reference", "kind", "source",
           "difference", "tolerance", "reason", "verdict", "note")
HEADS = ("row", "metric", "measured", "reference", "difference", "tolerance", "verdict")


def run(catalog: Anchors, *, data_root: str = "data", only: str | None = None, jobs: int = 1,
        attempt: int = 0) -> list[ReferenceCheck]:
    """Compute missing cells, compare every selected row, and write the tables.

    Args:
        catalog: the anchors.
        data_root: the folder of fetched sets.
        only: part of the names of the selected rows; with it no table is written.
        jobs: the number of processes.
        attempt: how many earlier attempts left rows out.

    Raises:
        UserError: the anchors cannot be planned, or another run works in the folder.
    """
    rows = catalog.select(only)
    config, asked = _config(catalog, rows, data_root), {row.name: row.metrics for row in rows}
    plan = _plan_of(config, asked, f"anchors {catalog.path}")
    # in the workflow the anchors of a run that was killed may be about to end
    locks.claim(FOLDER.lock, LET_GO if life.is_watching() else 0.0)
    files.write_atomic(FOLDER.config, digests.canonical(config) + "\n")
    found = {row.name: _stored(plan.cells[row.name]) for row in rows}
    lacking = _obtain(plan, rows)
    absent = _compute(plan, found, [name for name, record in found.items()
                                    if record is None and name not in lacking], jobs)

    @functools.cache
    def targets(protocol: str, dataset: str) -> list:
        entry = plan.entry(dataset)
        data = datasets.open_local(entry, Path(data_root))
        return [degrade.prepare_target(item.load(), plan.protocols[protocol])
                for item in data.role("hr")]

    def expect(row: Anchor) -> tuple[float, float]:
        protocol = plan.protocols[row.protocol]
        if (row.model, protocol.metric.crop) != ("input", 0) or protocol.metric.color == "y" or (
                protocol.degradation["kind"] != "gaussian_noise"
                or protocol.degradation["sigma"] <= 0):
            raise UserError(f"anchors {catalog.path}: {row.name}: an expectation is known only "
                            "for the input of a denoising protocol.")
        return anchors.expected_psnr(targets(row.protocol, row.dataset),
                                     protocol.degradation["sigma"])

    compared = []
    for row in rows:
        record = found.get(row.name)
        if row.name in lacking:
            compared += _without(row, lacking[row.name])
        elif record["status"] == "ok":
            try:
                result = record["result"]
                compared += anchors.compare(row, result["mean"], expect, result.get("missing"))
            except Unavailable as error:  # a file has changed since the cell was computed
                compared += _without(row, error)
        else:  # missing weights show only when the cell is computed
            verdict = "SKIP" if row.name in absent else "FAIL"
            compared += anchors.without(row, verdict, record["reason"])
    if only is None:
        _write(catalog, compared, attempt)
    return compared


def _without(row: Anchor, error: Unavailable) -> list[ReferenceCheck]:
    """Skip a row if something is missing; fail it if something is damaged."""
    return anchors.without(row, "FAIL" if isinstance(error, Damaged) else "SKIP", str(error))


def _config(catalog: Anchors, rows: Iterable[Anchor], data_root: str) -> dict:
    """Return the complete config of a run that has exactly the rows' cells."""
    cells: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        cells.setdefault((row.protocol, row.model), []).append(row.dataset)
    used = {model for _, model in cells}
    return configs.check({
        "run": RUN, "title": "Anchors: rows whose figures are known", "data_root": data_root,
        "device": "cpu",
        "metrics": list(metrics.ordered(name for row in rows for name in row.metrics)),
        "catalog_paths": list(catalog.catalog_paths), "plugins": list(catalog.plugins),
        "models": {name: entry for name, entry in catalog.models.items() if name in used},
        "cells": [{"protocol": protocol, "datasets": sets, "models": [model]}
                  for (protocol, model), sets in cells.items()],
    }, f"anchors {catalog.path}", reserved=())


def _plan_of(config: dict, asked: dict[str, tuple[str, ...]], where: str) -> plans.Plan:
    """Plan the rows, each scored with its own metrics only: some cost seconds an image."""
    plan = plans.build(config, where)
    for name, wanted in asked.items():
        job = plan.cells[name]
        others = {f"{other}{records.FILE_OF_METRIC}"
                  for other in set(config["metrics"]) - set(wanted)}
        spec = {key: value for key, value in job.spec.items() if key not in others}
        plan.cells[name] = dataclasses.replace(job, spec={**spec, "metrics": list(wanted)})
    return plan


# -- data --------------------------------------------------------------------------------------

def _obtain(plan: plans.Plan, rows: Iterable[Anchor]) -> dict[str, Unavailable]:
    """Obtain every set that a row needs; return the rows whose set is missing, with the error.

    Each set is tried once, because without a connection the next row would fail in the same way.
    """
    errors: dict[str, Unavailable | None] = {}
    for row in rows:
        if row.dataset in errors:
            continue
        errors[row.dataset] = None
        try:
            entry = plan.entry(row.dataset)
            datasets.open_local(entry, Path(plan.config["data_root"]))
            # a stored record is not valid for a set that has changed since
            if changed := datasets.altered(entry):
                raise Damaged(f"{entry.name}: the files have changed: {messages.some(changed)}. "
                              f"Run: irbench data fetch {entry.name}")
        except Unavailable as error:
            failed = _fetch(plan, row.dataset)
            # a damaged set that cannot be fetched again counts as damaged, not as missing
            errors[row.dataset] = failed and (error if isinstance(error, Damaged) else failed)
    return {row.name: error for row in rows if (error := errors[row.dataset])}


def _fetch(plan: plans.Plan, dataset: str) -> Unavailable | None:
    try:
        obtain.fetch(plan.entry(dataset), Path(plan.config["data_root"]), attempts=1,
                       timeout=10.0)
    except Unavailable as error:
        messages.say(f"{dataset} is not here: {error}")
        return error
    return None


# -- cells -------------------------------------------------------------------------------------

def _compute(plan: plans.Plan, found: dict[str, dict | None], names: list[str],
             jobs: int) -> set[str]:
    """Compute cells, the longest first, store each record and add it to ``found``.

    Returns the cells for which something is missing.
    """
    without = set()
    todo = sorted(names, key=lambda name: -_cost(plan, name))
    messages.say(f"anchors: {len(found)} cells, {len(todo)} to compute")
    with contextlib.closing(_results(plan, todo, jobs)) as results:
        for name, record, absent in messages.track(results, "anchors", len(todo)):
            if absent:
                without.add(name)
            FOLDER.write(record)
            found[name] = record
            if record["status"] != "ok":
                messages.say(f"anchors: {name}: {record['status']}: {record['reason']}")
    return without


def _stored(job: plans.Job) -> dict | None:
    """Return a cell's record if it is finished and its inputs are unchanged."""
    record = FOLDER.load(job.kind, job.key).record
    fresh = record and record["status"] == "ok" and (
        digests.canonical(record["spec"]) == digests.canonical(job.spec))
    return record if fresh else None


def _cost(plan: plans.Plan, name: str) -> int:
    """Estimate how long a cell takes compared with others."""
    job = plan.cells[name]
    data = datasets.open_local(plan.entry(job.key["dataset"]), Path(plan.config["data_root"]))
    size = sum(item.bytes for item in data.role("hr"))
    return size * (100 if job.model.learned else 1)


def _results(plan: plans.Plan, names: list[str],
             jobs: int) -> Iterator[tuple[str, dict, bool]]:
    """Evaluate cells and yield them as they finish (see ``_evaluate``); a crash affects one cell.
    """
    asked = {name: tuple(plan.cells[name].spec["metrics"]) for name in plan.cells}
    if jobs == 1 or len(names) < 2:
        _begin(plan.config, asked)
        for name in names:
            yield name, *_evaluate(name)
        return
    # spawn, because a forked process with threads may hang
    with ProcessPoolExecutor(min(jobs, len(names)), multiprocessing.get_context("spawn"),
                             _begin, (plan.config, asked, life.environment())) as pool:
        futures = {pool.submit(_evaluate, name): name for name in names}
        try:
            for future in as_completed(futures):
                name = futures[future]
                try:
                    yield name, *future.result()
                except BrokenProcessPool:
                    job = plan.cells[name]
                    yield name, record_of(job, Result(status="failed", reason=(
                        "a process was killed from outside (out of memory?); use fewer jobs"
                    ))), False
        except BaseException:  # interrupted: finished cells are stored; do not wait for the rest
            for child in multiprocessing.active_children():
                child.terminate()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_plan: plans.Plan | None = None  # of this process


def _begin(config: dict, asked: dict[str, tuple[str, ...]],
           watched: dict[str, str] | None = None) -> None:
    """Plan the run in this process; ``watched`` (``life.environment``) is given to a worker."""
    global _plan
    if watched:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process ends its workers itself
        os.environ.update(watched)
        life.watch()
    allocator.keep()
    _plan = _plan_of(config, asked, RUN)


def _evaluate(name: str) -> tuple[dict, bool]:
    """Evaluate one cell; errors become a record, too. Also return whether something is missing."""
    job = _plan.cells[name]
    start = time.perf_counter()
    try:
        return record_of(job, evaluate.run(_plan, job)), False
    except Exception as error:
        found = dataclasses.replace(failure(error), seconds={"failed": time.perf_counter() - start})
        absent = isinstance(error, Unavailable) and not isinstance(error, Damaged)
        return record_of(job, found), absent


# -- tables ------------------------------------------------------------------------------------

def _write(catalog: Anchors, compared: list[ReferenceCheck], attempt: int) -> None:
    lines = []
    for c in compared:
        number = [_plain(x) for x in (c.measured, c.expected, c.difference, c.tolerance)]
        reference = c.reference
        lines.append([c.row.protocol, c.row.dataset, c.row.model, reference.metric, number[0],
                      reference.text or number[1], reference.kind, reference.source, number[2],
                      number[3], reference.reason, c.verdict, c.note])
    files.write_atomic(FOLDER.anchors("csv"), tidy.csv_text(COLUMNS, lines))
    files.write_atomic(FOLDER.anchors("md"), markdown(compared))
    files.write_json(FOLDER.anchors("json"), {**anchors.counts(compared), "attempt": attempt,
                                              "fingerprint": fingerprint(catalog)})
    files.write_atomic(FOLDER.anchors_note, "")


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def table(compared: Iterable[ReferenceCheck], style: str = "simple") -> str:
    """Return the comparisons as a text table, followed by the reasons of rows without figures."""
    compared = list(compared)
    lines = [line(c) for c in compared if c.verdict != "SKIP"]
    # a skipped row is one line, however many references it has
    lines += [[name, "", "", "", "", "", "SKIP"]
              for name in dict.fromkeys(c.row.name for c in compared if c.verdict == "SKIP")]
    body = tabulate(lines, HEADS, tablefmt=style, disable_numparse=True,
                    colalign=["left", "left", "right", "left", "right", "right", "left"])
    notes: dict[tuple[str, str], dict[str, None]] = {}
    for c in compared:
        if c.note:
            notes.setdefault((c.verdict, c.note), {})[c.row.name] = None
    return "\n".join([body, *(["", *(_note(*key, list(names)) for key, names in notes.items())]
                              if notes else [])])


def _note(verdict: str, reason: str, names: list[str]) -> str:
    """Name the rows that share a reason, in short; anchors.csv has the full reason."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{verdict} {names[0]}{more}: {textwrap.shorten(reason, 240, placeholder=' ...')}"


def line(c: ReferenceCheck) -> list[str]:
    """Return one comparison in the form of ``HEADS``."""
    places = metrics.get(c.reference.metric).difference_decimals
    known = metrics.leading_zero(c.reference.text) or (
        "" if c.expected is None else f"{c.expected:.{places}f}")
    source = {"published": "printed", "independent": "independent",
              "expectation": "closed form"}[c.reference.kind]

    def shown(value: float | None, more: int = 0) -> str:
        return "" if value is None else f"{value:.{places + more}f}"

    return [c.row.name, c.reference.metric, shown(c.measured), f"{known} {source}".strip(),
            "" if c.difference is None else metrics.signed(c.difference, places),
            shown(c.tolerance, 1), c.verdict]


def markdown(compared: list[ReferenceCheck]) -> str:
    """Return the page ``anchors.md``: the table, then the sources and reasons of tolerances."""
    number = anchors.counts(compared)
    reasons: dict[str, None] = {}
    for c in compared:
        r = c.reference
        reasons[f"{r.kind} ({r.source}), {r.metric}: {r.reason}"] = None
    return "\n".join([
        "# Anchors", "",
        f"{number['pass']} of {number['rows']} rows pass, {number['fail']} fail, "
        f"{number['skip']} skipped. PSNR in dB; difference = measured - reference. `irbench "
        "anchors` writes this page.", "",
        table(compared, "pipe"), "", "Tolerances:", "", *(f"- {reason}" for reason in reasons), ""])


# -- for the workflow --------------------------------------------------------------------------

def fingerprint(catalog: Anchors | None = None) -> str:
    """Return a digest of everything the verdicts depend on: data, code, references, tolerances."""
    catalog = catalog or anchors.load()
    plan = plans.build(_config(catalog, catalog.rows, "data"), f"anchors {catalog.path}")
    return digests.fingerprint({
        "cells": {name: job.fingerprint for name, job in plan.cells.items()},
        "references": [[row.name, *(repr(r) for r in row.references)] for row in catalog.rows],
        "code": code.of_modules("irbench.fidelity.anchors", "irbench.fidelity.anchor_run")})


def is_current() -> bool:
    """Return whether the tables are those of today's data, code, references, with no row left out.
    """
    try:
        last = files.read_json(FOLDER.anchors("json"))
        return last["skip"] == 0 and last["fingerprint"] == fingerprint()
    except (OSError, ValueError, KeyError, TypeError):
        return False


def next_attempt() -> int:
    """Return the number of the next attempt; it grows after each attempt that left rows out."""
    try:
        last = files.read_json(FOLDER.anchors("json"))
        return int(last["attempt"]) + (last["skip"] > 0)
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def processes() -> int:
    """Return how many processes this machine runs at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
