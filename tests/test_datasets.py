"""The catalog, manifests, and datasets on this machine; the real sets where a mirror is at hand."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from irbench import catalogs, datasets, manifests, records
from irbench.errors import Unavailable, UserError
from irbench.images import write_png

COUNTS = {"photos": 4, "photos_train": 10, "set5": 20, "set14": 14, "bsd100": 100, "urban100": 100,
          "set12": 12, "bsd68": 68, "cbsd68": 68, "kodak24": 24, "mcmaster": 18, "classic5": 5,
          "live1_gray": 29, "live1_color": 29, "bsds500_test": 200, "bsds500_train": 200,
          "weights_dncnn": 1}
HEAD = "role,file,url,sha256,bytes\n"
SHA = "a" * 64


def line(role="hr", file="a.png", url="https://host.invalid/a.png", sha256=SHA, size="5") -> str:
    return f"{role},{file},{url},{sha256},{size}\n"


@pytest.fixture
def user(tmp_path):
    """Return a function that writes a user's catalog with one entry ``mine`` and reads it."""
    def make(manifest: str | None = None, name: object = "mine", **fields):
        entry = {"title": "Mine", "use": "test", **fields}
        if manifest is not None:
            (tmp_path / "mine.csv").write_text(manifest)
            entry["manifest"] = "mine.csv"
        path = tmp_path / "datasets.yaml"
        path.write_text(yaml.safe_dump({"datasets": {name: entry}}))
        return datasets.catalog([path])[name]
    return make


