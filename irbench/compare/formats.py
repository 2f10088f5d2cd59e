"""A comparison of two runs as text, Markdown, JSON or JUnit XML.

Pure functions on ``irbench.compare.differences.Comparison``.

Try: ``irbench compare results/photos results/photos --format markdown``
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from irbench.compare.differences import (
    NOT_COMPARED,
    SHOWN,
    SLACK,
    WORSE,
    CellDifference,
    Change,
    Comparison,
    Image,
    Latency,
    ProfileDifference,
    some,
)
from irbench.compare.runs import RunData, judged
from irbench.core import metrics
from irbench.core.forms import shown
from irbench.core.statistics import FEWEST, REAL, SAME, Paired
from irbench.present import ci
from irbench.present import plain as layout
from irbench.present import text as words
from irbench.present.markdown import COMMENT, details, escape, pipes
from irbench.present.table import Block, Column, Table, Value

NUMBERS = [Column("BASE"), Column("NEW"), Column("difference")]
VERDICT = Column("verdict", left=True)
QUALITY = Table("quality", "Quality", [Column("cell", left=True)], [
    Column("metric"), *NUMBERS, Column("95 % interval"), Column("p"), Column("images"), VERDICT])
SIZES = Table("sizes", "Size and speed", [Column("profile", left=True)], [
    Column("figure"), *NUMBERS, Column("p"), VERDICT])


def reading(comparison: Comparison) -> str:
    """Return how to read the tables, with the number of comparisons that each of them makes."""
    quality = (f"A difference of scores is \"real\" if {words.significance(comparison.tests)}. "
               f"The interval is the 95 % bootstrap interval of this mean alone. With fewer than "
               f"{FEWEST} images (\"few images\") the sign test cannot reach this p, so a paired "
               "t-test decides.")
    speed = ("Latency: Mann-Whitney test on the samples"
             + (f", p with Holm's correction for {layout.many(comparison.timings, 'comparison')}"
                if comparison.timings > 1 else "") + ".")
    return " ".join(["Differences are NEW minus BASE; p is shown after the correction.",
                     *[quality] * bool(comparison.tests), *[speed] * bool(comparison.timings)])


def counts(comparison: Comparison) -> dict:
    """Return the counts for a summary: how many cells changed, and in which direction."""
    words = Counter(_standing(cell) for cell in comparison.cells)
    return {"cells": len(comparison.cells), "profiles": len(comparison.profiles),
            **{word.replace(" ", "_"): words[word] for word in (
                "better", "worse", "mixed", "not significant", "no change", "not compared")},
            "profiles_changed": sum(not one.same and not one.reason
                                    for one in comparison.profiles),
            "only_base": len(comparison.only_base), "only_new": len(comparison.only_new)}


def sentence(comparison: Comparison) -> str:
    """Return the outcome in a sentence."""
    number = counts(comparison)
    if not comparison.compared:
        return "Nothing could be compared."
    parts = [f"{number[word.replace(' ', '_')]} {word}" for word in (
        "worse", "better", "mixed", "not significant", "no change", "not compared")
        if number[word.replace(" ", "_")]]
    if len(parts) == 1:         # all cells alike
        parts = [parts[0].partition(" ")[2]]
    profiles = (f"{number['profiles_changed']} changed" if number["profiles_changed"]
                else "no change")
    words = [f"{layout.many(number['cells'], 'cell')}: {', '.join(parts)}"] if parts else []
    if number["profiles"]:
        words.append(f"{layout.many(number['profiles'], 'profile')}: {profiles}")
    return "; ".join([*words, *filter(None, [undecided(comparison)])]) + "."


def undecided(comparison: Comparison) -> str:
    """Return how many latencies are not compared because other work disturbed them, or ""."""
    number = comparison.disturbed
    return (f"{number} {'latency' if number == 1 else 'latencies'} not compared: disturbed by "
            "other work" if number else "")


def _standing(cell: CellDifference) -> str:
    if cell.reason:
        return "not compared"
    moved = {m.direction for m in cell.metrics if m.word == REAL}
    if moved:
        return "mixed" if len(moved) > 1 else moved.pop()
    return SAME if cell.same else "not significant"


# -- text and Markdown -------------------------------------------------------------------------

def text(comparison: Comparison, everything: bool = False) -> str:
    """Return tables for a terminal.

    Without ``everything``, values that did not change are only counted.
    """
    parts = [f"BASE  {layout.about(comparison.base)}\nNEW   {layout.about(comparison.new)}"]
    parts += map(layout.to_text, _tables(comparison, everything))
    parts += [f"{title}:\n" + "\n".join(f"  {shown(line)}" for line in lines)
              for title, lines in _lists(comparison)]
    if comparison.tests or comparison.timings:
        parts.append(reading(comparison))
    return "\n\n".join([*parts, sentence(comparison)])


def markdown(comparison: Comparison, everything: bool = False) -> str:
    """Return a comment for a pull request: the outcome and the changes; the rest is folded."""
    parts = [f"**{sentence(comparison)}**"]
    parts += [pipes(table, COMMENT) for table in _tables(comparison, everything)]
    for title, lines in _lists(comparison):
        parts.append(details(f"{title} ({len(lines)})", "\n".join(
            f"- {escape(line)}" for line in lines)))
    sides = "\n".join(f"- {side}: {escape(layout.about(run))}" for side, run in (
        ("BASE", comparison.base), ("NEW", comparison.new)))
    parts.append(details("What was compared, and how", f"{sides}\n\n{reading(comparison)}"))
    return "\n\n".join(parts)


def _tables(comparison: Comparison, everything: bool) -> list[Table]:
    """Return the tables that have a row."""
    quality = [_row(cell, metric) for cell in comparison.cells for metric in cell.metrics
               if everything or metric.word != SAME]
    sizes = [row for profile in comparison.profiles for row in _sizes(profile, everything)]
    return [filled(table, rows) for table, rows in ((QUALITY, quality), (SIZES, sizes)) if rows]


def held(run: RunData) -> list[Table]:
    """Return the cells of a baseline file or a run folder, and its profiles if it has any.

    Scores are means in the unit of the metric. A cell without a result shows its status instead
    of its weights.
    """
    run = judged(run)
    known = metrics.ordered({*metrics.default(), *(m for c in run.cells.values() for m in c.means)})
    cells = Table("cells", "Cells", [Column("cell", left=True)], [
        Column("images"), *map(Column, map(layout.metric, known)), Column("weights", left=True)])
    profiles = Table("profiles", "Profiles", [Column("profile", left=True)], [
        Column("parameters"), Column("MACs"), Column("device", left=True)])
    made = [filled(cells, [
        [key, str(len(cell.images)), *(layout.score(m, cell.means.get(m)) for m in known),
         (cell.inputs.get("weights") or "none") if cell.status == "ok" else cell.status]
        for key, cell in run.cells.items()])]
    return made + ([filled(profiles, [
        [key, *(layout.NA if value is None else f"{value:,}"
                for value in (one.parameters, one.macs)),
         str(one.condition.get("device") or layout.NA)] for key, one in run.profiles.items()])]
        if run.profiles else [])


def filled(empty: Table, rows: list[list[str]]) -> Table:
    """Return a copy of a table with rows made from texts."""
    made = replace(empty, blocks=[Block()])
    for row in rows:
        made.add(map(Value, row))
    return made


def _row(cell: CellDifference, metric: Change) -> list[str]:
    paired, name = metric.paired, metric.name
    spread = (layout.NA if paired is None or paired.low is None else
              f"{layout.change(name, paired.low)} to {layout.change(name, paired.high)}")
    # if one side has no mean: the mean difference over the images that both sides have
    moved = metric.difference if metric.difference is not None else paired and paired.mean
    word = f"{metric.word}, {metric.direction}" if metric.word == REAL else metric.word
    notes = [] if metric.word == SAME else [metric.note, few(paired)]
    note = f" ({'; '.join(filter(None, notes))})" if any(notes) else ""
    return [cell.key, layout.metric(name), layout.score(name, metric.base),
            layout.score(name, metric.new), layout.change(name, moved), spread,
            f"{paired.adjusted:.2g}" if paired else layout.NA, str(paired.n if paired else 0),
            word + note]


def few(paired: Paired | None) -> str:
    """Return a note if there are too few images for a sign test, else ""."""
    if paired is None or paired.n >= FEWEST:
        return ""
    return "one image" if paired.n == 1 else "few images"


def _sizes(profile: ProfileDifference, everything: bool) -> list[list[str]]:
    rows = []
    if profile.reason:
        return rows
    for name, (a, b) in (("parameters", profile.parameters), ("MACs", profile.macs)):
        if a is not None and b is not None and (everything or a != b):
            share = f" ({(b - a) / a:+.2%})" if a and a != b else ""
            rows.append([profile.key, name, f"{a:,}", f"{b:,}",
                         f"{b - a:+,}{share}" if a != b else "0", "",
                         SAME if a == b else "real, " + ("more" if b > a else "fewer")])
    found = profile.latency
    if found and found.word == NOT_COMPARED:
        rows.append([profile.key, "latency, ms", *medians(found), layout.NA, layout.NA,
                     f"{found.word}: {found.note}"])
    elif found and (everything or found.word == REAL):
        word = {REAL: "real, slower" if found.factor > 1 else "real, faster"}.get(found.word,
                                                                                 found.word)
        rows.append([profile.key, "latency, ms", *medians(found),
                     f"x {found.factor:.3f}", f"{found.adjusted:.2g}",
                     word + (f" ({found.note})" if found.note else "")])
    return rows


def _lists(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Return the lists below the tables: title and lines."""
    jobs = [*comparison.cells, *comparison.profiles]
    changed: dict[str, list[str]] = {}
    for job in jobs:
        for change in (*job.changes, *filter(None, [getattr(job, "remark", "")])):
            changed.setdefault(change, []).append(job.key)
    apart: dict[str, list[str]] = {}
    for profile in comparison.profiles:
        if profile.apart and not profile.reason:
            apart.setdefault(profile.apart, []).append(profile.key)
    earlier = [f"{side} holds {layout.many(len(run.from_earlier), 'record')} of an earlier config: "
               f"{some(run.from_earlier)}"
               for side, run in (("BASE", comparison.base), ("NEW", comparison.new))
               if run.from_earlier]
    lists = [
        ("What changed in the inputs", [_shared(what, keys) for what, keys in changed.items()]),
        ("Not compared", [f"{job.key}: {job.reason}" for job in jobs if job.reason]),
        ("Latency and memory not compared", [_shared(what.removeprefix("not comparable: "), keys)
                                             for what, keys in apart.items()]),
        ("Only in BASE", [f"{key} ({what})" for key, what in comparison.only_base.items()]),
        ("Only in NEW", [f"{key} ({what})" for key, what in comparison.only_new.items()]),
        ("Left out", earlier)]
    return [(title, lines) for title, lines in lists if lines]


