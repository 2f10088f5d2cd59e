"""The gate's result as text, Markdown, JSON, JUnit XML, or annotations of GitHub Actions.

Pure functions on ``irbench.compare.gate.GateResult``.

Try: ``irbench check --baseline photos.json results/photos --format markdown``
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from irbench.compare.differences import UNEXPLAINED
from irbench.compare.gate import (
    ADVICE,
    FAILED,
    IMPROVEMENT,
    NOTE,
    NOTHING,
    REGRESSION,
    SHOWN,
    Finding,
    GateResult,
)
from irbench.core.forms import shown
from irbench.present import ci
from irbench.present import plain as layout
from irbench.present.markdown import code, details, escape

TITLES = {REGRESSION: "Regressions", IMPROVEMENT: "Better than the baseline",
          ADVICE: "Advice", NOTE: "Notes"}
LEVELS = {REGRESSION: "error", ADVICE: "warning", IMPROVEMENT: "notice", NOTE: "notice"}


def counts(result: GateResult) -> dict:
    """Return the counts for a summary, and the exit code."""
    return {"compared": len(result.compared), "regressions": len(result.failed),
            "improvements": len({one.key for one in result.findings_of(IMPROVEMENT)}),
            "advice": len({one.key for one in result.findings_of(ADVICE)}),
            "exit_code": result.code}


def _keys(result: GateResult, keys: Iterable[str]) -> str:
    """Return ``2 cells and 1 profile``."""
    known = set(keys)
    counts = {"cell": len(known.intersection(result.base.cells)),
              "profile": len(known.intersection(result.base.profiles))}
    return " and ".join(layout.many(number, word) for word, number in counts.items() if number)


def title(level: str, found: list[Finding]) -> str:
    """Return the title of the findings of a level."""
    options = sorted({one.option for one in found if level == ADVICE and one.option})
    return TITLES[level] + f" (fails the gate only with {' or '.join(options)})" * bool(options)


def sentence(result: GateResult) -> str:
    """Return the outcome in a sentence or two."""
    return " ".join([_outcome(result), *[f"{result.undecided}."] * bool(result.undecided)])


def _outcome(result: GateResult) -> str:
    compared = f"{_keys(result, result.compared) or 'nothing else'} compared with the baseline"
    if result.code == FAILED:
        return f"Regressions in {_keys(result, result.failed)} ({compared})."
    if result.code == NOTHING:
        if result.compared:
            return ("No score was compared: the run and the baseline have no cell in common "
                    f"({compared}). Is it the baseline of another run?")
        return "Nothing was compared: the run and the baseline have no result in common."
    better = _keys(result, {one.key for one in result.findings_of(IMPROVEMENT)})
    if not result.base.baseline:        # only a baseline file can be updated
        return f"No regression ({compared})." + (f" {better} better." if better else "")
    return f"No regression ({compared})." + (
        f" {better} better. To keep the improvement, update the baseline (irbench baseline write "
        f"{result.new.where} --output {result.base.where})." if better else "")


def text(result: GateResult) -> str:
    """Return lines for a terminal: the worst first, and the outcome last, where users look."""
    parts = [f"baseline  {layout.about(result.base)}\nrun       {layout.about(result.new)}"]
    for level in (REGRESSION, ADVICE, IMPROVEMENT, NOTE):
        found = result.findings_of(level)
        if found:
            parts.append(f"{title(level, found)}:\n" + "\n".join(map(_lines, _causes_once(found))))
    return "\n\n".join([*parts, sentence(result)])


def _causes_once(found: list[Finding]) -> list[Finding]:
    """Keep the changed inputs of a cell only in its last finding, so that they appear once."""
    last = {one.key: at for at, one in enumerate(found)}
    return [one if last[one.key] == at else replace(one, changes=())
            for at, one in enumerate(found)]


def _lines(one: Finding) -> str:
    return "\n    ".join([shown(f"  {f'{one.key}: ' if one.key else ''}{one.message}"),
                          *(shown(_cause(change)) for change in one.changes)])


def _cause(change: str) -> str:
    return change if change.startswith((UNEXPLAINED, "the baseline")) else f"changed: {change}"


def markdown(result: GateResult) -> str:
    """Return a summary for a pull request: regressions in full, the rest folded."""
    parts = [f"**irbench check: {sentence(result)}**"]
    for level in (REGRESSION, ADVICE, IMPROVEMENT, NOTE):
        found = result.findings_of(level)
        if not found:
            continue
        body = "\n".join(map(_item, _causes_once(found)))
        parts.append(f"### {title(level, found)}\n\n{body}" if level == REGRESSION
                     else details(f"{title(level, found)} ({len(found)})", body))
    parts.append(details("What was compared", "\n".join(
        f"- {side}: {escape(layout.about(run))}"
        for side, run in (("baseline", result.base), ("run", result.new)))))
    return "\n\n".join(parts)


def _item(one: Finding) -> str:
    return "\n".join([
        f"- {f'{code(one.key)}: ' if one.key else ''}{escape(one.message)}",
        *(f"  - {escape(_cause(change))}" for change in one.changes)])


def plain(result: GateResult) -> dict:
    """Return everything as plain data; unknown is null."""
    return {
        "baseline": result.base.where, "run": result.new.where, **counts(result),
        "findings": [{
            "level": one.level, "key": one.key or None, "metric": one.metric or None,
            "baseline": one.base, "run": one.new, "difference": one.difference,
            "tolerance": one.tolerance, "message": one.message,
            "worst": [{"image": i.name, "baseline": i.base, "run": i.new,
                       "difference": i.difference} for i in one.images[:SHOWN]],
            "changes": list(one.changes)} for one in result.findings],
        "keys": list(result.compared)}


def json(result: GateResult) -> str:
    """Return everything as JSON."""
    return layout.pretty(plain(result))


def junit(result: GateResult) -> str:
    """Return a test case for each cell and profile of the baseline."""
    by_key: dict[str, list[Finding]] = {}
    for one in result.findings:
        by_key.setdefault(one.key, []).append(one)
    cases = []
    for key in (*result.base.cells, *result.base.profiles):
        found = by_key.get(key, [])
        bad = [one for one in found if one.level == REGRESSION]
        outcome = "failure" if bad else "passed" if key in result.compared else "skipped"
        group, _, name = key.rpartition("/")
        cases.append((group, name, outcome, " ".join(one.message for one in bad or found),
                      "\n".join(map(_lines, _causes_once(found)))))
    return ci.junit("irbench check", cases)


def github(result: GateResult) -> str:
    """Return annotations: an error per regression, warnings for advice, notices for gains."""
    lines = [ci.annotation(LEVELS[one.level], f"irbench {one.level}", _lines(one).strip())
             for level in (REGRESSION, ADVICE, IMPROVEMENT) for one in result.findings_of(level)]
    if result.code == NOTHING:
        lines.append(ci.annotation("error", "irbench check", sentence(result)))
    return "\n".join([*lines, sentence(result)])


FORMATS = {"text": text, "markdown": markdown, "json": json, "junit": junit, "github": github}
