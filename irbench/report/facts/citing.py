"""What a run, or a table of it, has to cite: the keys of ``irbench.catalog.citations``.

These are the papers of its models, of the published methods beside them and of the sources that
print their values, of its test and training sets, and of its metrics. Reads nothing but the
collected run and the catalog.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from irbench.catalog import citations, published
from irbench.core import metrics
from irbench.present.table import MEASURED, Table
from irbench.report.facts import family
from irbench.report.run import Run


@dataclass(frozen=True)
class Cited:
    """What to cite.

    Attributes:
        keys: keys of entries, sorted.
        unknown: names for which irbench has no entry: mostly a user's own.
        uses: what each entry is cited for, in words.
    """

    keys: tuple[str, ...]
    unknown: tuple[str, ...]
    uses: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def bibtex(self) -> str:
        """The entries, each below a comment with its uses."""
        return citations.bibtex(self.keys, self.uses)

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
                  [(row.source, row.method) for row in methods])


def of_table(run: Run, table: Table) -> Cited:
    """Return what a table of methods has to cite."""
    return _cited(run, [(protocol, row.key) for row in table.measured for protocol in table.terms],
                  {column.dataset for column in table.columns},
                  {column.metric for column in table.columns},
                  [(row.source, row.name) for row in table.published])


def in_rows(run: Run, table: Table) -> list[str]:
    """Give the names of rows the keys of the papers of their methods.

    A published row, another group's model and a model of irbench that bears the name of its method
    have them; a model of the user's own has none, although its parts may be other people's.

    Returns the names of the rows that are left without, each once.
    """
    without = {}
    for row in table.rows:
        keys = (_of_method(run, row.key) if row.source == MEASURED else
                citations.keys("methods", row.name))
        row.heads[0].cite = keys or ()
        if not keys:
            without[row.name] = None
    return list(without)


def _of_method(run: Run, name: str) -> tuple[str, ...] | None:
    """Return the keys of a model as ``_of_model``, None for a user's own network or title."""
    spec = run.models[name]
    method = family.REBUILT.get(spec.arch.partition("-")[0])
    if method and not spec.own and method.lower() not in spec.title.lower():
        return None
    return _of_model(run, name)


def _cited(run: Run, models: Iterable[tuple[str, str]], datasets: set[str], scores: set[str],
           printed: Iterable[tuple[str, str]]) -> Cited:
    """Return what some things have to cite.

    Args:
        run: the run.
        models: pairs of a protocol and a model, whose training sets are cited, too.
        datasets: test sets.
        scores: metrics.
        printed: pairs of a source and a published method that it prints.
    """
    trained: dict[str, dict[str, None]] = {}        # set -> titles of models
    sources: dict[str, dict[str, None]] = {}        # source -> methods
    models, printed = list(dict.fromkeys(models)), list(printed)
    for source, method in printed:
        sources.setdefault(source, {})[method] = None
    for protocol, model in models:
        for name in run.trained_on.get((protocol, model)) or ():
            trained.setdefault(name, {})[run.model_title(model)] = None
    found = [
        *((run.dataset_title(name), citations.keys("datasets", name), " and ".join([
            *["test set"] * (name in datasets),
            *(f"training data of {', '.join(titles)}" for titles in [trained.get(name)] if titles),
        ])) for name in sorted({*datasets, *trained})),
        *((metrics.get(name).title, citations.keys("metrics", name), "metric")
          for name in sorted(scores)),
        *((source, citations.keys("sources", source), f"printed values of {', '.join(methods)}")
          for source, methods in sorted(sources.items())),
        *((method, citations.keys("methods", method), "published method")
          for method in sorted({method for _, method in printed})),
        *((run.model_title(name), _of_model(run, name), "model")
          for name in dict.fromkeys(name for _, name in models))]
    uses: dict[str, dict[str, None]] = {}
    for name, keys, why in found:
        for key in keys or ():
            uses.setdefault(key, {})[f"{name} ({why})"] = None
    return Cited(tuple(sorted(uses)),
                 tuple(dict.fromkeys(name for name, keys, _ in found if keys is None)),
                 {key: tuple(whys) for key, whys in uses.items()})


def _of_model(run: Run, name: str) -> tuple[str, ...] | None:
    """Return the keys of a model: of its peer or architecture, or else of its published method."""
    spec = run.models[name]
    peer = spec.checkpoint.peer or (None if spec.own else spec.arch)
    found = citations.keys("models", peer) if peer else None
    if found is None and spec.published_as:
        found = citations.keys("methods", spec.published_as)
    return found
