"""A user's own metrics: Python files, read without being imported.

A file holds a literal ``METRICS`` and the functions that it names, as a file of models holds
``CARDS``. A config names the files under ``metric_plugins``, and the metrics under ``metrics``::

    METRICS = {"mae": {"title": "MAE", "unit": "levels", "decimals": 3, "direction": "lower",
                       "range": [0, 255], "function": "mae", "on": "planes"}}

    def mae(restored, target):
        return abs(restored - target).mean()

An entry's fields:
    title       the printed name, one line of text
    function    the function of the file that computes it, ``function(restored, target)``; without a
                reference ``function(restored)``. It returns a number, or None where it is undefined
    on          (optional) ``image``, the default: float64 (H, W, C), whole numbers in [0, 255],
                without the protocol's border; ``uint8``: the same as uint8, in which differences
                below 0 wrap around (3 - 5 = 254); or ``planes``: float64 (H, W, C') in [0, 255],
                what PSNR is computed on
    weights     (optional) a file that the function needs, relative to the Python file; a metric
                without it is unavailable, and changed weights make its results outdated
    reference, unit, decimals, direction, range, noise, tolerance, source, ...
                (optional) see ``irbench.core.metrics.Metric``

Try: ``python -c "from irbench.imaging import metric_plugins; print(metric_plugins.read('m.py'))"``
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from irbench.core import plugin_files
from irbench.core.errors import UserError, unknown
from irbench.core.files import expanded

INPUTS = ("image", "uint8", "planes")
PLUGIN = "metric_plugins:"   # in messages


@dataclass(frozen=True)
class MetricCard:
    """An entry of a file: how a metric is computed, and in ``row`` what is printed of it."""

    name: str
    path: Path
    function: str
    on: str = "image"
    weights: Path | None = None
    row: dict = field(default_factory=dict)

    @property
    def reference(self) -> bool:
        """Whether the function takes the target, too."""
        return self.row.get("reference", True) is not False

    def load(self) -> Callable:
        """Import the file and return the function.

        Raises UserError if the file cannot be imported or lacks the function.
        """
        module = plugin_files.load(self.path, PLUGIN)
        function = getattr(module, self.function, None)
        if not callable(function):
            raise UserError(f"{self.path}: METRICS names the function {self.function!r} for "
                            f"{self.name!r}, which the file does not define.")
        return function


def read(path: str | Path) -> dict[str, MetricCard]:
    """Return the metrics of a file by name, without importing it.

    Raises:
        UserError: the file cannot be read, or its METRICS is missing or not of the right form.
    """
    path = expanded(path).resolve()
    return {name: _card(f"{PLUGIN} {path}", path, name, fields)
            for name, fields in plugin_files.table(path, "METRICS", PLUGIN).items()}


def _card(where: str, path: Path, name: str, fields: dict) -> MetricCard:
    place = f"{where}: metric {name!r}"
    for key in ("title", "function"):
        if not isinstance(fields.get(key), str):
            raise UserError(f"{place}: {key} is {fields.get(key)!r}; it takes a text.")
    if fields.get("on", "image") not in INPUTS:
        raise unknown("value of on", fields["on"], INPUTS, place)
    weights = fields.get("weights")
    if weights is not None and not isinstance(weights, str):
        raise UserError(f"{place}: weights is {weights!r}; it takes the path of a file.")
    row = {key: value for key, value in fields.items() if key not in ("function", "on", "weights")}
    return MetricCard(name, path, fields["function"], fields.get("on", "image"),
                      weights and path.parent / expanded(weights),
                      {"name": name, **row, **({"weights": True} if weights else {})})
