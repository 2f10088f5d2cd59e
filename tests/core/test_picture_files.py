"""Images of any size open, and the limit of the program stays as it was."""

import io
import threading
import warnings

import numpy as np
import pytest
from PIL import Image

from irbench.core.files import open_picture
from irbench.imaging import images, photo


@pytest.fixture
def small_limit(monkeypatch):
    """Take 2,000 pixels for what is large; Pillow refuses from twice as many on."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "large.png"
    images.write_png(path, np.full((90, 70, 3), 7, np.uint8))
    return path


def of_jpeg(path):
    from irbench.imaging.degrade import jpeg

    return jpeg(images.read_image(path), 40)


@pytest.mark.parametrize("read", [images.read_image, photo.read, images.size_of, of_jpeg])
def test_a_large_image_opens_without_a_word(small_limit, picture, read):
    with pytest.raises(Image.DecompressionBombError):
        Image.open(picture)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(picture) is not None
    assert images.size_of(picture) == 90 * 70
    assert Image.MAX_IMAGE_PIXELS == 2000


def test_threads_leave_the_limit_as_it_was(small_limit, picture):
    gate, failed = threading.Barrier(4), []

    def work():
        gate.wait()
        for _ in range(50):
            try:
                with open_picture(picture) as image:
                    image.load()
            except Image.DecompressionBombError as error:
                failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and Image.MAX_IMAGE_PIXELS == 2000


def test_a_file_that_is_no_image_leaves_the_limit_as_it_was(small_limit):
    with pytest.raises(Image.UnidentifiedImageError):
        open_picture(io.BytesIO(b"no image")).__enter__()
    assert Image.MAX_IMAGE_PIXELS == 2000


def test_no_memory_is_not_called_damage(monkeypatch, picture):
    def without_memory(image):
        raise MemoryError

    monkeypatch.setattr(images, "of_pillow", without_memory)
    with pytest.raises(images.UserError, match="does not fit into memory"):
        images.read_image(picture)
