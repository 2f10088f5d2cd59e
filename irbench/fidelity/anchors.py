"""Anchors: rows with known figures, which test only the pipeline.

Reads   ``catalog/anchors.yaml`` (rows, references, tolerances with their reasons) and, for
        published figures, ``catalog/published.csv``: no printed figure is stored twice.
Writes  nothing; ``irbench.fidelity.anchor_run`` computes the cells and writes the tables.

A row passes if the measured figures agree with all its references. The expected PSNR of noisy
inputs, for which no source prints a figure, is computed in closed form from the pixels of the set.

Try: ``irbench anchors --list``
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from irbench.catalog import protocols, published, reader
from irbench.core import metrics
from irbench.core.errors import UserError, unknown

CATALOG = reader.BUILTIN / "anchors.yaml"
KEYS = {"models", "references", "rows", "figures", "catalog_paths", "plugins"}
# kind of reference -> the field that its tolerance is computed from, and optional fields
KINDS = {"published": ("spread", {"decimals"}), "independent": ("within", set()),
         "expectation": ("errors", set())}


@dataclass(frozen=True)
class Reference:
    """A known figure of a row, and how far a measured figure may differ from it.

    Attributes:
        kind: published, independent or expectation.
        source: its origin, for people.
        metric: one of irbench's own metrics.
        text: the figure as given; "" for an expectation, which is computed from the images.
        tolerance: in the metric's unit; for an expectation the number of standard errors.
        reason: the reason for this tolerance.
    """

    kind: str
    source: str
    metric: str
    text: str
    tolerance: float
    reason: str


@dataclass(frozen=True)
class Anchor:
    """A cell with references."""

    protocol: str
    dataset: str
    model: str
    references: tuple[Reference, ...]

    @property
    def name(self) -> str:
        """The name of the cell: PROTOCOL/DATASET/MODEL."""
        return f"{self.protocol}/{self.dataset}/{self.model}"

    @property
    def metrics(self) -> tuple[str, ...]:
        """What the cell is scored with: PSNR, SSIM, and the other metrics of its references."""
        return metrics.ordered({*metrics.main(), *(one.metric for one in self.references)})


@dataclass(frozen=True)
class Anchors:
    """A file of anchors: its rows, and what a config needs to compute them."""

    path: Path
    rows: tuple[Anchor, ...]
    models: dict[str, dict]
    catalog_paths: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()

    def select(self, pattern: str | None) -> list[Anchor]:
        """Return the rows whose name contains a text or matches a pattern with ``*``.

        Raises UserError if there are none.
        """
        names = [row.name for row in self.rows]
        found = [row for row in self.rows
                 if pattern is None or fnmatchcase(row.name, f"*{pattern}*")]
        if not found:
            raise UserError(f"--only {pattern}: no anchor has such a name. A name is "
                            f"PROTOCOL/DATASET/MODEL, e.g. {names[0]}; a part of it suffices.")
        return found


@dataclass(frozen=True)
class ReferenceCheck:
    """The comparison of one reference with the measured figure; unknown numbers are None."""

    row: Anchor
    reference: Reference
    measured: float | None
    expected: float | None
    tolerance: float | None
    verdict: str
    note: str = ""

    @property
    def difference(self) -> float | None:
        """Measured minus expected, in the metric's unit."""
        if self.measured is None or self.expected is None:
            return None
        return self.measured - self.expected


# -- the catalog -------------------------------------------------------------------------------

@functools.cache
def load(path: Path = CATALOG) -> Anchors:
    """Read a file of anchors.

    Raises:
        UserError: not readable, an unknown key or name, a tolerance without a reason, or a
            published figure that is missing in published.csv.
    """
    content = reader.sections(path, sorted(KEYS), "a file of anchors")
    sections = {key: content.get(key) or {} for key in ("models", "references", "figures")}
    for name, reference in sections["references"].items():
        _check_reference(f"{path}: references: {name}", reference)
    figures = {}
    for name, values in sections["figures"].items():
        if sections["references"].get(name, {}).get("kind") != "independent":
            raise UserError(f"{path}: figures: {name!r} is not a reference of kind independent.")
        if not isinstance(values, dict) or not all(isinstance(v, dict) for v in values.values()):
            raise UserError(f"{path}: figures: {name}: valid is a mapping from PROTOCOL/DATASET/"
                            "MODEL to {psnr: '33.678', ssim: '.9304'}.")
        for row, given in values.items():
            figures.setdefault(row, []).append((sections["references"][name], given))
    lists = {key: tuple(content.get(key) or ()) for key in ("catalog_paths", "plugins")}
    rows = {}
    for i, group in enumerate(content.get("rows") or []):
        for row in _rows(f"{path}: rows[{i}]", group, sections, figures, lists["catalog_paths"]):
            if row.name in rows:
                raise UserError(f"{path}: rows[{i}]: {row.name} already exists.")
            rows[row.name] = row
    if not rows:
        raise UserError(f"{path}: the file has no rows.")
    for name in figures:
        if name not in rows:
            raise unknown("row", name, rows, f"{path}: figures")
    return Anchors(Path(path), tuple(rows.values()), sections["models"], **lists)


