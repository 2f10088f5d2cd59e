"""Links of the site to a notebook save it, because a browser would show its source.

Reads and writes nothing. ``make docs`` uses it.
"""

import re


def on_page_content(html: str, **_: object) -> str:
    """Return a page whose links to notebooks are downloads."""
    return re.sub(r'(href="[^":]*\.ipynb")', r"\1 download", html)
