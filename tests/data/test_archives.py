"""Archives: what is unpacked, what is refused before anything is written, what survives a kill."""

import contextlib
import functools
import gzip
import hashlib
import io
import os
import random
import shutil
import stat
import tarfile
import zipfile
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irbench.core.errors import Unavailable, UserError
from irbench.data import archives, folders, obtain, sets
from tests.helpers.archives import zipped
from tests.helpers.servers import Server, serve
from tests.helpers.sets import images, make

PINNED = "data.vision.invalid/DIV/train.zip"


def tarred(path, *members):
    """Write a tar of (name or TarInfo, bytes or None) and return its path."""
    with tarfile.open(path, "w" if path.suffix == ".tar" else f"w:{path.suffix[1:]}") as archive:
        for name, data in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if data is not None:
                info.size = len(data)
            archive.addfile(info, None if data is None else io.BytesIO(data))
    return path


def info(name, kind, linkname=""):
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, linkname
    return found


def held(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*") if path.is_file()}


# -- one archive -------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.xz", "a.zip"])
def test_all_kinds_are_unpacked(tmp_path, name):
    write = zipped if name.endswith(".zip") else tarred
    path = write(tmp_path / name, ("./top/a.png", b"a"), ("top/deep/b.png", b"b" * 99999))
    found = archives.unpack(path, tmp_path / "out")
    assert held(tmp_path / "out") == {"top/a.png": b"a", "top/deep/b.png": b"b" * 99999}
    assert found == [tmp_path / "out/top/a.png", tmp_path / "out/top/deep/b.png"]


def test_folders_of_an_archive(tmp_path):
    path = tarred(tmp_path / "a.tar", (info(".", tarfile.DIRTYPE), None),
                  (info("d", tarfile.DIRTYPE), None), (info("d", tarfile.DIRTYPE), None),
                  ("d/a", b"a"))
    archives.unpack(path, tmp_path / "out")
    assert held(tmp_path / "out") == {"d/a": b"a"}


def huge_zip(path, size=2**50, kind=zipfile.ZIP_STORED):
    """Write a zip whose only member states a size of 1 PB."""
    member = zipfile.ZipInfo("a.png")
    member.compress_type = kind
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, b"abc")
        archive.infolist()[0].file_size = size  # written to the list of members on closing
    return path