def _check_reference(where: str, entry: object) -> None:
    if not isinstance(entry, dict) or entry.get("kind") not in KINDS:
        raise UserError(f"{where}: needs a kind. Valid: {', '.join(KINDS)}.")
    names = {"kind", "tolerance"} | ({"source", "method"} if entry["kind"] == "published"
                                     else {"title"})
    _keys(where, entry, names)
    size, more = KINDS[entry["kind"]]
    for metric, tolerance in entry["tolerance"].items():
        if metric not in metrics.BUILT_IN:
            raise unknown("metric", metric, metrics.BUILT_IN, f"{where}: tolerance")
        _keys(f"{where}: tolerance: {metric}", tolerance, {size, "reason"}, more)
        if not isinstance(tolerance[size], int | float) or tolerance[size] < 0:
            raise UserError(f"{where}: tolerance: {metric}: {size} is {tolerance[size]!r}; valid: "
                            "a non-negative number.")


def _keys(where: str, entry: object, needed: set[str], more: Iterable[str] = ()) -> None:
    if not isinstance(entry, dict) or not needed <= set(entry) <= needed | set(more):
        raise UserError(f"{where}: valid is a mapping with {', '.join(sorted(needed))}"
                        f"{' and perhaps ' + ', '.join(more) if more else ''}.")


def _rows(where: str, group: object, sections: dict, figures: dict,
          catalog_paths: tuple[str, ...]) -> Iterable[Anchor]:
    """Expand a group: one row for each protocol and dataset."""
    _keys(where, group, {"protocols", "datasets", "model", "references"})
    if group["model"] not in sections["models"]:
        raise unknown("model", group["model"], sections["models"], where)
    for name in group["references"]:
        if name not in sections["references"]:
            raise unknown("reference", name, sections["references"], where)
    for protocol in group["protocols"]:
        # with its version, because a changed convention has other figures
        if protocol not in protocols.catalog(catalog_paths):
            raise unknown("protocol", protocol, protocols.catalog(catalog_paths), where)
        for dataset in group["datasets"]:
            name = f"{protocol}/{dataset}/{group['model']}"
            found = [r for entry, given in figures.get(name, [])
                     for r in _given(f"{where}: {name}", entry, given)]
            for key in group["references"]:
                entry = sections["references"][key]
                found += (_printed(where, entry, protocols.get(protocol, catalog_paths), dataset)
                          if entry["kind"] == "published" else _computed(entry))
            if not found:
                raise UserError(f"{where}: {name} has no reference to be compared with.")
            yield Anchor(protocol, dataset, group["model"], tuple(found))


def _given(where: str, entry: dict, figures: dict) -> Iterable[Reference]:
    for metric, text in figures.items():
        if metric not in entry["tolerance"]:
            raise unknown("metric", metric, entry["tolerance"], f"{where} (with a tolerance)")
        try:
            float(text)
        except (TypeError, ValueError):
            raise UserError(f"{where}: {metric} is {text!r}; valid: a number.") from None
        tolerance = entry["tolerance"][metric]
        yield Reference("independent", entry["title"], metric, str(text), tolerance["within"],
                        tolerance["reason"])


def _computed(entry: dict) -> Iterable[Reference]:
    for metric, tolerance in entry["tolerance"].items():
        yield Reference("expectation", entry["title"], metric, "", tolerance["errors"],
                        tolerance["reason"])


def _printed(where: str, entry: dict, protocol: protocols.Protocol,
             dataset: str) -> list[Reference]:
    """Look up the printed figures of a row. Raises UserError if published.csv has none."""
    found = []
    for metric, tolerance in entry["tolerance"].items():
        key = (entry["source"], protocol.task, protocol.level, dataset, entry["method"], metric)
        if (figure := _figures().get(key)) is None:
            continue
        if other := published.other_version(figure, protocol.id):
            raise UserError(f"{where}: {figure.text} of {entry['method']!r} on {dataset} is "
                            f"{other}.")
        text = figure.text
        places = min(metrics.decimals(text), tolerance.get("decimals", 99))
        found.append(Reference("published", entry["source"], metric, text,
                               0.5 * 10.0**-places + tolerance["spread"], tolerance["reason"]))
    if not found:
        raise UserError(f"{where}: published.csv has no figure of {entry['method']!r} by "
                        f"{entry['source']!r} for {protocol.id} on {dataset}.")
    return found