def photo(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    """A folder of three images and some files that are none."""
    for i, name in enumerate(["c.png", "a.png", "b.PNG"]):
        write_png(tmp_path / "images" / name, photo(i))
    (tmp_path / "images" / "notes.txt").write_text("not an image")
    (tmp_path / "images" / ".hidden.png").write_text("not an image")
    write_png(tmp_path / "images" / "more" / "d.png", photo(4))
    return tmp_path / "images"


# -- irbench's own catalog ---------------------------------------------------------------------

def test_every_set_is_there_and_complete():
    known = datasets.catalog()
    assert {name: len(datasets.manifest(entry)) for name, entry in known.items()} == COUNTS
    assert {e.name for e in known.values() if e.use == "train"} == {"photos_train", "bsds500_train"}
    for entry in known.values():
        assert entry.source and entry.terms and entry.tasks, entry.name
    listed = {entry.manifest.name for entry in known.values()}
    assert listed == {path.name for path in (catalogs.BUILTIN / "manifests").iterdir()}


def test_urls_are_pinned_to_a_commit():
    for entry in datasets.catalog().values():
        for row in datasets.manifest(entry):
            if not row.url.startswith("package://skimage/"):
                host, _, path = row.url.removeprefix("https://").partition("/")
                assert host == "raw.githubusercontent.com"
                assert len(path.split("/")[2]) == 40, row.url


def test_no_file_is_both_trained_on_and_tested():
    known = datasets.catalog().values()
    pairs = [(a, b) for a in known for b in known if a.use == "train" and b.use == "test"]
    assert len(pairs) > 20
    assert {(a.name, b.name): datasets.overlap(a, b) for a, b in pairs
            if datasets.overlap(a, b)} == {}


def test_no_scene_is_in_both_sets_of_photographs():
    test, train = ([row.name for row in datasets.manifest(datasets.get(name))]
                   for name in ("photos", "photos_train"))
    assert test == ["astronaut", "chelsea", "coffee", "rocket"]
    assert not set(test) & set(train)
    assert sum(name.startswith("motorcycle") for name in train) == 1  # a stereo pair is one scene


def test_the_berkeley_sets_have_no_image_in_common_with_training():
    def names(name):
        return {row.name for row in datasets.manifest(datasets.get(name))}

    assert not names("cbsd68") & (names("bsds500_train") | names("bsds500_test"))
    assert not names("bsds500_train") & names("bsds500_test")


def test_overlap_finds_a_leak(user):
    row = next(r for r in datasets.manifest(datasets.get("photos")) if r.name == "coffee")
    entry = user(HEAD + line(file="renamed.png", sha256=row.sha256) + line(file="other.png"))
    assert datasets.overlap(entry, datasets.get("photos")) == ["renamed.png"]
    assert datasets.overlap(datasets.get("photos"), entry) == ["coffee.png"]


def test_photographs_need_no_download(tmp_path):
    for name, channels in (("photos", {3}), ("photos_train", {1, 3})):
        entry = datasets.get(name)
        found = datasets.fetch(entry, tmp_path, progress=False)
        assert datasets.open_local(entry, tmp_path) == found
        assert datasets.state(entry, tmp_path) == "complete"
        loaded = [image.load() for image in found.role("hr")]
        assert {image.shape[-1] for image in loaded} == channels
        assert all(i.dtype == np.uint8 and min(i.shape[:2]) >= 300 for i in loaded)
    assert list(tmp_path.iterdir()) == []


def test_looking_up_imports_nothing_heavy():
    code = ("import sys; from irbench import datasets as d; e = d.get('photos'); d.digest(e); "
            "d.state(e, 'data'); d.open_local(e, 'data'); heavy = {'torch', 'numpy', 'PIL', "
            "'requests', 'pooch', 'tqdm', 'skimage'} & set(sys.modules); assert not heavy, heavy")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_is_not_known():
    with pytest.raises(UserError, match=r"unknown dataset 'set15'. Did you mean .*'set14'"):
        datasets.get("set15")


# -- catalogs of users -------------------------------------------------------------------------

def test_a_catalog_is_a_folder_or_a_file(user, tmp_path):
    entry = user(HEAD + line(), tasks=["sr"], notes="n", terms="t", source="s")
    assert entry == datasets.get("mine", [tmp_path]) == datasets.get(
        "mine", [tmp_path / "datasets.yaml"])
    assert entry.manifest == tmp_path / "mine.csv"
    assert (entry.tasks, entry.notes, entry.terms, entry.source) == (("sr",), "n", "t", "s")
    assert set(datasets.catalog([tmp_path])) == {*COUNTS, "mine"}


def test_a_folder_may_hold_only_protocols(tmp_path):
    (tmp_path / "protocols.yaml").write_text("protocols: {}")
    assert set(datasets.catalog([tmp_path])) == set(COUNTS)
    assert set(datasets.catalog([tmp_path / "protocols.yaml"])) == set(COUNTS)
    with pytest.raises(UserError, match="no such file or folder"):
        datasets.catalog([tmp_path / "typo"])


def test_a_name_that_is_taken(user, tmp_path):
    with pytest.raises(UserError, match=r"'set5' is already taken by .*datasets\.yaml\. Rename"):
        user(HEAD + line(), name="set5")
    user(HEAD + line())
    (tmp_path / "again.yaml").write_text((tmp_path / "datasets.yaml").read_text())
    with pytest.raises(UserError, match="'mine' is already taken"):
        datasets.catalog([tmp_path, tmp_path / "again.yaml"])


@pytest.mark.parametrize(("fields", "message"), [
    ({"titel": "x"}, r"dataset 'mine': unknown key 'titel'. Did you mean 'title'.*notes"),
    ({"use": "testing"}, r"unknown use 'testing'. Did you mean 'test'"),
    ({"tasks": ["denoise_colour"]}, r"unknown task 'denoise_colour'. Did you mean 'denoise_color'"),
    ({"tasks": "sr"}, r"tasks: valid is a list"),
    ({"title": 5}, r"title: valid is a text"),
    ({"local": {"folder": "x"}}, r"needs either 'manifest' \(a CSV file\) or 'local'"),
])
def test_bad_entries_are_refused(user, fields, message):
    with pytest.raises(UserError, match=message):
        user(HEAD + line(), **fields)


@pytest.mark.parametrize(("fields", "message"), [
    ({}, r"needs either 'manifest'"),
    ({"local": "images"}, r"local: valid is \{folder"),
    ({"local": {"folder": "x", "pat": "*"}}, r"local: unknown key 'pat'"),
    ({"local": {"folder": "x", "pattern": "../*.png"}}, r"'\.\./\*\.png' is not valid"),
    ({"local": {"folder": "x", "pattern": "/*.png"}}, r"is not valid"),
    ({"local": {"folder": 5}}, r"local: folder: valid is a path"),
])
def test_bad_sources_are_refused(user, fields, message):
    with pytest.raises(UserError, match=message):
        user(**fields)


@pytest.mark.parametrize("name", ["My Set", "../x", "a/b", "_input", 5, ""])
def test_bad_names_are_refused(user, name):
    with pytest.raises(UserError, match=r"not a valid name"):
        user(HEAD + line(), name=name)


@pytest.mark.parametrize(("text", "message"), [
    ("datasets: [1, 2]", "valid is a mapping from names to entries"),
    ("just text", "not a catalog"),
    ("dataset: {}", "unknown section 'dataset'. Did you mean 'datasets'"),
    ("datasets:\n  a: {title: x\n", "line 3: "),
    ("datasets:\n  a: {title: x, use: test}\n  a: {title: y}\n", "line 3: 'a' is defined twice"),
    ("datasets:\n  a: {title: x, use: test, title: y}\n", "line 2: 'title' is defined twice"),
    ("datasets:\n  a: x\n", "dataset 'a': valid is a mapping"),
    ("datasets:\n  a: {use: test, manifest: m.csv}\n", "dataset 'a': missing title"),
    ("datasets:\n  a: {title: x, use: test, manifest: }\n", "a': manifest: valid is a path"),
])
def test_bad_files_are_refused(tmp_path, text, message):
    (tmp_path / "datasets.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        datasets.catalog([tmp_path])
    assert str(tmp_path / "datasets.yaml") in str(caught.value)


# -- manifests ---------------------------------------------------------------------------------

@pytest.mark.parametrize(("bad", "message"), [
    (line(file="../a.png"), r"file '\.\./a\.png'"),
    (line(file="/etc/passwd"), r"file '/etc/passwd'"),
    (line(file="sub/a.png"), r"file 'sub/a\.png'"),
    (line(file="..\\a.png"), r"plain name of a file"),
    (line(file=".."), r"plain name of a file"),
    (line(file=".a.png"), r"not beginning with a dot"),
    (line(file=""), r"plain name of a file"),
    (line(role="../hr"), r"role '\.\./hr'"),
    (line(role=""), r"role ''"),
    (line(sha256="a" * 63), r"64 hexadecimal digits"),
    (line(sha256="g" * 64), r"64 hexadecimal digits"),
    (line(size="-5"), r"positive integer"),
    (line(size="0"), r"positive integer"),
    (line(size="many"), r"positive integer"),
    (line(url="ftp://host/a"), r"valid schemes are https, http, package, file"),
    (line(url=""), r"valid schemes"),
    ("hr,a.png\n", r"expected 5 fields"),
    (line().strip() + ",more\n", r"expected 5 fields"),
])
def test_a_bad_line_is_named(user, bad, message):
    entry = user(HEAD + line(file="good.png") + bad)
    with pytest.raises(UserError, match=message) as caught:
        datasets.manifest(entry)
    assert f"{entry.manifest}: line 3: " in str(caught.value)


@pytest.mark.parametrize("second", ["a.jpg", "A.png", "a.png"])
def test_two_files_of_one_name_are_refused(user, second):
    entry = user(HEAD + line(file="a.png") + line(file=second))
    with pytest.raises(UserError, match=r"line 3: the name .* is already on line 2 for .*'hr'"):
        datasets.manifest(entry)
    datasets.manifest(user(HEAD + line(file="a.png") + line(role="lr_x2", file=second)))


@pytest.mark.parametrize(("text", "message"), [
    ("role,file,url,sha256\n", r"line 1: the columns are .* Valid: role, file"),
    ("role,file,url,sha256,bytes,note\n", r"line 1: the columns are"),
    ("", r"line 1: the columns are missing"),
    (HEAD, r"lists no file"),
])
def test_bad_columns_are_refused(user, text, message):
    with pytest.raises(UserError, match=message):
        datasets.manifest(user(text))


def test_a_manifest_that_is_not_there(user, tmp_path):
    entry = user(HEAD + line())
    (tmp_path / "mine.csv").unlink()
    with pytest.raises(UserError, match=r"mine\.csv: not a readable manifest"):
        datasets.manifest(entry)


rows = st.lists(
    st.tuples(st.sampled_from(["hr", "lr_x2"]), st.integers(0, 999), st.binary(max_size=3)),
    min_size=1, max_size=6, unique_by=lambda row: row[:2])


@given(rows, st.randoms())
def test_the_digest_is_of_the_content_only(tmp_path_factory, table, random):
    """Neither the order of lines nor URLs count; every role, name and checksum does."""
    def digest(table, host):
        path = tmp_path_factory.getbasetemp() / "any.csv"
        path.write_text(HEAD + "".join(
            line(role, f"{n}.png", f"https://{host}/{n}", hashlib.sha256(b).hexdigest())
            for role, n, b in table))
        return datasets.digest(datasets.DatasetEntry("any", "Any", "test", path, manifest=path))

    shuffled = random.sample(table, len(table))
    assert digest(table, "a.invalid") == digest(shuffled, "b.invalid")
    role, n, b = table[0]
    for other in [("other", n, b), (role, 1000, b), (role, n, b + b"x")]:
        assert digest([other, *table[1:]], "a.invalid") != digest(table, "a.invalid")


def test_the_digest_of_set5_does_not_drift():
    """It enters every stored fingerprint: a change makes all results of the past incomparable."""
    assert datasets.digest(datasets.get("set5")) == (
        "b66442a96a2773ddbd6d64381a076cfb8bf4336618e16d4dfa6c0ff17f660a99")


# -- a folder of the user's own ----------------------------------------------------------------

def test_a_folder_is_a_dataset(user, folder, tmp_path):
    entry = user(local={"folder": "images"})
    found = datasets.open_local(entry, tmp_path / "data")
    assert found == datasets.fetch(entry, tmp_path / "data", progress=False)
    assert [image.name for image in found.role("hr")] == ["a", "b", "c"]
    assert found.roles == ("hr",)
    assert np.array_equal(found.images[0].load(), photo(1))
    assert datasets.state(entry, tmp_path / "data") == "complete"
    assert not (tmp_path / "data").exists()


def test_a_pattern_chooses(user, folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert [r.file for r in datasets.manifest(
        user(local={"folder": "~/images", "pattern": "*.png"}))] == ["a.png", "c.png"]
    assert [r.file for r in datasets.manifest(
        user(local={"folder": str(folder), "pattern": "**/*.png"}))] == ["a.png", "c.png", "d.png"]


def test_the_digest_of_a_folder_follows_its_bytes(user, folder):
    entry = user(local={"folder": "images"})
    before = datasets.digest(entry)
    rows = [["hr", name, records.file_digest(folder / name)]
            for name in ("a.png", "b.PNG", "c.png")]
    assert before == records.fingerprint(rows)
    write_png(folder / "a.png", photo(9))
    assert datasets.digest(entry) != before


def test_a_folder_with_problems(user, folder, tmp_path):
    write_png(folder / "a.bmp.png", photo(1))
    entry = user(local={"folder": "images"})
    datasets.manifest(entry)
    (folder / "a.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match=r"a\.jpg and .*a\.png have the same name"):
        datasets.manifest(entry)
    for local, message in (({"folder": "images", "pattern": "*.gif"}, "no image matches"),
                           ({"folder": "nowhere"}, "there is no folder")):
        entry = user(local=local)
        with pytest.raises(Unavailable, match=message):
            datasets.open_local(entry, tmp_path)
        assert datasets.state(entry, tmp_path) == "absent"


# -- on this machine ---------------------------------------------------------------------------

@pytest.fixture
def remote(user, tmp_path, monkeypatch):
    """An entry of three files of two roles, and the mirror folder that has them."""
    text, host = HEAD, tmp_path / "mirror" / "host.invalid"
    for role, file in (("lr_x2", "bx2.png"), ("hr", "b.png"), ("hr", "a.png")):
        path = host / role / file
        write_png(path, photo(len(text)))
        text += line(role, file, f"https://host.invalid/{role}/{file}",
                     records.file_digest(path), str(path.stat().st_size))
    monkeypatch.setenv("IRBENCH_MIRROR", str(tmp_path / "mirror"))
    return user(text)


def test_fetch_then_open(remote, tmp_path):
    root = tmp_path / "data"
    assert datasets.state(remote, root) == "absent"
    with pytest.raises(Unavailable, match=r"3 of 3 files are missing .*a\.png. "
                                          r"Run: irbench data fetch mine"):
        datasets.open_local(remote, root)
    found = datasets.fetch(remote, root, progress=False)
    assert found == datasets.open_local(remote, root)
    assert datasets.state(remote, root) == "complete"
    assert [(i.role, i.name) for i in found.images] == [("hr", "a"), ("hr", "b"), ("lr_x2", "bx2")]
    assert found.role("hr")[0].path == root / "mine" / "hr" / "a.png"
    assert found.roles == ("hr", "lr_x2")
    with pytest.raises(UserError, match=r"unknown role 'lr_x3'. Did you mean 'lr_x2'"):
        found.role("lr_x3")
    found.images[0].path.unlink()
    assert datasets.state(remote, root) == "partial 2/3"
    with pytest.raises(Unavailable, match="1 of 3 files"):
        datasets.open_local(remote, root)


def test_a_file_that_changed_is_not_loaded(remote, tmp_path):
    image = datasets.fetch(remote, tmp_path / "data", progress=False).images[0]
    data = bytearray(image.path.read_bytes())
    data[-1] ^= 1
    image.path.write_bytes(data)
    assert datasets.state(remote, tmp_path / "data") == "complete"  # goes by size alone
    with pytest.raises(Unavailable, match="the file has changed") as caught:
        image.load()
    assert str(image.path) in str(caught.value) and "irbench data fetch" in str(caught.value)
    again = datasets.fetch(remote, tmp_path / "data", progress=False).images[0]
    assert again.load().shape == (6, 8, 3)
    image.path.unlink()
    with pytest.raises(Unavailable, match="No such file"):
        image.load()


def test_a_file_that_is_no_image(user, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"text")
    [image] = datasets.open_local(user(local={"folder": "images"}), tmp_path).images
    assert image.read() == b"text"
    with pytest.raises(UserError, match=r"a\.png: not an image"):
        image.load()


def test_a_row_knows_its_name():
    assert manifests.ManifestRow("hr", "img.001.png", "", SHA, 1).name == "img.001"


@pytest.mark.mirror
def test_set5_from_the_mirror(mirror, tmp_path):
    entry = datasets.get("set5")
    found = datasets.fetch(entry, tmp_path, progress=False)
    assert [i.name for i in found.role("hr")] == ["baby", "bird", "butterfly", "head", "woman"]
    assert found.role("hr")[0].load().shape == (512, 512, 3)
    assert found.role("lr_x4")[0].load().shape == (128, 128, 3)
    assert datasets.state(entry, tmp_path) == "complete"
    names = [path.name for path in Path(tmp_path).rglob("*") if path.is_file()]
    assert len(names) == 20 and not any(name.startswith(".") for name in names)