def _shared(what: str, keys: list[str]) -> str:
    return f"{what}: {keys[0]}" if len(keys) == 1 else f"{what}: {len(keys)} ({some(keys)})"


# -- values in words ---------------------------------------------------------------------------

def named(metric: str) -> tuple[str, str, int]:
    """Return the title of a metric, its unit after a space, and its decimals."""
    known = metrics.get(metric)
    return known.title, f" {known.unit}" if known.unit else "", known.exact_decimals


def farthest(found: Change) -> tuple[Image, ...]:
    """Return the images, the one that changed most first."""
    return tuple(sorted(found.images, key=lambda i: (-abs(i.difference), i.name)))


def most_text(found: Change, limit: float) -> str:
    """Return how many images changed, and which image changed most."""
    name, unit, places = named(found.name)
    moved = [image for image in farthest(found) if abs(image.difference) > limit + SLACK]
    by = f" by more than {limit:g}{unit}" if limit else ""
    first = f"{moved[0].name} {moved[0].difference:+.{places}f}{unit}" if moved else "none"
    return (f"{name} of {len(moved)} of {layout.many(len(found.images), 'image')} changed{by}, "
            f"most {first}{f'; mean {change_text(found)}' if found.difference is not None else ''}")


def verdict_text(found: Change) -> str:
    """Return the verdict on the mean and the number of images that it rests on."""
    return f"{found.word} over {layout.many(found.paired.n if found.paired else 0, 'image')}"