@functools.cache
def _figures() -> dict[tuple[str, ...], published.Figure]:
    return {(f.source, published.TABLE_OF.get(f.task, f.task), f.level, f.dataset,
             f.method, f.metric): f for f in published.load()}


# -- verdicts ----------------------------------------------------------------------------------

def compare(row: Anchor, means: dict[str, float | None], expect=None,
            missing: dict[str, str] | None = None) -> list[ReferenceCheck]:
    """Compare a row's mean scores with its references.

    Args:
        row: the row.
        means: metric -> mean over the set, None if it is missing.
        expect: returns (figure, standard error) for a reference of kind expectation.
        missing: metric -> why it has no mean. Without its weights its references are skipped.
    """
    found = []
    for reference in row.references:
        measured, why = means.get(reference.metric), (missing or {}).get(reference.metric)
        if measured is None and why and metrics.get(reference.metric).weights:
            found += without(replace(row, references=(reference,)), "SKIP", why)
        else:
            found.append(_compare(row, reference, measured, expect))
    return found


def _compare(row: Anchor, reference: Reference, measured: float | None, expect) -> ReferenceCheck:
    if reference.kind == "expectation":
        figure, error = expect(row)
        tolerance = reference.tolerance * error
    else:
        figure, tolerance = float(reference.text), reference.tolerance
    if measured is None:
        return ReferenceCheck(row, reference, None, figure, tolerance, "FAIL",
                              "the mean is missing")
    # the last term: a difference of exactly the tolerance passes despite binary rounding
    good = abs(measured - figure) <= tolerance + 1e-9
    return ReferenceCheck(row, reference, measured, figure, tolerance, "PASS" if good else "FAIL")


def without(row: Anchor, verdict: str, why: str) -> list[ReferenceCheck]:
    """Return the comparisons of a row without measurement: SKIP or FAIL, with the reason."""
    return [ReferenceCheck(row, r, None, float(r.text) if r.text else None,
                       r.tolerance if r.text else None, verdict, why) for r in row.references]


def counts(comparisons: Iterable[ReferenceCheck]) -> dict[str, int]:
    """Count rows: one passes if all its references hold, and fails if one does not."""
    verdicts: dict[str, set[str]] = {}
    for c in comparisons:
        verdicts.setdefault(c.row.name, set()).add(c.verdict)
    return {"rows": len(verdicts),
            "pass": sum(v == {"PASS"} for v in verdicts.values()),
            "fail": sum("FAIL" in v for v in verdicts.values()),
            "skip": sum("SKIP" in v and "FAIL" not in v for v in verdicts.values())}


# -- the expected PSNR of noisy inputs ---------------------------------------------------------

@functools.cache
def error_moments(sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Return E[e^2] and E[e^4], (256,) each, of e = round(clip(v + n)) - v with n ~ N(0, sigma).

    v = 0..255 is the clean level, sigma > 0 the noise in levels. The noisy image has level k with
    the probability of (k - 0.5, k + 0.5); levels 0 and 255 include the tails.
    """
    # the distribution function at k - v + 0.5 for k - v from -256 to 255
    below = np.array([0.5 * math.erfc(-(d + 0.5) / (sigma * math.sqrt(2)))
                      for d in range(-256, 256)])
    v, k = np.arange(256)[:, None], np.arange(256)[None]
    upper = np.where(k == 255, 1.0, below[k - v + 256])
    lower = np.where(k == 0, 0.0, below[k - v + 255])
    error = (k - v).astype(np.float64)
    return (((upper - lower) * error**2).sum(axis=1), ((upper - lower) * error**4).sum(axis=1))


def expected_psnr(targets: Iterable[np.ndarray], sigma: float) -> tuple[float, float]:
    """Return the expected mean PSNR (dB) of noisy images, and its standard error (dB).

    Noise of ``sigma`` levels is added to clean uint8 images; the sum is clipped and rounded to
    uint8. With N values, E the mean and V the variance of their squared errors, PSNR has the mean
    10 log10(255^2 / E) + (10 / ln 10) V / (2 N E^2) and the standard error
    (10 / ln 10) sqrt(V / N) / E, to first order. The error of the mean over images is set to the
    mean of their errors. This is an upper bound, needed because images with the same seed share
    noise.
    """
    second, fourth = error_moments(sigma)
    values, errors = [], []
    for target in targets:
        count = np.bincount(target.reshape(-1), minlength=256)
        n = count.sum()
        mean = (count @ second) / n
        variance = (count @ (fourth - second**2)) / n**2
        to_db = 10 / math.log(10)
        values.append(10 * math.log10(255**2 / mean) + to_db * variance / (2 * mean**2))
        errors.append(to_db * math.sqrt(variance) / mean)
    return math.fsum(values) / len(values), math.fsum(errors) / len(errors)
