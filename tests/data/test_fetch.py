"""Fetching against a server on this machine that fails in every way a real one does."""

import errno
import hashlib
import socket
import threading
import time
from dataclasses import replace

import pytest

from irbench.core.errors import Unavailable, UserError
from irbench.data import fetch, transfer
from tests.helpers.servers import SIZE, Server, content, serve


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


@pytest.mark.parametrize("length", ["abc", "-5", "1e3", "\u00b2", "5, 6", "9" * 5000, "0x10"])
def test_an_invalid_content_length_is_a_message(one, server, length):
    file = one(*[("Content-Length", length)] * 2)
    with pytest.raises(Unavailable, match=r"a\.png could not be .*(Content-Length|Invalid)"):
        run(file, attempts=2)
    assert left_over(file) == []
    server.plan["/a.png"] = [("Content-Length", length)]
    run(file)
    assert file.path.read_bytes() == content(1)


@pytest.mark.parametrize("header", [("Location", "http://[x/"), ("Location", "file:///etc/passwd"),
                                    ("Location", "http://a..b/")])
def test_an_address_that_leads_nowhere_is_a_message(one, header):
    with pytest.raises(Unavailable, match="could not be fetched"):
        run(one(*[header] * 2), attempts=2)


def test_a_retry_after_that_is_no_number_is_ignored(one, server):
    server.retry_after = "\u00b2"
    file = one(429)
    run(file)
    assert file.path.read_bytes() == content(1)


@pytest.mark.parametrize("fault", ["ok", "no length", "endless"])
@pytest.mark.parametrize("stated", ["entry", "environment"])
def test_a_download_of_unknown_size_has_a_limit(one, server, tmp_path, monkeypatch, fault, stated):
    limit = SIZE // 2 - 1  # less than the half that "no length" sends
    monkeypatch.setenv("IRBENCH_DOWNLOAD_LIMIT", "1K" if stated == "entry" else str(limit))
    file = one(fault, fault)
    file = replace(file, sha256=None, bytes=None, limit=limit if stated == "entry" else None)
    with pytest.raises(Unavailable, match=rf"{limit}, the limit|more than {limit} bytes, the limit"
                       ) as caught:
        run(file)
    assert "state its 'bytes' or a 'limit'" in str(caught.value)
    assert "IRBENCH_DOWNLOAD_LIMIT=20G" in str(caught.value)
    assert left_over(file) == []
    assert len(server.requests) == 1  # another attempt would be as large
    server.plan["/a.png"] = []
    run(replace(file, limit=SIZE))
    assert file.path.read_bytes() == content(1)


def test_a_known_size_needs_no_limit(one, tmp_path, monkeypatch):
    monkeypatch.setenv("IRBENCH_DOWNLOAD_LIMIT", "1")
    file = one()
    run(file)
    assert file.path.read_bytes() == content(1)
    copy = tmp_path / "127.0.0.1" / "a.png"
    copy.parent.mkdir()
    copy.write_bytes(b"a file of a mirror")
    url = "https://127.0.0.1/a.png"
    run(replace(file, url=url, path=tmp_path / "b.png", sha256=None, bytes=None), mirror=tmp_path)
    assert (tmp_path / "b.png").read_bytes() == b"a file of a mirror"


@pytest.mark.parametrize(("given", "expected"), [
    ("", 4_000_000_000), ("7", 7), ("20G", 20_000_000_000), ("5 ", 5), ("3mb", 3_000_000)])
def test_the_limit_of_the_environment(monkeypatch, given, expected):
    monkeypatch.setenv("IRBENCH_DOWNLOAD_LIMIT", given)
    assert fetch.download_limit() == expected


@pytest.mark.parametrize("given", ["lots", "-1", "1.5G", "9" * 5000, "\u00b2"])
def test_a_bad_limit_is_refused(monkeypatch, given):
    monkeypatch.setenv("IRBENCH_DOWNLOAD_LIMIT", given)
    with pytest.raises(UserError, match="is not a size. Valid: bytes"):
        fetch.fetch_all([])


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

    progress = fetch.messages.Progress("files", None, unit="B", show=False)
    file = one(*[500] * 9)
    with pytest.raises(Unavailable):
        transfer.transfer(file, file.url, transfer.Downloads(5, backoff=1.0, timeout=5.0,
                                                             progress=progress, stop=Stop()))
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


def test_only_what_is_missing_or_damaged_is_fetched(one, server, capsys):
    files = [one(seed=i, name=f"{i}.png") for i in range(3)]
    run(*files)
    server.requests.clear()
    files[0].path.write_bytes(bytes(SIZE))  # right size, wrong content
    files[1].path.unlink()
    run(*files)
    assert sorted(path for path, _ in server.requests) == ["/0.png", "/1.png"]
    assert files[0].path.read_bytes() == content(0)
    said, = (line for line in capsys.readouterr().err.splitlines() if "replaced" in line)
    assert said.endswith(f"so fetched again and replaced: {files[0].path}")


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


def test_progress_and_the_retries_go_to_stderr(one, capsys, monkeypatch):
    monkeypatch.setattr(fetch.messages, "EVERY", 0.0)
    run(one(500), one(seed=2, name="b.png"), progress=True, label="someset")
    out, err = capsys.readouterr()
    assert out == ""
    assert "download someset: 0.6 of 0.6 MB, " in err
    assert "set/hr/a.png: HTTP 500; attempt 2 of 5" in err
    run(one(500), progress=False)
    assert capsys.readouterr() == ("", "")


# -- a file that no one has pinned ---------------------------------------------------------------

def unpinned(file):
    return fetch.RemoteFile(file.url, file.path, None, name=file.name)


@pytest.mark.parametrize("failure", ["truncated", "reset", "reset halfway", 500])
def test_an_unpinned_file_is_tried_again_from_the_start(one, server, failure):
    file = unpinned(one(failure))
    run(file)
    assert file.path.read_bytes() == content(1)
    # no tag says that the server still has the same file
    assert server.requests == [("/a.png", None)] * 2
    assert left_over(file) == ["a.png"]
    run(file)
    assert len(server.requests) == 2


def test_an_unpinned_file_goes_on_if_the_server_says_it_is_the_same(one, server):
    file = unpinned(one("truncated"))
    server.tag = '"one"'
    with pytest.raises(Unavailable, match=r"Expected any content \(not pinned\)"):
        run(file, attempts=1)
    assert left_over(file) == [".a.png.unpinned.part", ".a.png.unpinned.part.tag"]
    run(file)
    assert_continued(server.requests[1])
    assert server.conditions == [None, '"one"']
    assert file.path.read_bytes() == content(1)
    assert left_over(file) == ["a.png"]


def test_an_unpinned_file_that_changed_meanwhile_is_fetched_anew(one, server):
    file = unpinned(one("truncated"))
    server.tag = '"one"'
    with pytest.raises(Unavailable):
        run(file, attempts=1)
    server.tag, server.files["/a.png"] = '"two"', content(2)
    run(file)
    assert file.path.read_bytes() == content(2)


def test_an_unpinned_file_is_not_empty(one, server):
    file = unpinned(one())
    server.files["/a.png"] = b""
    with pytest.raises(Unavailable, match="the answer was empty"):
        run(file, attempts=2)
    assert left_over(file) == []
