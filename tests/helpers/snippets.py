"""The fenced blocks of the documentation: README.md, CONTRIBUTING.md and docs/*.md.

A comment above a block's fence marks what a test must know:

    <!-- not run: REASON -->            the block is parsed and checked, and not run
    <!-- exit code N: REASON -->        its last command ends with N

A block of ``text`` directly below a block of commands is their expected output, where ``...``
stands for anything. A block whose first line is a comment with a file's name (``# config.yaml``)
is that file.
"""

import re
import shlex
import textwrap
from dataclasses import dataclass

from tests.helpers.paths import ROOT

PAGES = ["README.md", "CONTRIBUTING.md",
         *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
SHELLS = ("console", "bash")
MARK = re.compile(r"<!-- (not run|exit code (\d+)): (.+) -->")
NAMED = re.compile(r"# ([\w./-]+\.(?:py|ya?ml))\n")
CODE = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")


@dataclass(frozen=True)
class Snippet:
    """A fenced block: where it is, its language and text, and how it is marked."""

    page: str
    line: int
    language: str
    text: str
    not_run: str = ""       # the reason, or ""
    exit_code: int = 0
    follows: bool = False   # whether it stands directly below another block

    @property
    def where(self):
        return f"{self.page}:{self.line}"

    @property
    def file(self):
        """The name of the file that the block is, or ""."""
        match = NAMED.match(self.text)
        return match[1] if match else ""

    @property
    def commands(self):
        """The commands of a block of the shell, each as a list of words without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def of_page(page):
    """Return the blocks of a page, in order."""
    lines = (ROOT / page).read_text().splitlines()
    found, start, end = [], None, None
    for number, line in enumerate(lines):
        if not line.lstrip().startswith("```"):
            continue
        if start is None:
            start = number
            continue
        before = MARK.fullmatch(lines[start - 1].strip())
        found.append(Snippet(
            page, start + 1, lines[start].strip().removeprefix("```"),
            textwrap.dedent("\n".join(lines[start + 1:number]) + "\n"),
            before[3] if before and before[1] == "not run" else "",
            int(before[2]) if before and before[2] else 0,
            end is not None and not "".join(lines[end + 1:start]).strip()))
        start, end = None, number
    assert start is None, f"{page}:{start + 1}: this fence is not closed"
    return found


def everywhere(*languages):
    """Return the blocks of all pages in one of some languages."""
    return [one for page in PAGES for one in of_page(page) if one.language in languages]


def block(page, language, holding=""):
    """Return the text of a page's first block in a language that holds a text."""
    return next(one.text for one in of_page(page)
                if one.language == language and holding in one.text)


def prose(page):
    """Return a page without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```", "", (ROOT / page).read_text(), flags=re.S | re.M)


def inline(page):
    """Return the code between backticks in a page's prose."""
    return [" ".join(one.split()) for one in CODE.findall(prose(page))]
