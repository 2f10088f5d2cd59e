"""Output for continuous integration: JUnit XML, and annotations of GitHub Actions.

Pure functions from plain values to text. The same input gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree

# characters that XML 1.0 cannot hold, even escaped
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(suite: str, cases: Iterable[tuple[str, str, str, str, str]]) -> str:
    """Return JUnit XML of one suite.

    Args:
        suite: name of the suite.
        cases: class name, name, outcome ("passed", "failure" or "skipped"), a short message, and
            the full text.
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
