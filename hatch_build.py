"""What building irbench adds to ``pyproject.toml``: the workflow's files, and a README for PyPI.

A wheel carries Snakefile, rules, configs and profiles in ``irbench/pipeline``, where ``irbench
run`` finds them (``irbench/plan/shipped.py``); an editable installation uses those of the checkout.
PyPI shows the README without the files beside it, so its links become absolute.

Try: ``python -m build``
"""

from __future__ import annotations

import re
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

PIPELINE = ("Snakefile", "config.yaml", "workflow", "profiles")
# a link or picture of Markdown: ! for a picture, its text, and a target that is a relative path
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?![a-z]+:|#)(?P<target>[^)\s]+)\)")
BRANCH = "main"


def absolute(text: str, repository: str) -> str:
    """Return Markdown whose relative links lead to a repository on GitHub.

    Args:
        text: the README.
        repository: its address, as ``https://github.com/OWNER/NAME``.
    """
    raw = repository.replace("//github.com/", "//raw.githubusercontent.com/")

    def link(match: re.Match) -> str:
        base = f"{raw}/{BRANCH}" if match["picture"] else f"{repository}/blob/{BRANCH}"
        return f"{match['picture']}[{match['text']}]({base}/{match['target']})"

    return LINK.sub(link, text)


class ReadmeHook(MetadataHookInterface):
    """Gives the metadata its README."""

    def update(self, metadata: dict) -> None:
        """Set ``readme``; ``metadata`` is the table ``project`` of pyproject.toml."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown",
                              "text": absolute(text, metadata["urls"]["Repository"])}


class PipelineHook(BuildHookInterface):
    """Puts the workflow's files into the wheel."""

    def initialize(self, version: str, build_data: dict) -> None:
        """Add the files, but not to an editable installation."""
        if version != "editable":
            build_data["force_include"] |= {
                str(Path(self.root) / name): f"irbench/pipeline/{name}" for name in PIPELINE}
