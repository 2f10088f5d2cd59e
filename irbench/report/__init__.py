"""The report stage: records of a run → summary.csv, tables, figures and one page.

``build`` is a pure function of the records and the plan: the same records give the same bytes,
because times come from the records and the files contain no date.

Reads ``cells/``, ``training/``, ``profiles/``, ``benches/``, ``images/`` and ``leaks.json`` under
the run folder; writes ``summary.csv``, ``tables/<task>.{md,tex,csv}``, ``tables/`` of verdicts
(measured against published), training, variants, profiles, operations, dictionary and attention,
``figures/*.png`` (and ``.pdf``, ``.svg`` on request) and ``report.html``.

Try: ``irbench report``
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from irbench.core import messages
from irbench.core.files import remove_leftovers, write_atomic
from irbench.core.run_folder import FORMATS, RunFolder
from irbench.report import collect, plots
from irbench.report.facts import verdict
from irbench.report.tables import files, summary, tables
from irbench.report.tables import verdicts as judging

__all__ = ["build"]


def build(run_folder: Path, plan: dict, progress: Callable[[str], None] | None = None) -> Path:
    """Write every table, figure and the page of a run.

    Args:
        run_folder: ``results/<run>``, which holds the records.
        plan: run, title, cells, trainings, profiles, benches, protocols, datasets, models,
            references, published.
        progress: called with one line per step, for stderr.

    Returns:
        The path of ``report.html``. A planned record that is missing or unusable appears as n/a,
        with its reason.

    Raises:
        UserError: an entry of the plan lacks a key, or the plan asks for a published method that
            no source prints.
    """
    # matplotlib and seaborn take a second to import; `irbench --help` must not wait for them
    from irbench.report.page import page
    from irbench.report.tables import sheets

    say = progress or (lambda message: None)
    places = RunFolder(run_folder)
    run = collect.collect(places.path, plan)
    say(f"{len(run.cells)} cells, {sum(c.status == 'ok' for c in run.cells)} with a result")
    for folder in (places.tables, places.figures):  # they exist even if nothing is drawn
        folder.mkdir(parents=True, exist_ok=True)
    built = tables.build(run)
    stems: dict[str, list] = {}
    for table in built:
        stems.setdefault(table.stem, []).append(table)
    verdicts = verdict.all_verdicts(run)
    write_atomic(places.summary, summary.summary(run))
    plain = sheets.build(run)
    texts = {stem: files.texts(parts) for stem, parts in stems.items()}
    if verdicts:
        texts[judging.STEM] = judging.texts(run, verdicts)
    texts |= {stem: files.texts([one]) for stem, one in plain.items()}
    for stem, printed in texts.items():
        for suffix, content in printed.items():
            write_atomic(places.tables / f"{stem}.{suffix}", content)
        say(f"{places.tables.name}/{stem}.md, .tex, .csv"
            + (f": {verdict.summary(run, verdicts)}" if stem == judging.STEM else ""))
    drawings = {}
    for plot in messages.track(plots.PLOTS, "draw plots", len(plots.PLOTS)) if progress else (
            plots.PLOTS):
        drawings[plot.name] = plots.draw(plot, run)
        for figure in drawings[plot.name].figures:
            say(f"{places.figures.name}/{figure.stem}.{', .'.join(run.formats)}")
    _remove_stale(places, set(texts), {
        f"{figure.stem}.{kind}" for drawing in drawings.values() for figure in drawing.figures
        for kind in run.formats})
    write_atomic(places.report, page.render(run, built, plain, drawings, verdicts))
    say(str(places.report))
    return places.report


def _remove_stale(places: RunFolder, stems: set[str], figures: set[str]) -> None:
    """Remove what no one must read: files of another plan, and temporary ones of a killed build."""
    for folder in (places.path, places.tables, places.figures):
        remove_leftovers(folder)
    for path in sorted(places.tables.glob("*")):
        if path.suffix in (".md", ".tex", ".csv") and path.stem not in stems:
            path.unlink()
    for path in sorted(places.figures.glob("*")):
        if (plots.plot_of(path.stem) and path.suffix.removeprefix(".") in FORMATS
                and path.name not in figures):
            path.unlink()
