"""The page: one self-contained HTML file that makes no network request.

It has an overview, a page per task, and one page each for figures, trainings, variants, profiles,
attention and provenance; all are sections of the same file. Jinja escapes everything that a user or
a record wrote. Reads the figures and tables just written under the run folder; returns the text of
``report.html``.

Try: ``irbench report``, then open results/photos/report.html
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import jinja2
from markupsafe import Markup

from irbench import __version__
from irbench.catalog import published
from irbench.core import metrics
from irbench.present import text
from irbench.present.notes import alike
from irbench.present.style import Drawing
from irbench.present.table import Row, Table, Value, with_common_notes
from irbench.report.facts import family, kinds, verdict, weights
from irbench.report.page import comparisons, embed, windows
from irbench.report.page.provenance import Origins, groups, kind
from irbench.report.plots import PLOTS, crops, latency
from irbench.report.run import Cell, Outcome, Run
from irbench.report.tables import verdicts as judging
from irbench.report.tables.tables import PUBLISHED_RULE

TEMPLATE = "page.html.j2"
STATUS = {"ok": "with a result", "unavailable": "unavailable", "failed": "failed",
          "paused": "paused", "outdated": "outdated", "missing": "not computed"}
# stems of sheets
PLAIN = ("training", "variants", "efficiency", "profiles", "operations", "dictionary", "attention")
OPEN_VERDICTS = 24              # rows of verdicts shown unfolded
MANY_NOTES = 24                 # of a table; more are folded
MANY = 3                        # tables; with more, a task's page folds published rows and figures
NUMBER = re.compile(r"(?P<number>[-+\u2212]?(?:\d{1,3}(?:[,\s]\d{3})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?)"
                    r"\s*(?P<unit>[^\W\d]*)")
FACTORS = {"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "MiB": 2.0**20, "GiB": 2.0**30,
           "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}


def render(run: Run, tables: list[Table], sheets: dict[str, Table],
           drawings: dict[str, Drawing], verdicts: list[verdict.Verdict]) -> str:
    """Return the page.

    Args:
        run: the collected run, whose folder already has ``tables/`` and ``figures/``.
        tables: tables of methods, one or more per task.
        sheets: the other tables by stem, as returned by ``sheets.build``.
        drawings: drawings by name; quality, training, ksweep, scaling and attention are required.
        verdicts: verdicts on measured against published values.
    """
    jobs = [*run.cells, *run.trainings.values(), *run.profiles.values(), *run.benches.values()]
    circumstances = groups(jobs)
    by_task: dict[str, list[Table]] = {}
    for table in tables:
        by_task.setdefault(table.task, []).append(table)
    origins = Origins(run, jobs, [*(r.source for t in tables for r in t.published),
                                  *(one.figure.source for one in verdicts)])
    drawn = drawings.get("crops")
    found = drawn.comparisons if isinstance(drawn, crops.Crops) else []
    compared, no_room, lead = comparisons.build(run, found)
    shown = {figure.stem for figure in drawn.figures} if drawn else ()
    cropped = windows.build([one for one in found if one.stem in shown])
    files = {stem: embed.tables(run.folder, stem)
             for stem in [*(t.stem for t in tables), *sheets, *(["verdicts"] if verdicts else [])]}
    taken = sum(len(version["src"]) for ones in compared.values() for one in ones
                for version in one["versions"])
    taken += sum(len(one.href) + len(one.packed) for ones in files.values() for one in ones)
    taken += sum(len(one["whole"]) + sum(len(tile["src"]) + len(tile["error"])
                                         for tile in one["tiles"]) for one in cropped.values())
    pictures = embed.pictures(run.folder, [drawn.stem for drawing in drawings.values()
                                           for drawn in drawing.figures], taken, cropped)
    times = sorted(j.record["provenance"]["time"] for j in jobs
                   if j.record and j.record["provenance"].get("time"))
    judged_table = judging.build(run, verdicts, noted=True)
    scripts = embed.scripts()
    page = _environment().get_template(TEMPLATE).render(
        run=run, tasks={task: with_common_notes(ones) for task, ones in by_task.items()},
        drawings=drawings, text=text, version=__version__,
        css=Markup(_asset("page.css")), scripts=[Markup(one) for one in scripts],
        metric=metrics.get, policy=embed.policy(scripts), pictures=pictures, files=files,
        crops=cropped, preview=windows.NOTE,
        summary=embed.summary(run.folder), families=_families(run),
        sheets={stem: sheets.get(stem) for stem in PLAIN}, rule=PUBLISHED_RULE,
        more_sheets=[one for stem, one in sheets.items() if stem not in PLAIN],
        figures=_places(drawings, by_task, run, lead),
        headings={plot.name: plot.heading for plot in PLOTS},
        published=any(t.published for t in tables), headline=headline(run, tables),
        counts=[(label, status, sum(c.status == status for c in run.cells))
                for status, label in STATUS.items()
                if status != "paused" or any(c.status == status for c in run.cells)],
        judged=[(word, sum(v.word == word for v in verdicts)) for word in (
            verdict.REPRODUCED, verdict.NOISE, verdict.DIFFERS, verdict.NOT_COMPARABLE)],
        task_verdicts=_task_verdicts(verdicts),
        warnings=warnings(run, circumstances), groups=circumstances,
        serious=bool(run.leaks.pairs) or any(cell.status != "ok" for cell in run.cells),
        times=times,
        verdicts=list(zip(verdicts, judged_table.rows, strict=True)), judged_table=judged_table,
        verdict_summary=verdict.summary(run, verdicts), unfold=len(verdicts) <= OPEN_VERDICTS,
        many=MANY, many_notes=MANY_NOTES,
        bundled=weights.bundled(run), rebuilt=family.rebuilt(run), origins=origins,
        compared=compared, no_room=no_room,
        sources=published.SOURCES,
        details=[_detail(run, job) for job in jobs], status=STATUS, key=key, carried=carried)
    return page.lstrip()


def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["alike"] = alike
    made.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":"),
                                          "ensure_ascii": False}
    return made


def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _families(run: Run) -> str:
    """Return the numbers of models, variants and references in words."""
    counts = [(len(run.models), "model")]
    for word, mine in (("variant", kinds.is_variant), ("reference", kinds.is_reference)):
        here = sum(map(mine, run.models.values()))
        counts[0] = (counts[0][0] - here, "model")
        counts.append((here, word))
    return ", ".join(f"{n} {word}{'s' * (n != 1)}" for n, word in counts
                     if n or word == "model")


# -- what goes where -----------------------------------------------------------------------------

def _places(drawings: dict[str, Drawing], tasks: dict, run: Run, lead: str) -> dict:
    """Return the figures of each task, by stem, and the others by the name of their drawing.

    Two figures are on the overview instead: ``lead``, the restored images with this stem
    (``lead_task`` is their task), and ``cost``, the first one of quality against cost.
    """
    first, its_task = None, None
    cost = next(iter(drawings["quality"].figures), None)
    protocols = {cell.protocol: cell.task for cell in run.cells}
    here: dict[str, list] = {task: [] for task in tasks}
    others: dict[str, list] = {}
    for name, drawing in drawings.items():
        if any(plot.placed for plot in PLOTS if plot.name == name):
            continue
        for drawn in drawing.figures:
            task = next((task for protocol, task in protocols.items()
                         if re.search(rf"-{re.escape(protocol)}(-|$)", drawn.stem)), None)
            task = task or next((task for task in tasks if re.fullmatch(
                rf"{re.escape(name)}-{re.escape(task)}([-@].*)?", drawn.stem)), None)
            if drawn.stem == lead:
                first, its_task = drawn, task
            if drawn in (first, cost):
                continue
            (here[task] if task in here else others.setdefault(name, [])).append(drawn)
        if drawing.left_out:
            others.setdefault(name, [])
    return {"tasks": here, "others": others, "lead": first, "lead_task": its_task, "cost": cost}


def headline(run: Run, tables: list[Table]) -> list[dict]:
    """Return, per protocol and dataset, the network with the best mean PSNR, and its origin.

    ``entry`` is its PSNR, ``others`` its other metrics, by name. ``base`` is the best row without
    a network (the input, bicubic), None if there is none, and ``gain`` the difference to it in dB,
    as shown. ``alike`` lists the networks that share its rank, because a paired test shows no
    difference; ``unsure`` states this of ``base``, with the number of images. A set that no network
    was scored on is left out.

    Only ranked rows count: no variants, no references, no models trained on images of the set.
    """
    found: dict[tuple[str, str], dict] = {}
    counts = {cell.path: len(cell.images) for cell in run.rows}
    for table in tables:
        for index, column in enumerate(table.columns):
            ranked = [row for row in table.measured if row.entries[index].number is not None]
            networks = [row for row in ranked if _is_network(run, row)]
            if column.metric != "psnr" or not networks:
                continue

            def psnr(row: Row, index: int = index) -> float:
                return row.entries[index].number

            best = max(networks, key=psnr)
            base = max((row for row in ranked if row not in networks), key=psnr, default=None)
            alike = [row for row in ranked if row is not best
                     and row.entries[index].place == best.entries[index].place == 1]
            images = counts.get(best.entries[index].record, 0)
            others = {other.metric: (other, entry)
                      for other, entry in zip(table.columns, best.entries, strict=True)
                      if (other.protocol, other.dataset) == (column.protocol, column.dataset)
                      and other is not column and entry.status == "ok"}
            # a cell may be in more than one table; the first is the table of its task
            found.setdefault((column.protocol, column.dataset), {
                "table": table, "column": column, "row": best,
                "alike": [row.name for row in alike if row in networks],
                "unsure": f"not separable with {images} image{'s' * (images != 1)}"
                if any(row is base for row in alike) else "",
                "entry": best.entries[index], "others": others, "of": len(networks),
                "base": base, "gain": base and metrics.signed(
                    psnr(best) - psnr(base), metrics.get("psnr").decimals)})
    return list(found.values())


def _is_network(run: Run, row: Row) -> bool:
    spec = run.models[row.key]
    return spec.learned or bool(spec.given)


def _task_verdicts(verdicts: list[verdict.Verdict]) -> dict[str, str]:
    """Return the verdicts of each task in words: ``2 reproduced, 1 differs``."""
    counts: dict[str, Counter] = {}
    for one in verdicts:
        counts.setdefault(one.cell.task, Counter())[one.word] += 1
    return {task: ", ".join(f"{n} {word}" for word, n in sorted(found.items()))
            for task, found in counts.items()}


def warnings(run: Run, circumstances: list[dict]) -> list[str]:
    """Return what a reader should know before comparing values, the most serious first."""
    sentences = run.leaks.warnings((run.trained_on.get((c.protocol, c.model)) or {}, c.dataset)
                                   for c in run.cells)
    sentences += weights.unfinished(run)
    without = [c for c in run.cells if c.status != "ok"]
    if without:
        sentences.append(f"{len(without)} of {len(run.cells)} cells have no result; the reasons "
                         "are below the tables.")
    outdated = sum(c.status == "outdated" for c in run.cells)
    if outdated:
        sentences.append(f"{outdated} cell{'s are' if outdated != 1 else ' is'} outdated and not "
                         "shown: computed from other inputs or code than the run has now. Run the "
                         "workflow again.")
    partial = [c for c in run.cells if c.status == "ok" and c.missing]
    if partial:
        lacking = metrics.ordered(name for cell in partial for name in cell.missing)
        titles = ", ".join(metrics.get(name).title for name in lacking)
        sentences.append(f"{len(partial)} cells lack a metric ({titles}).")
    unusual = sum(bool(family.circumstances(c)) for c in run.cells)
    if unusual:
        sentences.append(f"{unusual} cell{'s were' if unusual != 1 else ' was'} computed in tiles "
                         "or with other settings than plain float32; the tables mark them.")
    commits = {g["git"].get("commit") for g in circumstances}
    if len(commits) > 1:
        sentences.append("The records come from more than one commit: "
                         + ", ".join(str(c)[:12] if c else "unknown"
                                     for c in sorted(commits, key=str)) + ".")
    if any(g["git"].get("dirty") for g in circumstances):
        sentences.append("Some records were made with uncommitted changes in the working tree.")
    changed = sorted({name for g in circumstances for name in g["packages"]
                      if len({h["packages"].get(name) for h in circumstances}) > 1})
    if changed:
        sentences.append(f"The records come from different versions of: {', '.join(changed)}.")
    machines = {g["machine"] for g in circumstances}
    if len(machines) > 1:
        sentences.append(f"The records come from {len(machines)} machines; PSNR may differ between "
                         "them by about 0.001 dB.")
    if len({latency.condition(job.result) for job in run.profiles.values()
            if job.result.get("latency_ms")
            for job in [_without_size(job)]}) > 1:
        sentences.append("Latencies were measured with more than one device, dtype or thread "
                         "count; the plot separates them.")
    return sentences


def _without_size(job: Outcome) -> Outcome:
    """Return a profile without its input size, which may differ by protocol."""
    record = {**job.record, "result": {**job.result, "input": {}}}
    return Outcome(job.protocol, job.model, job.path, job.status, job.reason, record)


# -- cells of tables -----------------------------------------------------------------------------

def key(value: Value) -> str:
    """Return the sort key of a value: its number in one unit, its text, or "" if unknown.

    The number is the exact number (the first of several) if the value has one. Otherwise it is
    parsed from the shown text: ``392 K`` gives 392000.0, ``12 min`` gives 720.0.
    """
    if value.exact:
        return value.exact.partition("/")[0]
    if value.shown in (text.NA, text.NONE, ""):
        return ""
    found = NUMBER.match(value.shown)
    if not found:
        return value.shown
    number = float(re.sub(r"[,\s]", "", found["number"]).replace("\u2212", "-"))
    return repr(number * FACTORS.get(found["unit"], 1.0))


def carried(rows: list[Row]) -> list[tuple[Row, list[tuple[Value, bool]]]]:
    """Return each row with its values, and for each value whether it repeats the row above.

    A row whose first value is empty continues the row above. Its empty values are filled from that
    row, so that sorting and filtering work on each row alone.
    """
    found: list[tuple[Row, list[tuple[Value, bool]]]] = []
    for row in rows:
        goes_on = bool(found) and not (row.name or row.sub)
        found.append((row, [
            (found[-1][1][i][0], True) if goes_on and not (value.shown or value.sub)
            else (value, False) for i, value in enumerate(row.values)]))
    return found


def _detail(run: Run, job: Outcome) -> dict:
    record = job.record or {}
    seconds = record.get("seconds") or {}
    return {"job": job, "kind": kind(job), "title": run.model_title(job.model),
            "dataset": run.dataset_title(job.dataset) if isinstance(job, Cell) else "",
            "fingerprint": record.get("fingerprint", ""),
            "checkpoint": (record.get("resolved") or {}).get("checkpoint") or "",
            "time": (record.get("provenance") or {}).get("time", ""),
            "attempt": record.get("attempt", 0),
            "seconds": ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())}
