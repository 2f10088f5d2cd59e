"""Fetching against a server on this machine that fails in every way a real one does."""

import errno
import hashlib
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irbench import fetch, transfer
from irbench.errors import Unavailable, UserError

SIZE = 300_000  # several chunks, and more than one socket buffer


def content(seed: int, size: int = SIZE) -> bytes:
    return random.Random(seed).randbytes(size)


class Server(ThreadingHTTPServer):
    """Serves ``files``; ``plan[path]`` lists how the next answers go wrong, one word each."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.plan: dict[str, list] = {}
        self.requests: list[tuple[str, str | None]] = []  # path, Range
        self.halfway, self.go_on = threading.Event(), threading.Event()
        self.barrier: threading.Barrier | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address) -> None:
        """Broken connections are the point here."""


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass

    def reset(self) -> None:
        # closing with nothing to linger for sends RST in place of FIN
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def do_GET(self) -> None:
        server, how = self.server, "ok"
        server.requests.append((self.path, self.headers.get("Range")))
        if server.plan.get(self.path):
            how = server.plan[self.path].pop(0)
        if self.path not in server.files:
            how = 404
        if isinstance(how, int):
            self.send_response(how)
            if how == 429:
                self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if how == "reset":
            self.reset()
            return
        if how == "barrier":
            server.barrier.wait(10)
        body, total, start = server.files[self.path], len(server.files[self.path]), 0
        if how == "wrong":
            body = bytes(total)
        elif how == "wrong size":
            body = b"<html>Please log in</html>"
            total = len(body)
        span = self.headers.get("Range")
        if span and how != "no range":
            start = int(span.removeprefix("bytes=").rstrip("-"))
            if start >= total:
                self.send_error(416)
                return
            self.send_response(206)
            claimed = 0 if how == "wrong place" else start
            self.send_header("Content-Range", f"bytes {claimed}-{total - 1}/{total}")
        else:
            self.send_response(200)
        if how != "no length":
            self.send_header("Content-Length", str(total - start))
        self.end_headers()
        half = (start + total) // 2
        self.wfile.write(body[start:half])
        if how in ("truncated", "no length"):
            return
        if how == "reset halfway":
            time.sleep(0.1)  # RST discards what the client has not read yet
            self.reset()
            return
        if how == "hold":
            server.halfway.set()
            server.go_on.wait(10)
        if how == "stall":
            server.go_on.wait(1.5)
            return
        self.wfile.write(body[half:])


def serve(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02},
                              daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield from serve(Server())


@pytest.fixture
def one(server, tmp_path):
    """Return a function: put a file on the server that misbehaves as told, and name it."""
    def make(*plan, seed: int = 1, name: str = "a.png") -> fetch.RemoteFile:
        server.files[f"/{name}"] = content(seed)
        server.plan[f"/{name}"] = list(plan)
        return fetch.RemoteFile(f"{server.url}/{name}", tmp_path / "set" / "hr" / name,
                                hashlib.sha256(content(seed)).hexdigest(), SIZE,
                                f"set/hr/{name}")
    return make


def run(*files, **options):
    return fetch.fetch_all(files, **{"backoff": 0.01, "progress": False, **options})


def left_over(file) -> list[str]:
    folder = file.path.parent
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def assert_continued(request) -> None:
    """Some of the half that was sent is not asked for again (a last incomplete chunk may be)."""
    path, span = request
    assert path == "/a.png"
    assert 0 < int(span.removeprefix("bytes=").rstrip("-")) <= SIZE // 2


def test_a_file_is_fetched_whole_and_nothing_else_is_left(one, server):
    file = one()
    assert run(file) == [file.path]
    assert file.path.read_bytes() == content(1)
    assert left_over(file) == ["a.png"]
    assert server.requests == [("/a.png", None)]


@pytest.mark.parametrize("failure", ["truncated", "no length", "reset", "reset halfway", 500, 503,
                                     408, "wrong", "wrong size"])
def test_what_passes_is_tried_again(one, server, failure):
    file = one(failure)
    run(file)
    assert file.path.read_bytes() == content(1)
    assert len(server.requests) == 2
    assert left_over(file) == ["a.png"]


def test_a_stalled_connection_is_tried_again(one, server):
    file = one("stall")
    run(file, timeout=0.3)
    server.go_on.set()
    assert file.path.read_bytes() == content(1)


def test_a_broken_transfer_goes_on_where_it_stopped(one, server):
    file = one("truncated")
    run(file)
    assert len(server.requests) == 2
    assert_continued(server.requests[1])
    assert file.path.read_bytes() == content(1)


def test_the_next_run_goes_on_where_the_last_stopped(one, server):
    file = one("truncated")
    with pytest.raises(Unavailable, match=r"IncompleteRead.*\(attempts: 1\)") as caught:
        run(file, attempts=1)
    assert "run the same command again" in str(caught.value)
    assert not file.path.exists()
    [part] = left_over(file)
    assert part.startswith(".a.png.") and part.endswith(".part")
    run(file)
    assert len(server.requests) == 2
    assert_continued(server.requests[1])
    assert file.path.read_bytes() == content(1)
    assert left_over(file) == ["a.png"]


@pytest.mark.parametrize("second", ["no range", "wrong place", 416])
def test_a_server_that_cannot_continue_is_asked_for_all(one, server, second):
    file = one("truncated", second)
    run(file)
    assert_continued(server.requests[1])
    assert file.path.read_bytes() == content(1)
    if second != "no range":
        assert server.requests[2:] == [("/a.png", None)]


def test_a_partial_file_of_other_bytes_is_found_out(one, server):
    file = one()
    part = file.path.with_name(f".a.png.{file.sha256[:12]}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(1000))
    run(file)
    assert [span for _, span in server.requests] == ["bytes=1000-", None]
    assert file.path.read_bytes() == content(1)


def test_a_complete_partial_file_needs_no_request(one, server):
    file = one()
    part = file.path.with_name(f".a.png.{file.sha256[:12]}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(content(1))
    run(file)
    assert server.requests == []
    assert file.path.read_bytes() == content(1)


def test_wrong_content_twice_is_refused_with_both_checksums(one, server):
    file = one("wrong", "wrong")
    with pytest.raises(Unavailable) as caught:
        run(file)
    text = str(caught.value)
    found = hashlib.sha256(bytes(SIZE)).hexdigest()
    for part in ("set/hr/a.png", file.url, file.sha256, found, "manifest"):
        assert part in text
    assert len(server.requests) == 2
    assert left_over(file) == []


def test_a_page_in_place_of_the_file_is_refused_by_its_size(one, server):
    file = one("wrong size", "wrong size")
    with pytest.raises(Unavailable, match=rf"wrong content: 26 bytes\. Expected {SIZE} bytes"):
        run(file)


def test_a_persistent_server_error_ends(one, server):
    file = one(*[500] * 9)
    with pytest.raises(Unavailable, match=r"HTTP 500 \(attempts: 3\)") as caught:
        run(file, attempts=3)
    assert file.url in str(caught.value) and "IRBENCH_MIRROR" in str(caught.value)
    assert len(server.requests) == 3
    assert left_over(file) == []


def test_a_missing_file_is_asked_for_once(one, server):
    file = one()
    server.files.clear()
    with pytest.raises(Unavailable, match="HTTP 404") as caught:
        run(file)
    for part in ("set/hr/a.png", file.url, file.sha256, "correct its url"):
        assert part in str(caught.value)
    assert len(server.requests) == 1


def test_the_server_says_how_long_to_wait(one):
    file = one(429)
    start = time.monotonic()
    run(file)
    assert time.monotonic() - start >= 1.0


def test_back_off_doubles(one):
    waits = []

    class Stop:
        def is_set(self) -> bool:
            return False

        def wait(self, seconds: float) -> None:
            waits.append(seconds)

    bar = SimpleNamespace(disable=True, update=lambda size: None)
    file = one(*[500] * 9)
    with pytest.raises(Unavailable):
        transfer.transfer(file, file.url, transfer.Run(5, backoff=1.0, timeout=5.0, bar=bar,
                                                       stop=Stop()))
    assert waits == [1.0, 2.0, 4.0, 8.0]


def test_a_server_that_is_not_there(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = fetch.RemoteFile(f"http://127.0.0.1:{port}/a", tmp_path / "a", "0" * 64, 5)
    with pytest.raises(Unavailable, match="Check the connection"):
        run(file, attempts=2)


def test_several_at_once(one, server):
    server.barrier = threading.Barrier(6)  # passed only when six requests are open together
    files = [one("barrier", seed=i, name=f"{i}.png") for i in range(6)]
    run(*files, jobs=6)
    assert [f.path.read_bytes() for f in files] == [content(i) for i in range(6)]


def test_no_more_than_asked_for_at_once(one, server):
    server.barrier = threading.Barrier(3)
    files = [one("barrier", seed=i, name=f"{i}.png") for i in range(3)]
    threading.Timer(0.4, server.barrier.abort).start()
    with pytest.raises(Unavailable):
        run(*files, jobs=2, attempts=1)


def test_the_second_fetch_downloads_nothing(one, server):
    files = [one(seed=i, name=f"{i}.png") for i in range(3)]
    run(*files)
    server.requests.clear()
    run(*files)
    assert server.requests == []


def test_only_what_is_missing_or_damaged_is_fetched(one, server):
    files = [one(seed=i, name=f"{i}.png") for i in range(3)]
    run(*files)
    server.requests.clear()
    files[0].path.write_bytes(bytes(SIZE))  # right size, wrong content
    files[1].path.unlink()
    run(*files)
    assert sorted(path for path, _ in server.requests) == ["/0.png", "/1.png"]
    assert files[0].path.read_bytes() == content(0)


def test_one_failure_keeps_what_is_complete(one, server):
    good, bad = one(), one(404, seed=2, name="b.png")
    with pytest.raises(Unavailable, match=r"b\.png"):
        run(good, bad, jobs=1)
    assert good.path.read_bytes() == content(1)


def test_a_half_written_file_never_has_the_final_name(one, server):
    file = one("hold")
    thread = threading.Thread(target=run, args=(file,))
    thread.start()
    assert server.halfway.wait(10)
    try:
        assert not file.path.exists()
        assert all(name.startswith(".") for name in left_over(file))
    finally:
        server.go_on.set()
        thread.join(10)
    assert file.path.read_bytes() == content(1)


def test_two_that_want_the_same_file_fetch_it_once(one, server):
    file = one("hold")
    threads = [threading.Thread(target=run, args=(file,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert server.halfway.wait(10)
    time.sleep(0.3)  # the other one would be asking by now
    server.go_on.set()
    for thread in threads:
        thread.join(10)
    assert len(server.requests) == 1
    assert file.path.read_bytes() == content(1)
    assert left_over(file) == ["a.png"]


def test_a_full_disk_says_so_and_is_not_tried_again(one, server, monkeypatch):
    def full(self, chunk):
        raise OSError(errno.ENOSPC, "No space left on device")

    file = one()
    monkeypatch.setattr(transfer._Sink, "write", full)
    with pytest.raises(Unavailable, match=r"disk is full \(\d+ bytes free") as caught:
        run(file)
    assert str(file.path) in str(caught.value)
    assert len(server.requests) == 1


def test_a_folder_that_cannot_be_written_to(one, tmp_path):
    (tmp_path / "set").write_text("a file where the folder should be")
    with pytest.raises(Unavailable, match="Choose a data folder"):
        run(one())


def test_a_size_that_is_not_known(one, server):
    file = one("truncated")
    file = fetch.RemoteFile(file.url, file.path, file.sha256)
    run(file)
    assert file.path.read_bytes() == content(1)
    assert fetch.fetch_file(file.url, file.path, file.sha256.upper(), progress=False) == file.path
    assert len(server.requests) == 2


def test_one_bar_and_the_retries_go_to_stderr(one, capsys):
    run(one(500), one(seed=2, name="b.png"), progress=True, label="someset")
    out, err = capsys.readouterr()
    assert out == ""
    assert "someset: 100%" in err and "600k/600k" in err
    assert "set/hr/a.png: HTTP 500; attempt 2 of 5" in err
    run(one(500), progress=False)
    assert capsys.readouterr() == ("", "")


# -- mirrors -----------------------------------------------------------------------------------

URL = "https://example.invalid/a%20b/c.png?raw=1"


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


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1)
                .filter(lambda s: s not in (".", "..")), min_size=1, max_size=4))
def test_folder_and_address_of_a_mirror_name_the_same_file(tmp_path_factory, segments):
    folder = tmp_path_factory.getbasetemp()
    url = "https://host.invalid/" + "/".join(quote(s, safe="") for s in segments)
    address = fetch.mirrored(url, "http://127.0.0.1:8000")
    assert unquote(urlsplit(address).path) == "/host.invalid/" + "/".join(segments)
    assert fetch.mirrored(url, folder) == folder.joinpath("host.invalid", *segments)


# -- files that stay where they are ------------------------------------------------------------

def test_a_file_of_a_package_is_found_without_importing_it():
    code = ("import sys; from irbench import fetch; p = fetch.location("
            "'package://skimage/data/astronaut.png'); assert p.is_file(), p; "
            "assert not {'skimage', 'requests', 'pooch', 'tqdm', 'numpy', 'PIL', 'torch'} "
            "& set(sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_files_in_place_are_checked_and_not_copied(tmp_path):
    path = tmp_path / "über all.png"
    path.write_bytes(b"data")
    file = fetch.RemoteFile(path.as_uri(), tmp_path / "other", hashlib.sha256(b"data").hexdigest())
    assert run(file) == [path]
    assert not file.path.exists()
    path.write_bytes(b"else")
    with pytest.raises(Unavailable, match="is not the file that is meant"):
        run(file)


@pytest.mark.parametrize("url", ["ftp://host/a", "package://skimage/../../etc/passwd",
                                 "package:///a", "a.png"])
def test_urls_that_cannot_be_meant(url):
    with pytest.raises(UserError, match="Valid: https://, http://, package://, file://"):
        fetch.location(url)


def test_a_package_that_is_not_installed():
    with pytest.raises(Unavailable, match="'nosuchpackage' is not installed"):
        fetch.location("package://nosuchpackage/a.png")
