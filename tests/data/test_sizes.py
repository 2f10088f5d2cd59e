"""The largest image of a set."""

import numpy as np

from irbench.data import sets, sizes
from irbench.imaging.images import size_of, write_png
from tests.helpers import tiny


def test_the_largest_image_is_found_by_its_header(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    write_png(tmp_path / "images" / "test" / "wide.png", np.zeros((40, 90, 3), np.uint8))
    entry = sets.get("tinyset", [tmp_path / "datasets.yaml"], tmp_path)
    assert sizes.largest(entry, tmp_path) == 3600
    broken = tmp_path / "images" / "test" / "wide.png"
    broken.write_bytes(broken.read_bytes()[:10])
    assert size_of(broken) == 0
    sizes._pixels.cache_clear()
    assert 0 < sizes.largest(entry, tmp_path) < 3600
