"""What a run, or a table of it, has to cite: the keys of ``irbench.catalog.citations``.

These are the papers of its models, of the published methods beside them and of the sources that
print their values, of its test and training sets, and of its metrics. Reads nothing but the
collected run and the catalog.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from irbench.catalog import citations, published
from irbench.core import metrics
from irbench.present.table import Table
from irbench.report.run import Run


@dataclass(frozen=True)
class Cited:
    """What to cite.

    Attributes:
        keys: keys of entries, sorted.
        unknown: names for which irbench has no entry: mostly a user's own.
    """

    keys: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def bibtex(self) -> str:
        """The entries."""
        return citations.bibtex(self.keys)

    @property
    def remark(self) -> str:
        """A sentence about what is left to the user, "" if nothing is."""
        return (f"irbench has no BibTeX entry for {', '.join(self.unknown)}."
                if self.unknown else "")


def of_run(run: Run) -> Cited:
    """Return what the report of a run has to cite."""
    shown = {}
    for cell in run.cells:
        if not cell.synthetic:
            shown.setdefault(cell.task, set()).add((cell.level, cell.dataset))
    methods = [row for task, pairs in shown.items()
               for row in published.rows(task, pairs, run.published, run.figures)]
    names = [*((cell.protocol, cell.model) for cell in run.cells), *run.profiles]
    return _cited(run, names, {cell.dataset for cell in run.cells},
                  {*run.metrics, *(metric for cell in run.cells for metric in cell.metrics)},
                  {row.method for row in methods}, {row.source for row in methods})


def of_table(run: Run, table: Table) -> Cited:
    """Return what a table of methods has to cite."""
    return _cited(run, [(column.protocol, row.key) for row in table.measured
                        for column in table.columns],
                  {column.dataset for column in table.columns},
                  {column.metric for column in table.columns},
                  {row.name for row in table.published}, {row.source for row in table.published})


def _cited(run: Run, models: Iterable[tuple[str, str]], datasets: set[str], scores: set[str],
           methods: set[str], sources: set[str]) -> Cited:
    """``models``: pairs of a protocol and a model, whose training sets are cited, too."""
    models = list(dict.fromkeys(models))
    trained = {name for pair in models for name in run.trained_on.get(pair) or ()}
    known = {
        **{run.dataset_title(name): citations.keys("datasets", name)
           for name in sorted(datasets | trained)},
        **{metrics.get(name).title: citations.keys("metrics", name) for name in sorted(scores)},
        **{source: citations.keys("sources", source) for source in sorted(sources)},
        **{method: citations.keys("methods", method) for method in sorted(methods)},
        **{run.model_title(name): _of_model(run, name)
           for name in dict.fromkeys(name for _, name in models)}}
    return Cited(tuple(sorted({key for keys in known.values() for key in keys or ()})),
                 tuple(name for name, keys in known.items() if keys is None))


def _of_model(run: Run, name: str) -> tuple[str, ...] | None:
    """Return the keys of a model: of its peer or architecture, or else of its published method."""
    spec = run.models[name]
    peer = spec.checkpoint.peer or (None if spec.own else spec.arch)
    found = citations.keys("models", peer) if peer else None
    if found is None and spec.published_as:
        found = citations.keys("methods", spec.published_as)
    return found