def huge_tar(path, kind=tarfile.REGTYPE, size=2**50, copies=1):
    """Write a tar whose member states a size of 1 PB."""
    member = info("a.png", kind)
    member.size = size
    path.write_bytes(copies * member.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    return path


@pytest.mark.parametrize("make", [
    huge_zip, functools.partial(huge_zip, kind=zipfile.ZIP_DEFLATED),
    functools.partial(huge_zip, size=2**63 - 1), functools.partial(huge_zip, size=2**34),
    huge_tar, functools.partial(huge_tar, kind=tarfile.GNUTYPE_LONGNAME),
    functools.partial(huge_tar, kind=tarfile.XHDTYPE),
    functools.partial(huge_tar, kind=tarfile.GNUTYPE_SPARSE),
    functools.partial(huge_tar, size=2**80),
    functools.partial(huge_tar, kind=tarfile.GNUTYPE_LONGNAME, size=0, copies=3000)])
def test_a_member_of_impossible_size_is_refused(tmp_path, make):
    path = make(tmp_path / ("a.zip" if "zip" in str(make) else "a.tar"))
    with pytest.raises(archives.Refused):
        archives.unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_member_that_is_larger_than_the_disk_is_a_message(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2))
    with pytest.raises(OSError, match="its content needs 3 bytes, the disk has 2 free"):
        archives.unpack(zipped(tmp_path / "a.zip", ("a.png", b"abc")), tmp_path / "out")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_archives_are_unpacked_or_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    name = data.draw(st.sampled_from(["a.zip", "a.tar", "a.tar.gz", "a.tar.xz"]))
    write = zipped if name.endswith(".zip") else tarred
    content = bytearray(write(folder / name, ("d/a.png", b"abc" * 9), ("b.png", b"")).read_bytes())
    for at, value in data.draw(st.lists(st.tuples(
            st.integers(0, len(content) - 1), st.integers(0, 255)), min_size=1, max_size=4)):
        content[at] = value
    (folder / name).write_bytes(content[:data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(archives.Refused):
        assert archives.unpack(folder / name, folder / "out")


LINK = zipfile.ZipInfo("top/link")
LINK.external_attr = (stat.S_IFLNK | 0o777) << 16
BAD_ZIPS = [
    ([("../evil", b"x")], "'../evil' would lie outside"),
    ([("a/../../evil", b"x")], "would lie outside"),
    ([("/etc/evil", b"x")], "'/etc/evil' would lie outside"),
    ([("..\\evil", b"x")], r"contains '\\', which some systems do not allow in a name"),
    ([("C:/evil", b"x")], "contains ':', which some systems"),
    ([("a\tb.png", b"x")], r"contains '\t', which some systems"),
    ([("d/" + "\xe4" * 128, b"x")], "... is too long: a name may have 255 bytes"),
    ([(LINK, b"/etc/passwd")], "'top/link' is a link or a device"),
    ([("a.png", b"x"), ("A.png", b"y")], "it contains 'A.png' twice"),
    ([("a", b"x"), ("a/b", b"y")], "'a/b' lies in a path that is a file"),
    ([("a/b", b"y"), ("a", b"x")], "it contains 'a' twice"),
    ([], "it contains no files"),
]
BAD_TARS = [
    ([(os.fsdecode(b"caf\xe9.png"), b"x")], r"contains '\udce9', which some systems do not"),
    ([("../evil", b"x")], "'../evil' would lie outside"),
    ([("/etc/evil", b"x")], "would lie outside"),
    ([(info("link", tarfile.SYMTYPE, "/etc"), None), ("link/evil", b"x")], "'link' is a link"),
    ([(info("hard", tarfile.LNKTYPE, "../../x"), None)], "'hard' is a link or a device"),
    ([(info("pipe", tarfile.FIFOTYPE), None)], "'pipe' is a link or a device"),
    ([(info("disk", tarfile.BLKTYPE), None)], "'disk' is a link or a device"),
    ([("a.png", b"x"), ("./a.png", b"y")], "it contains './a.png' twice"),
]


@pytest.mark.parametrize(("members", "message"), BAD_ZIPS)
def test_a_zip_that_is_refused(tmp_path, members, message):
    path = zipped(tmp_path / "a.zip", ("good.png", b"good"), *members) if members else zipped(
        tmp_path / "a.zip")
    refused(path, message)


@pytest.mark.parametrize(("members", "message"), BAD_TARS)
def test_a_tar_that_is_refused(tmp_path, members, message):
    refused(tarred(tmp_path / "a.tar.gz", ("good.png", b"good"), *members), message)


def refused(path, message):
    before = sorted(path.parent.iterdir())
    with pytest.raises(archives.Refused) as caught:
        archives.unpack(path, path.parent / "out")
    assert message in str(caught.value)
    assert sorted(path.parent.iterdir()) == before


def test_an_encrypted_zip_is_refused(tmp_path):
    path = zipped(tmp_path / "a.zip", ("a.png", b"x"))
    data = bytearray(path.read_bytes())
    for head, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags of both headers
        data[data.index(head) + at] |= 1
    path.write_bytes(data)
    refused(path, "'a.png' is encrypted")


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b", "\\", "c:", "~", "\0"]), min_size=1,
                max_size=5), st.booleans())
def test_nothing_is_ever_outside(tmp_path_factory, parts, absolute):
    folder = tmp_path_factory.mktemp("any") / "deep" / "out"
    name = "/" * absolute + "/".join(parts)
    try:
        found = archives._checked([archives._Member(name, False, 1, None)], folder)
    except archives.Refused:
        return
    for target in found:
        assert os.path.normpath(target).startswith(f"{folder}/")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz"])
