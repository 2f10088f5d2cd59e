"""The dictionary table: do tokens attend to similar tokens, or to the same few keys everywhere?

Per stage of a network: the share of tokens that are among their own keys, the share of tokens that
are a key of any token, and the share of keys that the previous stage chose too. From profiles
(weights as initialised) and from cells (the weights whose values the report shows, first image).
Reads nothing but the collected run; the table goes to ``tables/dictionary.{md,tex,csv}``.
"""

from __future__ import annotations

from irbench.present import text
from irbench.present.table import Column, Table, Value
from irbench.report.facts import family
from irbench.report.run import Run

STEM = "dictionary"
FIGURES = {"self": "own key", "used": "used as key", "overlap": "kept from before"}
FIELDS = ("model", "protocol", "source", "dataset", "measured_on", "weights", "stage", "n", "k",
          "self_selection", "used", "overlap_with_previous", "record")
FOLD = 30                       # rows that the page shows unfolded


def sheet(run: Run) -> Table | None:
    """Return the table, None if no record holds a dictionary."""
    found = list(_found(run))
    if not found:
        return None
    order = list(family.ordered(run.models))
    found.sort(key=lambda one: (order.index(one[0]), one[1]))
    stages = max(len(entries) for *_, entries, _ in found)
    made = Table(STEM, "Health of the key-semantic dictionaries", [Column("Model", left=True)], [
        Column("Protocol", left=True), Column("Measured on", left=True),
        Column("N"), Column("k"), Column("Share", left=True),
        *(Column(str(i + 1), ("Stage",)) for i in range(stages))], FIELDS)
    names: dict[tuple[str, ...], dict[str, None]] = {}
    for model, protocol, source, dataset, on, weights, entries, path in found:
        names.setdefault(tuple(str(e.get("stage")) for e in entries), {})[
            run.model_title(model)] = None
        for figure, label in FIGURES.items():
            first = figure == "self"
            made.add([
                Value(run.model_title(model) if first else "", sub=weights if first else ""),
                Value(protocol if first else ""), Value(on if first else ""),
                *(Value(_values(entries, key) if first else "") for key in ("n", "k")),
                Value(label),
                *(_share(made, entry, figure, path) for entry in entries),
                *(Value(text.NONE) for _ in range(stages - len(entries)))])
        made.lines += [[model, protocol, source, dataset, on, weights, e.get("stage"), e.get("n"),
                        e.get("k"), e.get("self"), e.get("used"), e.get("overlap"), path]
                       for e in entries]
    made.folded = len(made.rows) > FOLD
    made.sentences = [
        "Shares per stage, in the order of the network. Own key: tokens that are among their own k "
        "keys. Used as key: tokens of a window that are a key of any token. Kept from before: keys "
        "that the previous stage chose too. N: tokens per window; k: keys per token. Low shares "
        "in the first two rows mean that few tokens serve as keys for all. Stages, by their place "
        "in the code: " + "; ".join(f"{', '.join(stages)} ({', '.join(titles)})"
                                    for stages, titles in names.items()) + "."]
    return made


def _found(run: Run):
    """Yield (model, protocol, source, dataset, measured on, weights, entries, record's path)."""
    for (protocol, model), job in run.profiles.items():
        entries = job.result.get("dictionary")
        if entries:
            on = str(job.result.get("dictionary_of") or "an input that the record does not name")
            yield model, protocol, "profile", "", on, "untrained weights", entries, job.path
    for cell in run.rows:
        entries = cell.result.get("dictionary")
        if entries and cell.status == "ok":
            first = f", {cell.images[0]['name']}" if cell.images else ""
            kind = run.models[cell.model].checkpoint.kind
            weights = "weights trained here" if kind == "trained" else "weights of the cell"
            yield (cell.model, cell.protocol, "cell", cell.dataset,
                   f"{run.dataset_title(cell.dataset)}{first}", weights, entries, cell.path)


def _values(entries: list[dict], key: str) -> str:
    return ", ".join(map(str, dict.fromkeys(e[key] for e in entries if e.get(key) is not None)))


def _share(made: Table, entry: dict, figure: str, path: str) -> Value:
    if entry.get(figure) is not None:
        return Value(text.percent(entry[figure]), record=path)
    n, k = entry.get("n"), entry.get("k")
    if None not in (n, k) and k >= n:
        return made.absent("every token is a key (k is N or more), so no keys are chosen")
    if figure == "overlap":
        return made.absent("no previous stage has windows of this size and this k")
    return made.absent("not recorded")
