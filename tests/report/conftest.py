"""Fixtures of the report's tests."""

import pytest

from irbench.present import style


@pytest.fixture(autouse=True)
def one_format(request, monkeypatch):
    """A figure that a test draws for its caption is written as SVG alone, which is the fastest.

    Tests that use a finished report, and those marked ``formats`` or ``slow``, have the run's.
    """
    if not any(map(request.node.get_closest_marker, ("formats", "slow"))):
        save = style.save
        monkeypatch.setattr(style, "save", lambda made, folder, stem, kinds: save(
            made, folder, stem, ("svg",)))
