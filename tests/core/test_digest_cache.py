"""Digests kept on disk: no file is read twice, and no digest is ever that of other bytes."""

import hashlib
import os
import random
import sqlite3
import subprocess
import sys

import pytest

from irbench.core import digest_cache, digests
from irbench.core.errors import Unavailable
from irbench.data import folders
from irbench.data import sets as datasets
from tests.helpers import sets

PROGRAM = """
import pathlib, sys
from irbench.core import digest_cache, digests
digest_cache.SETTLED_NS = -1
folder = pathlib.Path(sys.argv[1])
for _ in range(int(sys.argv[2])):
    digest_cache._memory.clear()
    for path in sorted(folder.iterdir()):
        print(digests.known_digest(path))
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of its own, for files that count as settled at once; returns its file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digest_cache, "SETTLED_NS", -1)
    monkeypatch.setattr(digest_cache, "_opened", None)
    monkeypatch.setattr(digest_cache, "_memory", {})
    return tmp_path / "cache" / "irbench" / "digests-1.sqlite"


@pytest.fixture
def reads(monkeypatch):
    """The files that are hashed, in order."""
    found, real = [], digests.file_digest
    monkeypatch.setattr(digests, "file_digest", lambda path: found.append(path) or real(path))
    return found


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def later_process():
    """Forget what only this process knows."""
    digest_cache._memory.clear()
    digest_cache._opened = None


def test_another_process_need_not_read_the_file(cache, reads, tmp_path):
    path = tmp_path / "weights \udce4 'x'.bin"  # any name that a file can have
    path.write_bytes(b"one")
    for _ in range(3):
        assert digests.known_digest(path) == sha(b"one")
        later_process()
    assert reads == [path]
    assert cache.is_file()


@pytest.mark.parametrize("restored", [False, True])
def test_an_edit_of_the_same_size_is_seen(cache, reads, tmp_path, restored):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    before = path.stat()
    assert digests.known_digest(path) == sha(b"one")
    later_process()
    path.write_bytes(b"two")
    if restored:  # as tools do that keep the time
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert digests.known_digest(path) == sha(b"two")
    assert len(reads) == 2


def test_another_file_of_the_same_name_size_and_time_is_seen(cache, tmp_path):
    path, other = tmp_path / "file", tmp_path / "other"
    for one, data in ((path, b"one"), (other, b"two")):
        one.write_bytes(data)
        os.utime(one, ns=(1, 1))
    assert digests.known_digest(path) == sha(b"one")
    later_process()
    other.replace(path)
    assert digests.known_digest(path) == sha(b"two")


def test_what_has_just_changed_is_not_trusted(cache, reads, tmp_path, monkeypatch):
    monkeypatch.setattr(digest_cache, "SETTLED_NS", 2_000_000_000)
    path = tmp_path / "file"
    path.write_bytes(b"one")
    for _ in range(2):
        assert digests.known_digest(path) == sha(b"one")
    assert len(reads) == 2
    now = path.stat().st_mtime_ns
    for seconds, count in ((1.9, 3), (-60, 4), (2.1, 5), (3600, 5)):  # -60: a clock that is wrong
        monkeypatch.setattr(digest_cache.time, "time_ns", lambda s=seconds: now + int(s * 1e9))
        assert digests.known_digest(path) == sha(b"one")
        assert len(reads) == count
        later_process()


def test_a_file_that_changes_while_it_is_read_is_not_kept(cache, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one")

    def slow(path):
        path.write_bytes(b"three")
        return sha(b"one")

    found = digest_cache.measure(path, slow)
    assert found.state is None
    digest_cache.keep([found])
    assert digest_cache.find([path]) == {}


@pytest.mark.parametrize("damage", ["text", "empty", "half", "noise", "folder"])
def test_a_damaged_cache_is_done_without_and_replaced(cache, tmp_path, damage):
    paths = [tmp_path / f"file{i}" for i in range(100)]
    for path in paths:
        path.write_bytes(path.name.encode())
    right = [sha(path.name.encode()) for path in paths]
    assert digests.known_digests(paths) == right
    later_process()
    data = cache.read_bytes()
    cache.unlink()
    if damage == "folder":
        cache.mkdir()
    else:
        noise = random.Random(0).randbytes(len(data) - 100)
        cache.write_bytes({"text": b"no database" * 100, "empty": b"", "noise": data[:100] + noise,
                           "half": data[:len(data) // 2]}[damage])
    for _ in range(3):
        assert digests.known_digests(paths) == right
        later_process()
    if damage != "folder":
        assert set(digest_cache.find(paths).values()) == set(right)


def test_no_changed_byte_of_the_cache_gives_a_wrong_digest(cache, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    digests.known_digest(path)
    later_process()
    data = cache.read_bytes()
    # the row holds the digest and all it depends on: change each of its bytes
    begin = data.index(os.fsencode(path))
    end = data.index(sha(b"one").encode()) + 64 + 16
    assert end - begin < 400
    for place in range(begin - 10, end):
        cache.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1:])
        assert digests.known_digest(path) == sha(b"one")
        later_process()


def test_without_a_place_to_write_digests_last_as_long_as_the_process(cache, reads, tmp_path,
                                                                      monkeypatch):
    (tmp_path / "cache").write_text("a file where the folder should be")
    path = tmp_path / "file"
    path.write_bytes(b"one")
    for _ in range(3):
        assert digests.known_digest(path) == sha(b"one")
    assert len(reads) == 1
    monkeypatch.setattr(digest_cache, "sqlite3", None)
    later_process()
    assert digests.known_digest(path) == sha(b"one")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(digest_cache.Path, "home", lambda: (_ for _ in ()).throw(RuntimeError()))
    assert digest_cache.location() is None


def test_a_cache_that_another_process_holds_is_not_waited_for(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(digest_cache, "WAIT", 0.01)
    path = tmp_path / "file"
    path.write_bytes(b"one")
    digests.known_digest(path)
    later_process()
    other = sqlite3.connect(cache, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert digests.known_digest(path) == sha(b"one")
    other.close()
    later_process()
    assert digest_cache.find([path]) == {path: sha(b"one")}  # what was there is still there


def test_many_processes_write_at_once(cache, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for i in range(40):
        (folder / f"{i:02d}").write_bytes(b"%d" % i)
    right = [sha(path.name.lstrip("0").encode() or b"0") for path in sorted(folder.iterdir())]
    running = [subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder), "5"],
                                stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in running:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert output.split() == right * 5
    assert digest_cache.find(sorted(folder.iterdir())) == dict(
        zip(sorted(folder.iterdir()), right, strict=True))
    disk = sqlite3.connect(cache)
    assert disk.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    disk.close()


def test_a_child_after_a_fork_opens_the_cache_anew(cache, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    digests.known_digest(path)
    child = os.fork()
    if not child:
        right = digest_cache._opened is None and digests.known_digest(path) == sha(b"one")
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert digest_cache._opened is not None


def test_only_the_newest_entries_are_kept(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(digest_cache, "LIMIT", 3)
    paths = [tmp_path / f"file{i}" for i in range(5)]
    for path in paths:
        path.write_bytes(b"one")
        digests.known_digest(path)
    later_process()
    assert set(digest_cache.find(paths)) == set(paths[2:])


def test_hashing_that_is_interrupted_keeps_what_it_has(cache, reads, tmp_path):
    paths = [tmp_path / f"file{i}" for i in range(3)]
    for path in paths[:2]:
        path.write_bytes(b"one")
    paths[2].mkdir()  # cannot be read
    with pytest.raises(OSError):
        digests.known_digests(paths)
    later_process()
    assert set(digest_cache.find(paths[:2])) == set(paths[:2])


def test_images_of_a_set_are_hashed_once_until_they_change(cache, reads, tmp_path):
    folder = sets.images(tmp_path / "images", "a.png", "b.png")
    entry = sets.make(tmp_path, local={"folder": str(folder)})
    first = datasets.digest(entry)
    later_process()
    assert datasets.digest(entry) == first
    assert sorted(reads) == [folder / "a.png", folder / "b.png"]
    sets.images(tmp_path / "other", "b.png").joinpath("b.png").replace(folder / "b.png")
    assert datasets.digest(entry) != first
    assert reads[2:] == [folder / "b.png"]
    (folder / "b.png").unlink()
    (folder / "b.png").symlink_to(tmp_path)
    (folder / "c.png").symlink_to(folder / "a.png")
    assert [row.name for row in datasets.manifest(entry)] == ["a", "c"]


def test_a_set_whose_file_goes_while_it_is_hashed_is_unavailable(cache, tmp_path):
    with pytest.raises(Unavailable, match=r"gone\.png: No such file"):
        folders.digest_all([tmp_path / "gone.png"], "mine")


def test_a_fresh_digest_takes_the_place_of_a_wrong_known_one(cache, tmp_path):
    """A file whose bytes changed on the disk, by no program: what verify finds, the next run sees.
    """
    path = tmp_path / "image.png"
    path.write_bytes(b"good")
    digest_cache.keep([digest_cache.Measured(path, digest_cache._state(path), "0" * 64)])
    assert digests.known_digest(path) == "0" * 64
    assert digests.fresh_digest(path) == sha(b"good") == digests.known_digest(path)
    later_process()
    assert digests.known_digest(path) == sha(b"good")


# -- answers -------------------------------------------------------------------------------------

def test_an_answer_is_computed_once_for_all_processes(cache):
    asked = []
    for _ in range(3):
        assert digest_cache.answer(sha(b"key"), lambda: asked.append(1) or "the \u00e4nswer"
                                   ) == "the \u00e4nswer"
        later_process()
    assert len(asked) == 1
    assert digest_cache.answer(sha(b"other"), lambda: "another") == "another"


@pytest.mark.parametrize("change", ["answer = 'wrong'", "answer = x'ff00'", "answer = NULL",
                                    "seal = 'wrong'", "seal = NULL", "answer = 7"])
def test_a_damaged_answer_is_computed_again(cache, change):
    digest_cache.answer(sha(b"key"), lambda: "right")
    later_process()
    with sqlite3.connect(cache) as disk:
        disk.execute(f"UPDATE answers SET {change}")
    assert digest_cache.answer(sha(b"key"), lambda: "right") == "right"
    later_process()
    assert digest_cache.answer(sha(b"key"), lambda: "not asked") == "right"


def test_answers_need_no_cache(cache, monkeypatch):
    cache.parent.parent.write_text("a file where the folder should be")
    assert [digest_cache.answer(sha(b"key"), lambda: "one") for _ in range(2)] == ["one"] * 2
