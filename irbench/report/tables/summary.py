"""summary.csv: one line per planned cell, for spreadsheets and scripts.

Reads nothing but the collected run. Unknown values are empty; numbers are unrounded. A column name
ends with the unit; without a unit it is a count or an index (SSIM, LPIPS). Default metrics always
have a column, other metrics only if the run has them. The origin of a number is in ``record``,
``profile_record`` or ``training_record`` (below the run folder), or in ``published_source``.

Try: ``irbench report``
"""

from __future__ import annotations

from irbench.core import metrics, statistics
from irbench.present import text
from irbench.present.tidy import csv_text
from irbench.report.facts import family, kinds, verdict
from irbench.report.run import Cell, Run

ABOUT = ("protocol", "task", "level", "version", "dataset", "model", "title", "source")
REST = (
    "n_images", "status", "reason", "missing", "parameters", "macs", "macs_input",
    "latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "latency_device", "training_steps",
    "training_device", "in_paper", "published_psnr_db", "psnr_difference_db",
    "published_method", "published_source", "verdict", "seed_of", "seed", "seeds",
    "psnr_mean_of_seeds_db", "psnr_spread_of_seeds_db", "leaked_images", "synthetic", "base",
    "changes", "inference", "tiled_images", "macs_keys_only", "fingerprint", "record",
    "profile_record", "training_record")


def summary(run: Run) -> str:
    """Return summary.csv: one line per planned cell; unknown is empty, numbers are unrounded.

    A variant has no verdict, because no paper prints values for it. Of several seeds of a training
    each has its line; the first with a result also has the mean over them, which its verdict and
    difference are of.
    """
    scores = [metrics.get(name) for name in metrics.ordered(
        {*metrics.default(), *(name for cell in run.cells for name in cell.metrics)})]
    fields = (*ABOUT, *(one.column() for one in scores), *REST)
    lines = []
    rows = {row.path: row for row in run.rows if row.seeds}
    verdicts = verdict.by_cell(verdict.all_verdicts(run))
    for cell in run.cells:
        profile = run.profiles.get((cell.protocol, cell.model))
        measured = profile.result if profile else {}
        latency = measured.get("latency_ms") or {}
        training = run.training_of(cell.protocol, cell.model) or {}
        values = {
            "protocol": cell.protocol, "task": cell.task, "level": cell.level,
            "version": cell.version, "dataset": cell.dataset, "model": cell.model,
            "title": run.model_title(cell.model), "source": "measured",
            **{one.column(): _number(cell.means.get(one.name)) for one in scores},
            "n_images": len(cell.images) if cell.status == "ok" else "",
            "status": cell.status, "reason": cell.reason,
            "missing": "; ".join(f"{m}: {why}" for m, why in cell.missing.items()),
            "parameters": _number(run.parameters(cell.protocol, cell.model)),
            "macs": _number(measured.get("macs")),
            "macs_input": text.input_size(measured["input"]) if measured.get("input") else "",
            "latency_p50_ms": _number(latency.get("p50")),
            **{f"latency_p{percent}_ms": _number(statistics.percentile(
                latency.get("samples") or [], percent)) for percent in (90, 99)},
            "latency_device": measured.get("device_name") or measured.get("device") or "",
            "training_steps": _number(training.get("steps")),
            "training_device": training.get("device") or "",
            "in_paper": str(run.models[cell.model].in_paper).lower(),
            **_against(run, cell, verdicts.get(cell.path)),
            "leaked_images": _number(_leaked(run, cell)),
            "synthetic": str(cell.synthetic).lower(),
            "base": run.models[cell.model].base or "",
            **_seeds(run, cell, rows.get(cell.path)),
            "changes": family.changes(run.models[cell.model]),
            # as recorded; records without this key were made in float32
            "inference": family.way(cell.result),
            "tiled_images": _number(_tiled(cell)),
            "macs_keys_only": _number(measured.get("macs_keys_only")),
            "fingerprint": cell.record["fingerprint"] if cell.record else "",
            "record": cell.path,
            "profile_record": profile.path if profile and profile.record else "",
            "training_record": _training(run, cell),
        }
        lines.append([values[name] for name in fields])
    return csv_text(fields, lines)


def _seeds(run: Run, cell: Cell, row: Cell | None) -> dict[str, object]:
    """Return which seed of a training a cell is; with ``row`` also the figures over all seeds."""
    spec = run.models[cell.model]
    return {"seed_of": spec.seed_of or "", "seed": spec.seed or (1 if spec.training else ""),
            "seeds": len(row.of("psnr")) if row else "",
            "psnr_mean_of_seeds_db": _number(row.means.get("psnr")) if row else "",
            "psnr_spread_of_seeds_db": _number(row.spread.get("psnr")) if row else ""}


def _against(run: Run, cell: Cell, found: verdict.Verdict | None) -> dict[str, str]:
    """Return the columns on the published PSNR; they are empty without a result."""
    if found is None:
        spec = run.models[cell.model]
        comparable = "psnr" in cell.means and kinds.competes(spec) and not kinds.is_repeat(spec)
        word = verdict.NOTHING if comparable and run.published != "none" else ""
        return {"published_psnr_db": "", "psnr_difference_db": "", "published_method": "",
                "published_source": "", "verdict": word}
    apart = "" if found.word == verdict.NOT_COMPARABLE else _number(round(found.difference, 4))
    return {"published_psnr_db": found.figure.shown, "psnr_difference_db": apart,
            "published_method": found.figure.method, "published_source": found.figure.source,
            "verdict": found.as_shown}


def _training(run: Run, cell: Cell) -> str:
    """Return the record of the training in this run that made the weights of a cell, or ""."""
    job = run.training(cell.protocol, cell.model)
    return job.path if job and job.record else ""


def _leaked(run: Run, cell: Cell) -> int | None:
    """Return how many images of the test set were used in training; None if unknown."""
    sets = run.trained_on.get((cell.protocol, cell.model))
    return run.leaks.count(sets, cell.dataset) if sets else None


def _tiled(cell: Cell) -> int | None:
    """Return how many images were restored in tiles; None where the record does not say."""
    if "tiling" not in cell.result:
        return None
    return (cell.result["tiling"] or {}).get("images", 0)


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)
