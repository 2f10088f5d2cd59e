"""Files are written whole or not at all, and files from people are read within limits."""

import errno
import os
import pwd
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from irbench.catalog import reader
from irbench.core import files, messages
from irbench.core.errors import UserError

# what people, editors and attackers leave in a file, and the phrase that says what is wrong
HOSTILE_YAML = {
    "deep": ("[" * 100_000, "line 1: nested deeper than 64 levels"),
    "deep mappings": ("{a: " * 5_000 + "1" + "}" * 5_000, "nested deeper than"),
    "deep by indent": ("\n".join(" " * k + "a:" for k in range(200)), "line 65: nested deeper"),
    "billion laughs": ("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 12)),
        "aliases stand for more than 1,000,000 values"),
    "merge bomb": ("a0: &a0 {k: 1}\n" + "".join(
        f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 10)}]}}\n" for k in range(1, 12)),
        "aliases stand for more than"),
    "of itself": ("a: &a [*a]", "an alias stands for a part of itself"),
    "deep by aliases": ("a0: &a0 [x]\n" + "".join(f"a{k}: &a{k} [*a{k - 1}]\n"
                                                  for k in range(1, 1000)), "nested deeper than"),
    "UTF-16": ("run: x".encode("utf-16"), "not a text file in UTF-8"),
    "Latin 1": ("title: Müller".encode("latin-1"), "not a text file in UTF-8"),
    "NUL": (b"run: x\0", "holds the character NUL"),
    "escaped NUL": ('run: "a\\0b"', "run holds a character that is not allowed in a text"),
    "half a character": ('{"run": "\\ud800"}', "not valid YAML"),
    "a date": ("run: 2024-01-31", "run is 2024-01-31, which is read as a date"),
    "no date": ("run: 2024-13-31", "month must be in"),
    "a set": ("run: !!set {a}", "run is {'a'}, which is read as a set"),
    "bytes": ("run: !!binary aGFsbG8=", "which is read as a bytes"),
    "an object": ("run: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
    "a wrong tag": ("run: !!int x", "invalid literal for int"),
    "an empty number": ("run: !!float ''", "not valid YAML: string index"),
    "a number as key": ("1: x", "top level: the key 1 is not a text; write it in quotes"),
    "yes as key": ("a: [{yes: 1}]", r"a\[0\]: the key True is not a text"),
    "a list as key": ("? [a]\n: x", "unhashable"),
    "infinity": ("a: {b: [1, .inf]}", r"a.b\[1\] is not a finite number"),
    "digits": ("a: " + "9" * 5000, "4300 digits"),
    "a huge number": ("a: [1" + "0" * 400 + "]", r"a\[0\] is too large a number"),
    "twice": ("a: 1\na: 2", "line 2: 'a' is defined twice"),
    "two documents": ("a: 1\n---\na: 2", "not valid YAML: line 2"),
    "a tab": ("a:\n\t- 1", "not valid YAML: line 2"),
}
HOSTILE_JSON = {
    "deep": ("[" * 100_000, "nested deeper than 64 levels"),
    "deep but readable": ("[" * 200 + "]" * 200, "nested deeper than 64 levels"),
    "UTF-16": ("{}".encode("utf-16"), "not a text file in UTF-8"),
    "NUL": (b"{}\0", "holds the character NUL"),
    "escaped NUL": ('{"a": ["\\u0000"]}', r"a\[0\] holds a character that is not allowed"),
    "half a character": ('{"a\\uDC00": 1}', "holds a character that is not allowed"),
    "half a file": ('{"a": ', "not valid JSON: Expecting value: line 1"),
    "empty": ("", "not valid JSON"),
    "digits": ("9" * 5000, "4300"),
}


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("case", HOSTILE_YAML)
def test_hostile_yaml_is_refused_at_once_with_the_reason(tmp_path, case):
    content, message = HOSTILE_YAML[case]
    begun = time.process_time()
    with pytest.raises(ValueError, match=message):
        reader.parse(write(tmp_path / "x.yaml", content))
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("case", HOSTILE_JSON)
def test_hostile_json_is_refused_with_the_reason(tmp_path, case):
    content, message = HOSTILE_JSON[case]
    with pytest.raises(ValueError, match=message):
        files.read_json(write(tmp_path / "x.json", content))


def test_ordinary_files_are_read(tmp_path):
    text = "a: &a {b: [1, 2.5, true, null, 'é']}\nc: {<<: *a, d: *a}\n"
    inner = {"b": [1, 2.5, True, None, "é"]}
    for data in (text.encode(), text.encode("utf-8-sig"), text.replace("\n", "\r\n").encode()):
        assert reader.parse(write(tmp_path / "x", data)) == {"a": inner, "c": {**inner, "d": inner}}
    assert files.read_json(write(tmp_path / "x", '\ufeff{"a": "\\u00e9 \\ud83d\\ude00"}')) == {
        "a": "é 😀"}


