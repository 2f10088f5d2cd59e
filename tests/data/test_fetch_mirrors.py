"""Mirrors that replace the hosts, and files that stay where they are."""

import hashlib
import os
import subprocess
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irbench.core.errors import Unavailable, UserError
from irbench.data import fetch
from tests.helpers.servers import SIZE, content, serve

URL = "https://example.invalid/a%20b/c.png?raw=1"


def run(*files, **options):
    return fetch.fetch_all(files, **{"backoff": 0.01, "progress": False, **options})


@pytest.fixture
def copy(tmp_path):
    """A mirror folder with one file, and that file."""
    path = tmp_path / "mirror" / "example.invalid" / "a b" / "c.png?raw=1"
    path.parent.mkdir(parents=True)
    path.write_bytes(content(3))
    return tmp_path / "mirror", fetch.RemoteFile(
        URL, tmp_path / "data" / "c.png", hashlib.sha256(content(3)).hexdigest(), SIZE)


def test_a_mirror_folder_replaces_the_host(copy, monkeypatch):
    folder, file = copy
    monkeypatch.setenv("IRBENCH_MIRROR", str(folder))
    run(file)
    assert file.path.read_bytes() == content(3)


def test_a_mirror_address_replaces_the_host(copy, monkeypatch):
    folder, file = copy

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for server in serve(ThreadingHTTPServer(("127.0.0.1", 0), Quiet)):
        monkeypatch.setenv("IRBENCH_MIRROR", f"http://127.0.0.1:{server.server_port}/")
        run(file)
    assert file.path.read_bytes() == content(3)


def test_a_mirror_is_checked_like_any_source(copy):
    folder, file = copy
    copied = folder / "example.invalid" / "a b" / "c.png?raw=1"
    copied.write_bytes(bytes(SIZE))
    with pytest.raises(Unavailable, match="wrong content") as caught:
        run(file, mirror=folder)
    assert str(copied) in str(caught.value) and URL in str(caught.value)
    copied.write_bytes(b"short")
    with pytest.raises(Unavailable, match="wrong content: 5 bytes"):
        run(file, mirror=folder)
    copied.unlink()
    with pytest.raises(Unavailable, match="unset IRBENCH_MIRROR"):
        run(file, mirror=folder)
    assert list(file.path.parent.iterdir()) == []


def test_a_mirror_that_is_not_there(copy, tmp_path):
    with pytest.raises(UserError, match=r"IRBENCH_MIRROR=.*no such folder"):
        run(copy[1], mirror=tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"'\.\.' in a URL"):
        fetch.mirrored("https://example.invalid/%2e%2e/x", tmp_path)


# a URL whose copy would lie outside the mirror, or could have no copy
ASTRAY = ["https://h.invalid/%2e%2e/x", "https://h.invalid/a?../../../../etc/passwd",
          "https://h.invalid/a?q=1/%2e%2e/%2e%2e/%2e%2e/x", "https:///etc/passwd", "https:a.png",
          "https://%2fetc/passwd", "https://user@%2fetc/passwd", "https://../x", "https://[x/a",
          "https://h.invalid/..%5cx", "https://h.invalid/a%00b", "https://h.invalid/a%0ab",
          "https://h.invalid/a.png\n"]


@pytest.mark.parametrize("url", ASTRAY)
@pytest.mark.parametrize("address", [False, True])
def test_a_path_that_leaves_the_mirror_is_refused(tmp_path, url, address):
    with pytest.raises(UserError, match="cannot be looked up in a mirror"):
        fetch.mirrored(url, "http://127.0.0.1:8000" if address else tmp_path)


@given(st.text(st.sampled_from("./\\?%25ef:@#a"), max_size=16))
def test_no_url_leaves_the_mirror(tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp()
    for url in (f"https://h.invalid/{text}", f"https://{text}", f"http://h.invalid?{text}"):
        try:
            found = fetch.mirrored(url, folder)
        except UserError:
            continue
        assert Path(os.path.normpath(found)).is_relative_to(folder)


PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="/", exclude_categories=[
    "Cc", "Cs", "Zl", "Zp"]), min_size=1)


@given(st.lists(PLAIN.filter(lambda s: s != "." and ".." not in s.split("\\")),
                min_size=1, max_size=4))
def test_folder_and_address_of_a_mirror_name_the_same_file(tmp_path_factory, segments):
    folder = tmp_path_factory.getbasetemp()
    url = "https://host.invalid/" + "/".join(quote(s, safe="") for s in segments)
    address = fetch.mirrored(url, "http://127.0.0.1:8000")
    assert unquote(urlsplit(address).path) == "/host.invalid/" + "/".join(segments)
    assert fetch.mirrored(url, folder) == folder.joinpath("host.invalid", *segments)


# -- files that stay where they are ------------------------------------------------------------

def test_a_file_of_a_package_is_found_without_importing_it():
    code = ("import sys; from irbench.data import fetch; p = fetch.location("
            "'package://skimage/data/astronaut.png'); assert p.is_file(), p; "
            "assert not {'skimage', 'requests', 'pooch', 'numpy', 'PIL', 'torch'} "
            "& set(sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_files_in_place_are_checked_and_not_copied(tmp_path):
    path = tmp_path / "über all.png"
    path.write_bytes(b"data")
    file = fetch.RemoteFile(path.as_uri(), tmp_path / "other", hashlib.sha256(b"data").hexdigest())
    assert run(file) == [path]
    assert not file.path.exists()
    path.write_bytes(b"else")
    with pytest.raises(Unavailable, match="is not the expected file"):
        run(file)


@pytest.mark.parametrize("url", ["ftp://host/a", "package://skimage/../../etc/passwd",
                                 "package:///a", "a.png", "package://skimage/%2e%2e/x",
                                 "package://skimage/a%2f..%2f..%2fx", "https://[x/a.png",
                                 "file:///a%00b", "package://skimage/a\nb", "file:///a\n"])
def test_urls_that_cannot_be_meant(url):
    with pytest.raises(UserError, match="Valid: https://, http://, package://, file://"):
        fetch.location(url)


def test_a_file_of_a_package_lies_in_the_package():
    """An encoded slash at the beginning made the path absolute."""
    assert fetch.location("package://skimage/%2Fetc/passwd").parts[-3:] == (
        "skimage", "etc", "passwd")


def test_a_package_that_is_not_installed():
    with pytest.raises(Unavailable, match="'nosuchpackage' is not installed"):
        fetch.location("package://nosuchpackage/a.png")