def change_text(found: Change) -> str:
    """Return both means and their difference; both must be known."""
    _, unit, places = named(found.name)
    return (f"{found.base:.{places}f} -> {found.new:.{places}f}{unit} "
            f"({found.difference:+.{places}f})")


def worst_text(metric: str, images: list[Image] | tuple[Image, ...]) -> str:
    """Return the first images with their differences."""
    _, unit, places = named(metric)
    return "worst: " + ", ".join(f"{image.name} {image.difference:+.{places}f}{unit}"
                                 for image in images[:SHOWN])


def medians(found: Latency) -> list[str]:
    """Return both medians of a latency without their unit; a disturbed one has a mark."""
    return [f"{value:.4g}{f' {words.DISTURBED}' * bool(cores)}"
            for value, cores in zip((found.base, found.new), found.busy, strict=True)]


def latency_text(found: Latency) -> str:
    """Return both medians, and their ratio if they are compared, else why they are not."""
    shown = f"latency {' -> '.join(medians(found))} ms"
    return (f"{shown}: {found.word}: {found.note}" if found.word == NOT_COMPARED else
            f"{shown} (x {found.factor:.2f})")


# -- for machines ------------------------------------------------------------------------------

def plain(comparison: Comparison) -> dict:
    """Return everything as plain data; unknown is null."""
    return {
        "base": comparison.base.where, "new": comparison.new.where, "counts": counts(comparison),
        "comparisons": {"scores": comparison.tests, "latencies": comparison.timings},
        "cells": [{
            "cell": cell.key, "compared": not cell.reason, "reason": cell.reason or None,
            "verdict": _standing(cell), "changes": list(cell.changes),
            "remark": cell.remark or None,
            "metrics": {m.name: _metric(m) for m in cell.metrics}} for cell in comparison.cells],
        "profiles": [_profile(one) for one in comparison.profiles],
        "only_base": comparison.only_base, "only_new": comparison.only_new}