@pytest.mark.parametrize("path", ["folder", "/dev/zero", "missing/x"])
@pytest.mark.parametrize("read", [reader.parse, files.read_json])
def test_what_is_no_file_is_refused(tmp_path, path, read, monkeypatch):
    monkeypatch.setattr(files, "LARGEST", 2**20)
    (tmp_path / "folder").mkdir()
    with pytest.raises((ValueError, FileNotFoundError), match="directory|a device|No such"):
        read(tmp_path / path) if read is reader.parse else files.read_text(tmp_path / path, 2**20)


# -- writing -----------------------------------------------------------------------------------

@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_a_file_has_the_permissions_of_any_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        files.write_atomic(tmp_path / "x.json", "{}")
    finally:
        os.umask(before)
    assert (tmp_path / "x.json").stat().st_mode & 0o777 == 0o666 & ~umask


LEFT = """
import os, signal
from irbench.core import files
with files.atomic_path("report.html") as temporary:
    temporary.write_text("half of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    killed = subprocess.run([sys.executable, "-c", LEFT], cwd=tmp_path, check=False)
    assert killed.returncode == -signal.SIGKILL
    left, = tmp_path.iterdir()
    assert files.TEMPORARY.fullmatch(left.name)
    (tmp_path / ".report.html").write_text("not a temporary file")
    files.write_atomic(tmp_path / "report.html", "all of it")
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", ".report.html"}


def test_a_file_that_is_being_written_is_no_leftover(tmp_path):
    with files.atomic_path(tmp_path / "x.csv") as temporary:
        temporary.write_text("first")
        files.remove_leftovers(tmp_path)
        files.write_atomic(tmp_path / "x.csv", "second")
        assert temporary.read_text() == "first"
    assert (tmp_path / "x.csv").read_text() == "first"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_name_of_any_length_can_be_written(tmp_path):
    for name in ("x" * 250 + ".json", "é" * 120 + ".json", "😀" * 62 + ".json", "x." + "y" * 250):
        files.write_atomic(tmp_path / name, "{}")
    assert len(list(tmp_path.iterdir())) == 4
    with pytest.raises(UserError, match="File name too long. Choose shorter names"):
        files.write_atomic(tmp_path / ("x" * 300), "{}")


@pytest.mark.parametrize(("number", "advice"), [
    (errno.EROFS, "Choose a place"), (errno.EACCES, "Choose a place"), (errno.EDQUOT, "Make room"),
    (errno.EIO, "error")])
def test_a_place_that_cannot_be_written_is_one_message(tmp_path, monkeypatch, number, advice):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UserError, match=f"x.json: not written: .*{advice}"):
        files.write_json(tmp_path / "x.json", {})


def test_a_file_where_a_folder_should_be_is_one_message(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(UserError, match="results/run/x.json: not written: Not a directory. A file"):
        files.write_json(tmp_path / "results" / "run" / "x.json", {})


def test_a_disk_that_is_full_leaves_the_old_file(tmp_path):
    files.write_atomic(tmp_path / "x.bin", "old")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        with pytest.raises(UserError, match="not written: File too large. Make room"):
            files.write_atomic(tmp_path / "x.bin", "n" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert (tmp_path / "x.bin").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_log_that_is_full_costs_the_log_only(capsys):
    messages.log_to("/dev/full")
    try:
        messages.say("one")
        messages.say("two")
    finally:
        messages.log_to(None)
    told = capsys.readouterr().err.splitlines()
    assert [told[0], told[2]] == ["one", "two"] and len(told) == 3
    assert told[1].startswith("--log /dev/full: no more messages are written to it: No space left")


def test_every_file_of_the_package_is_written_here():
    """Another way to make temporary files would miss the umask, the lock and the messages."""
    for path in sorted(Path(files.__file__).parents[1].rglob("*.py")):
        assert "mkstemp" not in path.read_text(), path


@pytest.mark.parametrize("name", [".", "/", "", ".."])
def test_a_path_without_a_name_is_no_file_to_write(name):
    with pytest.raises(UserError, match="Is a directory"):
        files.write_atomic(Path(name), "text")


def test_a_home_folder_that_does_not_exist_is_no_error(monkeypatch):
    assert files.expanded("~") == Path.home()
    assert files.expanded("~nobody-of-this-name/a") == Path("~nobody-of-this-name/a")
    monkeypatch.delenv("HOME")      # as in a container with a user that the system does not know

    def unknown(_):
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert files.expanded("~/a") == Path("~/a")
