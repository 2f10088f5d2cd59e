"""The largest image of a set."""

import numpy as np
import pytest

from irbench.catalog import datasets
from irbench.data import obtain, sets, sizes
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


STATED = [name for name, entry in sets.catalog().items() if entry.pixels]


def of_files(name, root):
    """Return the pixels of a set's files, which are fetched, and those that the catalog states."""
    entry = sets.get(name, (), root)
    obtain.fetch(entry, root, progress=False)
    found = sizes.known(entry, root)
    assert found.source == "its files"
    return {"all": found.total, "largest": found.largest}, entry.pixels


@pytest.mark.parametrize("name", ["photos", "photos_train"])
def test_the_catalog_states_the_pixels_of_sets_in_packages(name, tmp_path):
    found, stated = of_files(name, tmp_path)
    assert found == stated


@pytest.mark.slow
@pytest.mark.mirror
@pytest.mark.parametrize("name", STATED)
def test_the_catalog_states_the_pixels_of_public_sets(name, mirror, tmp_path):
    found, stated = of_files(name, tmp_path)
    assert found == stated


def test_a_set_that_is_not_here_has_the_size_that_its_entry_states(tmp_path):
    entry = sets.get("set5", (), tmp_path)
    assert sizes.largest(entry, tmp_path) == entry.pixels["largest"] == 262144
    assert sizes.known(entry, tmp_path) == sizes.ImageSizes(5, 567456, 262144, "the catalog")
    assert datasets.DatasetEntry.from_dict(entry.as_dict()) == entry
    without = sets.get("urban100", (), tmp_path)
    assert sizes.largest(without, tmp_path) is sizes.known(without, tmp_path) is None