@pytest.mark.parametrize("damage", ["cut", "text", "empty", "flip"])
def test_a_broken_archive_is_one_message(tmp_path, name, damage):
    write = zipped if name.endswith(".zip") else tarred
    path = write(tmp_path / name, *((f"{i}.png", os.urandom(5000)) for i in range(9)))
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes({"cut": data[:middle], "text": b"<html>Please log in</html>", "empty": b"",
                      "flip": data[:middle] + bytes(64) + data[middle + 64:]}[damage])
    if (name, damage) == ("a.tar", "flip"):
        return  # a plain tar has no checksum of its content, only of its headers
    with pytest.raises(archives.Refused):
        archives.unpack(path, tmp_path / "out")


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
@pytest.mark.parametrize("damage", ["header", "zeros", "boundary", "trailer"])
def test_a_tar_is_unpacked_whole_or_not_at_all(tmp_path, name, damage):
    """tarfile itself takes a damaged header after the first for the end, without a word."""
    path = tarred(tmp_path / "whole.tar", *((f"{i}.png", os.urandom(600)) for i in range(3)))
    data, second = path.read_bytes(), 512 + 1024
    data = {"header": data[:second + 5] + b"#" + data[second + 6:],
            "zeros": data[:second] + bytes(512) + data[second + 512:],
            "boundary": data[:second], "trailer": data[:3 * second] + bytes(511)}[damage]
    path.unlink()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    refused(tmp_path / name, "damaged header about byte 1536" if damage == "header" else
            "a damaged header" if damage == "zeros" else "ends without its end mark")


def test_damaged_bzip2_is_a_broken_archive(tmp_path):
    path = zipped(tmp_path / "a.zip", ("a.png", random.Random(0).randbytes(5000)),
                  compression=zipfile.ZIP_BZIP2)
    data = bytearray(path.read_bytes())
    data[200] ^= 255
    path.write_bytes(data)
    with pytest.raises(archives.Refused, match=r"not a readable archive \(OSError"):
        archives.unpack(path, tmp_path / "out")


# -- a set -------------------------------------------------------------------------------------

@pytest.fixture
def world(tmp_path, monkeypatch):
    """A mirror with an archive of three images, and a function that reads the set's entry."""
    source = images(tmp_path / "source", "1.png", "2.png", "3.png")
    path = tmp_path / "mirror" / PINNED
    path.parent.mkdir(parents=True)
    fill(path, source)
    monkeypatch.setenv("IRBENCH_MIRROR", str(tmp_path / "mirror"))

    def entry(sha256=None, url=f"https://{PINNED}", **changes):
        return make(tmp_path, root=tmp_path / "data", archive={
            "files": [{"url": url, "sha256": sha256}], "hr": "**/*.png", "count": 3, **changes})
    entry.archive, entry.source, entry.root = path, source, tmp_path / "data"
    return entry


def fill(path, source):
    zipped(path, *((f"TRAIN/{p.name}", p.read_bytes()) for p in sorted(source.iterdir())))


def fetch(entry):
    return obtain.fetch(entry, entry.root, progress=False)


def test_an_archive_becomes_a_set(world):
    entry = world()
    assert sets.state(entry, world.root) == "absent"
    with pytest.raises(Unavailable, match="mine does not exist. Run: irbench data fetch mine "
                                          r"--config CONFIG\.$|--config CONFIG$"):
        sets.open_local(entry, world.root)
    found = obtain.obtain(entry, world.root)
    assert [image.name for image in found.role("hr")] == ["1", "2", "3"]
    assert found.images[0].load().shape == (6, 8, 3)
    assert sets.state(entry, world.root) == "complete"
    # what was not pinned is recorded, the archive itself is gone
    digest = hashlib.sha256(world.archive.read_bytes()).hexdigest()
    kept = world.root / "archives" / "mine"
    assert [path.name for path in kept.iterdir() if not path.name.startswith(".")] == [
        "train.zip.sha256"]
    assert (kept / "train.zip.sha256").read_text() == f"{digest}  train.zip\n"
    assert sorted(path.name for path in world.root.iterdir()) == ["archives", "manifests", "mine"]
    world.archive.unlink()
    assert fetch(entry) == found  # nothing is downloaded again