def _metric(metric: Change) -> dict:
    paired = metric.paired
    return {"base": metric.base, "new": metric.new, "difference": metric.difference,
            "interval": [paired.low, paired.high] if paired and paired.low is not None else None,
            "p": paired.p if paired else None,
            "p_corrected": paired.adjusted if paired else None, "images": paired.n if paired else 0,
            "verdict": metric.word, "direction": metric.direction or None,
            "note": metric.note or None,
            "worst": [{"image": i.name, "base": i.base, "new": i.new, "difference": i.difference}
                      for i in metric.images[:SHOWN]] if metric.word != SAME else []}


def _profile(profile: ProfileDifference) -> dict:
    found = profile.latency
    return {"profile": profile.key, "compared": not profile.reason,
            "reason": profile.reason or None, "same": profile.same,
            "parameters": dict(zip(("base", "new"), profile.parameters, strict=True)),
            "macs": dict(zip(("base", "new"), profile.macs, strict=True)),
            "latency_ms": found and {
                "base": found.base, "new": found.new, "factor": found.factor, "p": found.p,
                "p_corrected": found.adjusted,
                "verdict": found.word, "note": found.note or None,
                "busy_elsewhere": {side: cores or None for side, cores in
                                   zip(("base", "new"), found.busy, strict=True)}},
            "peak_memory_bytes": dict(zip(("base", "new"), profile.memory, strict=True)),
            "not_comparable": profile.apart or None, "changes": list(profile.changes)}


def json(comparison: Comparison) -> str:
    """Return everything as JSON."""
    return layout.pretty(plain(comparison))


def junit(comparison: Comparison) -> str:
    """Return a test case for each cell and profile: worse is a failure, not compared is skipped."""
    cases = []
    for job in (*comparison.cells, *comparison.profiles):
        group, _, name = job.key.rpartition("/")
        rows = ([_row(job, m) for m in job.metrics] if isinstance(job, CellDifference)
                else _sizes(job, True))
        lines = "\n".join([*(" ".join(filter(None, row[1:])) for row in rows), *job.changes])
        bad = isinstance(job, CellDifference) and any(m.word == REAL and m.direction == WORSE
                                            for m in job.metrics)
        outcome = "skipped" if job.reason else "failure" if bad else "passed"
        cases.append((group, name, outcome,
                      job.reason or ("significantly worse" if bad else ""), lines))
    return ci.junit("irbench compare", cases)


FORMATS = {"text": text, "markdown": markdown, "json": json, "junit": junit}
