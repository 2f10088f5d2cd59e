"""What all output formats share: figures with their units, tables, XML, GitHub's annotations.

Pure functions from plain values to text. The same input gives the same bytes.

Try: ``python -c "from irbench.present.plain import table; print(table(['a'], [['b']]))"``
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from xml.etree import ElementTree

NA = "n/a"
# name, unit, decimals
METRICS = {"psnr": ("PSNR", "dB", 3), "ssim": ("SSIM", "", 5), "lpips": ("LPIPS", "", 5)}
# what XML 1.0 cannot hold, even escaped
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def metric(name: str) -> str:
    """Return the heading of a metric with its unit."""
    title, unit, _ = METRICS[name]
    return f"{title}, {unit}" if unit else title


def score(name: str, value: float | None) -> str:
    """Return a score with the decimals of its metric, without unit."""
    return NA if value is None else f"{value:.{METRICS[name][2]}f}"


def change(name: str, value: float | None) -> str:
    """Return a signed difference of scores; one that is 0 as shown has no sign."""
    if value is None:
        return NA
    text = f"{value:+.{METRICS[name][2]}f}"
    return text if float(text) else text.lstrip("+-")


def about(run) -> str:
    """Describe a loaded run in a line: where it is, its commit, day, device and machine."""
    known = run.provenance
    git, hardware = known.get("git") or {}, known.get("hardware") or {}
    commit = git.get("commit")
    words = [f"baseline of {run.name}" if run.baseline else run.name,
             commit and f"commit {commit[:7]}{' with changes' if git.get('dirty') else ''}",
             str(known.get("time") or "")[:10],
             hardware.get("gpu") if known.get("device") == "cuda" else hardware.get("cpu")]
    return f"{run.where}: {', '.join(filter(None, words))}"


def many(number: int, word: str) -> str:
    """Return ``1 cell``, ``2 cells``, ``2 other images``."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a table for a terminal, columns two spaces apart; the first column to the left."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [heads, ["-" * width for width in widths], *rows]
    return "\n".join("  ".join(
        text.ljust(width) if i in (0, len(widths) - 1) else text.rjust(width)
        for i, (text, width) in enumerate(zip(line, widths, strict=True))).rstrip()
        for line in lines)


def pipes(heads: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table: names as code in the first column; it and the last to the left."""
    marks = [":--" if i in (0, len(heads) - 1) else "--:" for i in range(len(heads))]
    return "\n".join("| " + " | ".join(line) + " |" for line in (
        heads, marks, *([code(row[0]), *map(escape, row[1:])] for row in rows)))


def escape(text: str) -> str:
    """Return a text as Markdown shows it, on one line, also in a table."""
    return re.sub(r"([\\|*_`<\[\]])", r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """Return a name as Markdown shows code, also in a table."""
    return "`" + " ".join(text.split()).replace("`", "'").replace("|", "\\|") + "`"


def details(summary: str, body: str) -> str:
    """Return Markdown that GitHub folds away under its summary."""
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"


def compact(value: object) -> str:
    """Return one line of JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def pretty(value: object) -> str:
    """Return readable JSON, keys in their given order."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)


def junit(suite: str, cases: Iterable[tuple[str, str, str, str, str]]) -> str:
    """Return JUnit XML of one suite.

    Args:
        suite: its name.
        cases: class name, name, outcome ("passed", "failure" or "skipped"), a short message, and
            the whole text.
    """
    cases = list(cases)
    root = ElementTree.Element("testsuites")
    counts = {outcome: str(sum(case[2] == outcome for case in cases))
              for outcome in ("failure", "skipped")}
    whole = ElementTree.SubElement(root, "testsuite", {
        "name": suite, "tests": str(len(cases)), "failures": counts["failure"], "errors": "0",
        "skipped": counts["skipped"]})
    for group, name, outcome, message, text in cases:
        case = ElementTree.SubElement(whole, "testcase", {"classname": _xml(group),
                                                          "name": _xml(name)})
        if outcome != "passed":
            ElementTree.SubElement(case, outcome, {"message": _xml(message)}).text = _xml(text)
        elif text:
            ElementTree.SubElement(case, "system-out").text = _xml(text)
    ElementTree.indent(root, " ")
    return ('<?xml version="1.0" encoding="utf-8"?>\n'
            + ElementTree.tostring(root, encoding="unicode"))


def _xml(text: str) -> str:
    return NOT_XML.sub("?", text)


def annotation(level: str, title: str, message: str) -> str:
    """Return a workflow command of GitHub Actions: ``error``, ``warning`` or ``notice``."""
    def plain(text: str) -> str:
        return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

    title = plain(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={title}::{plain(message)}"