def test_a_pinned_archive_must_be_the_one(world):
    digest = hashlib.sha256(world.archive.read_bytes()).hexdigest()
    with pytest.raises(Unavailable, match=r"mine/train\.zip could not be fetched .* wrong content"
                                          r".*change the checksum in the catalog only if"):
        fetch(world(sha256="0" * 64))
    assert len(fetch(world(sha256=digest)).images) == 3


def test_lost_images_are_unpacked_again_from_the_same_archive(world):
    entry = world()
    before = fetch(entry)
    before.images[0].path.unlink()
    assert sets.state(entry, world.root) == "partial 2/3"
    assert obtain.obtain(entry, world.root) == before
    before.images[0].path.unlink()
    images(world.source, "3.png", h=9)
    fill(world.archive, world.source)
    with pytest.raises(Unavailable, match=r"wrong content.*in \S*mine/train\.zip\.sha256 only if"):
        fetch(entry)
    assert before.images[1].path.exists()


def test_an_archive_without_the_expected_images_is_no_set(world):
    for changes, message in (({"count": 4}, "3 images in .*mine, expected 4"),
                             ({"hr": "**/*.bmp"}, r"no image matches \*\*/\*\.bmp in")):
        entry = world(**changes)
        with pytest.raises(Unavailable, match=message):
            fetch(entry)
        assert not folders.frozen_path(entry).exists()
        kept = world.root / "archives" / "mine"
        assert [path.name for path in kept.iterdir()] == [".lock"]  # nothing accepted
    world.archive.unlink()
    assert len(fetch(world()).images) == 3  # unpacked: correcting the catalog needs no download


@pytest.mark.parametrize(("fault", "count", "message"), [
    ("few", 4, "3 images .*expected 4"), ("header", None, "damaged header"),
    ("image", None, "1 files cannot be read: .*1.png")])
