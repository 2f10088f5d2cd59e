"""``irbench.load_run``: the results of a run as data frames.

Reads the records below the run's folder and plans its config; writes nothing. Results that were
made from other inputs than the run has now are shown, with the status ``outdated``.

Try: ``python -c "import irbench; print(irbench.load_run('results/photos').cells)"``
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from irbench.core import machine, statistics
from irbench.core.errors import UserError
from irbench.core.files import expanded
from irbench.core.run_folder import RunFolder, Stored, parts
from irbench.jobs import verify

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("cell", "profile", "training")
OUTDATED = "outdated"
DAMAGED = "damaged"     # the status of a record that cannot be read
NO_TRAINING = {"checkpoint": {"file": "", "sha256": None}}     # gives the columns of a result


@dataclass(frozen=True)
class LoadedRun:
    """A run's results; each attribute is a pandas data frame, read on first use.

    All but ``images`` have one row per record, with ``status`` (ok, outdated, unavailable, failed,
    paused, or damaged for a file that cannot be read), ``reason`` (what changed since the result
    was made, or why there is none) and ``record`` (the path of the file). Values that a record
    lacks are missing (NaN).

    Attributes:
        path: the run's folder.
        stored: whether all results count as they are stored; then none is ``outdated``.
    """

    path: Path
    stored: bool = False

    @functools.cached_property
    def cells(self) -> pd.DataFrame:
        """One row per cell: protocol, dataset, model, count of images, and the mean of each metric.

        Means are in the metrics' units (PSNR in dB).
        """
        return self._frame("cell", _cell)

    @functools.cached_property
    def images(self) -> pd.DataFrame:
        """One row per image of a cell: protocol, dataset, model, name, height, width, scores.

        ``status`` is ok, or outdated like that of its cell.
        ``file`` is the picture's path in the run's folder, missing if the run keeps none.
        """
        import pandas as pd

        # the digests of the pictures are for `irbench verify`
        rows = [{**stored.key, **{name: image[name] for name in image if name != "kept"},
                 "status": self._status(stored)}
                for stored in self._stored("cell") if stored.record and stored.record["result"]
                for image in stored.record["result"]["images"]]
        return pd.DataFrame(rows, columns=None if rows else [*parts("cell"), "name", "status"])

    @functools.cached_property
    def profiles(self) -> pd.DataFrame:
        """One row per profile: protocol, model and its cost.

        ``parameters``; ``macs``; ``latency_ms`` (median), ``latency_ms_p90`` and
        ``latency_ms_p99`` (percentiles; unknown from fewer than 64 and 662 samples);
        ``latency_disturbed`` (whether other processes kept cores busy); ``peak_memory_bytes``;
        ``height``, ``width`` and ``batch`` of the input;
        ``device``, ``dtype`` and ``threads``.
        """
        return self._frame("profile", _profile, _profile({}))

    @functools.cached_property
    def trainings(self) -> pd.DataFrame:
        """One row per training: protocol (of a blind one its scope), model and its outcome.

        ``steps``, ``seconds``, ``final_loss``, ``best_psnr`` (dB, on the validation images) and
        ``best_step``, ``parameters``, ``checkpoint`` (path) and ``sha256`` of the weights.
        """
        return self._frame("training", self._training, self._training(NO_TRAINING))

    @functools.cached_property
    def _outdated(self) -> dict[str, str]:
        """Place of each outdated record -> what changed; a copied folder has no present inputs."""
        found = {} if self.stored else verify.outdated_of(self.path).reasons
        if found:
            place, reason = next(iter(found.items()))
            warnings.warn(f"{self.path}: {len(found)} results are outdated ({place}: {reason}). "
                          "Their status says so; run the workflow again.", stacklevel=4)
        return found

    def _status(self, stored: Stored) -> str:
        if stored.record is None:
            return DAMAGED
        return OUTDATED if stored.place in self._outdated else stored.record["status"]

    def _stored(self, kind: str) -> Iterator[Stored]:
        return RunFolder(self.path).each(kind)

    def _frame(self, kind: str, values: Callable[[dict], dict],
               always: Iterable[str] = ()) -> pd.DataFrame:
        """Return a row per record; the columns ``always`` are there even without a result."""
        import pandas as pd

        rows = []
        for stored in self._stored(kind):
            record = stored.record or {"reason": stored.problem, "result": None}
            rows.append({**stored.key, "status": self._status(stored),
                         "reason": self._outdated.get(stored.place) or record["reason"] or "",
                         **(values(record["result"]) if record["result"] else {}),
                         "record": str(self.path / stored.place)})
        columns = dict.fromkeys([*parts(kind), "status", "reason", *always,
                                 *(name for row in rows for name in row if name != "record"),
                                 "record"])
        return pd.DataFrame(rows, columns=list(columns))

    def _training(self, result: dict) -> dict:
        best, weights = result.get("best") or {}, result["checkpoint"]
        return {**_some(result, "steps", "seconds", "final_loss", "parameters", "device"),
                "best_psnr": best.get("psnr"), "best_step": best.get("step"),
                "checkpoint": str(self.path / weights["file"]), "sha256": weights["sha256"]}


def load_run(path: str | Path, *, stored: bool = False) -> LoadedRun:
    """Return the results of a run.

    A result is ``outdated`` if the run's model, code, weights, data or metrics changed since, as
    ``irbench status`` says. This is not known of a copied folder, or without the run's config.

    Args:
        path: the run's folder, such as ``results/photos``.
        stored: take all results as they are stored, and do not ask what changed since.

    Returns:
        ``cells``, ``images``, ``profiles`` and ``trainings``, each a data frame.

    Raises:
        UserError: no such folder, or one without records.
    """
    folder = RunFolder(expanded(path))
    if not any(folder.has(kind) for kind in KINDS):
        what = "it has no records" if folder.path.is_dir() else "no such folder"
        raise UserError(f"run {path}: {what}. Give the folder of a run, such as results/photos.")
    return LoadedRun(folder.path, stored)


def _cell(result: dict) -> dict:
    return {"count": len(result["images"]), **result["mean"], "device": result.get("device")}


def _profile(result: dict) -> dict:
    latency, given = result.get("latency_ms") or {}, result.get("input") or {}
    samples = latency.get("samples") or []
    return {**_some(result, "parameters", "macs"), "latency_ms": latency.get("p50"),
            **{f"latency_ms_p{percent}": statistics.percentile(samples, percent)
               for percent in (90, 99)},
            "latency_disturbed": bool(machine.busy(latency.get("busy_elsewhere"))),
            **_some(result, "peak_memory_bytes"),
            **_some(given, "height", "width", "batch"),
            **_some(result, "device", "dtype", "threads")}


def _some(values: dict, *names: str) -> dict:
    return {name: values.get(name) for name in names}