def test_a_server_that_mends_its_file_is_read_again(world, fault, count, message):
    """An incomplete set is never pinned as the content that later downloads must equal."""
    url, path = f"https://{PINNED[:-4]}.tar", world.archive.with_suffix(".tar")
    members = [(p.name, p.read_bytes()) for p in sorted(images(
        world.source, "4.png").iterdir())]
    entry = world(count=count, files=[{"url": url}])
    if fault == "few":
        tarred(path, *members[:3])
    elif fault == "image":
        tarred(path, ("1.png", b"no image"), *members[1:])
    else:
        data = bytearray(tarred(path, *members).read_bytes())
        data[512 + 512 * -(-len(members[0][1]) // 512) + 5] ^= 0x55
        path.write_bytes(data)
    for _ in range(2):
        with pytest.raises(Unavailable, match=message):
            fetch(entry)
    tarred(path, *members)
    assert len(fetch(entry).images) == 4


def test_a_pinned_archive_without_the_images_is_kept(world):
    with pytest.raises(Unavailable, match="expected 4"):
        fetch(world(sha256=hashlib.sha256(world.archive.read_bytes()).hexdigest(), count=4))
    assert (world.root / "archives" / "mine" / "train.zip").exists()


def test_a_page_in_place_of_the_archive_is_not_kept(world):
    good = world.archive.read_bytes()
    world.archive.write_bytes(b"<html>Please log in</html>")
    with pytest.raises(Unavailable, match="not a readable archive .*It was deleted; running") as c:
        fetch(world())
    assert f"https://{PINNED}" in str(c.value)
    assert not (world.root / "mine").exists()
    assert not (world.root / "archives" / "mine" / "train.zip").exists()
    world.archive.write_bytes(good)
    assert len(fetch(world()).images) == 3


def test_a_folder_of_the_users_is_left_alone(world):
    images(world.root / "mine", "1.png", "2.png")
    with pytest.raises(Unavailable, match="was not made by irbench, so it is not replaced"):
        fetch(world())
    assert sets.state(world(), world.root) == "2 of 3 expected"
    images(world.root / "mine", "3.png")
    world.archive.unlink()
    assert len(fetch(world()).images) == 3  # whole, so it needs no archive


@pytest.mark.parametrize("moment", ["copyfileobj", "replace", "rows"])
def test_killed_at_any_moment_it_starts_cleanly(world, monkeypatch, moment):
    class Killed(BaseException):
        pass

    def kill(*args, **kwargs):
        raise Killed

    target = {"copyfileobj": (shutil, "copyfileobj"), "replace": (archives.Path, "replace"),
              "rows": (folders, "freeze")}[moment]
    with monkeypatch.context() as patch:
        patch.setattr(*target, kill)
        if moment == "copyfileobj":  # kill -9 tidies nothing
            patch.setattr(archives.shutil, "rmtree", lambda *a, **k: None)
        if moment == "replace":
            (world.root / "archives" / "mine").mkdir(parents=True)
            shutil.copy(world.archive, world.root / "archives" / "mine" / "train.zip")
        with pytest.raises(Killed):
            fetch(world())
    assert (world.root / "mine").exists() == (moment == "rows")
    assert len(fetch(world()).images) == 3
    assert sorted(path.name for path in world.root.iterdir()) == ["archives", "manifests", "mine"]


def test_two_archives_make_one_set(world, tmp_path):
    other = zipped(world.archive.with_name("more.zip"), (
        "MORE/4.png", (world.source / "1.png").read_bytes()))
    files = [{"url": f"https://{PINNED}"}, {"url": f"https://{PINNED}".replace("train", "more")}]
    entry = make(tmp_path, root=world.root,
                 archive={"files": files, "hr": "**/*.png", "count": 4})
    assert [image.name for image in fetch(entry).images] == ["1", "2", "3", "4"]
    shutil.rmtree(world.root)
    shutil.copy(world.archive, other)
    with pytest.raises(Unavailable, match=r"TRAIN/1\.png is also in another archive of the set"):
        fetch(entry)


def test_a_full_disk_keeps_the_archive(world, monkeypatch):
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(
        10, 10, 0))
    with pytest.raises(Unavailable, match=r"its content needs \d+ bytes, the disk has 0 free"):
        fetch(world())
    assert (world.root / "archives" / "mine" / "train.zip").exists()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("IRBENCH_MIRROR", raising=False)
    yield from serve(Server())


def test_an_archive_over_a_bad_connection(world, server):
    server.files["/a.zip"] = world.archive.read_bytes()
    server.plan["/a.zip"] = [500, "reset", "truncated"]
    entry = world(url=f"{server.url}/a.zip")
    found = obtain.fetch(entry, world.root, progress=False, backoff=0.01)
    assert len(found.images) == 3
    # without checksum and tag nothing is continued that might be of another file
    assert [span for _, span in server.requests] == [None] * 4


@pytest.mark.parametrize(("archive", "message"), [
    ({"files": []}, "archive: missing files. Valid is {files"),
    ({"files": "x"}, r"files: valid is a list of \{url"),
    ({"files": [{"sha256": None}]}, r"files\[0\]: valid is a list of \{url"),
    ({"files": [{"url": "ftp://h/a.zip"}]}, "valid schemes are https and http"),
    ({"files": [{"url": "https://h/a.rar"}]}, r"valid are files named \*\.zip, .*'manual'"),
    ({"files": [{"url": "https://h/a.zip", "sha256": "abc"}]}, "64 hexadecimal digits .* or null"),
    ({"files": [{"url": "https://h/a.zip", "bytes": 0}]}, "bytes 0: valid is the file's size"),
    ({"files": [{"url": "https://h/a.zip", "md5": "x"}]}, r"files\[0\]: unknown key 'md5'"),
    ({"files": [{"url": "https://h/a.zip"}, {"url": "https://g/a.zip"}]}, "two files are named"),
    ({"files": [{"url": "https://h/a.zip"}], "folder": "x"}, "archive: unknown key 'folder'"),
])
def test_bad_entries_are_refused(tmp_path, archive, message):
    with pytest.raises(UserError, match=message):
        make(tmp_path, archive=archive)
