"""Catalogs of users and manifests: what is read, and what is refused with which message."""

import functools
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irbench.core.errors import UserError
from irbench.data import sets
from tests.helpers.sets import HEAD, line, make


@pytest.fixture
def user(tmp_path):
    """Return a function that writes a user's catalog with one entry ``mine`` and reads it."""
    return functools.partial(make, tmp_path)


# -- names ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("value", ["x\n", "x\r\n", "\tx", "x\x7f", "x\u2028", "a\nb"])
@pytest.mark.parametrize("column", range(5))
def test_a_manifest_with_a_control_character_is_refused(user, column, value):
    fields = line().strip().split(",")
    fields[column] = f'"{fields[column]}{value}"'
    with pytest.raises(UserError, match="line .*control character is in it. Remove it"):
        sets.manifest(user(HEAD + ",".join(fields) + "\n"))


@pytest.mark.parametrize("name", ["mine\n", "mi\nne", "m" * 101])
def test_a_name_with_a_line_break_or_too_long_is_refused(user, name):
    with pytest.raises(UserError, match="not a valid name"):
        user(HEAD + line(), name=name)


@pytest.mark.parametrize(("fields", "message"), [
    ({"title": "Mine\n", "local": {"folder": "x"}}, "title: .* valid is one line"),
    ({"local": {"folder": "x\n"}}, "folder: valid is a path"),
    ({"local": {"folder": "x", "hr": "*.png\n"}}, r"hr: '\*\.png\\n' is not valid"),
    ({"manual": {"folder": "x\n", "get": "ask"}}, r"folder: 'x\\n' is not valid"),
    ({"archive": {"files": [{"url": "https://h.invalid/a.zip\n"}]}}, "valid schemes are"),
    ({"archive": {"files": [{"url": "https://h.invalid/a%0ab.zip"}]}}, "valid schemes are"),
    ({"archive": {"files": [{"url": "https://[h/a.zip"}]}}, "valid schemes are"),
    ({"archive": {"files": [{"url": f"https://h.invalid/{'a' * 200}.zip"}]}}, "longer than 200"),
    ({"archive": {"files": [{"url": "https://h.invalid/a.zip", "limit": "20G"}]}},
     "limit '20G': valid is the largest size"),
])
def test_names_of_a_catalog_are_one_line(user, fields, message):
    with pytest.raises(UserError, match=message):
        user(**fields)


def test_an_archive_may_state_a_limit(user):
    entry = user(archive={"files": [{"url": "https://h.invalid/a.zip", "limit": 5}]})
    assert entry.archives[0].limit == 5
    assert sets.DatasetEntry.from_dict(entry.as_dict()) == entry


def test_a_long_file_name_is_refused(user):
    assert sets.manifest(user(HEAD + line(file="a" * 196 + ".png")))
    with pytest.raises(UserError, match="of at most 200 bytes"):
        sets.manifest(user(HEAD + line(file="\u00e4" * 99 + ".png")))


# -- catalogs of users -------------------------------------------------------------------------

def test_a_catalog_is_a_folder_or_a_file(user, tmp_path):
    entry = user(HEAD + line(), tasks=["sr"], notes="n", terms="t", source="s")
    assert entry == sets.get("mine", [tmp_path]) == sets.get(
        "mine", [tmp_path / "datasets.yaml"])
    assert entry.manifest == tmp_path / "mine.csv"
    assert (entry.tasks, entry.notes, entry.terms, entry.source) == (("sr",), "n", "t", "s")
    assert set(sets.catalog([tmp_path])) == {*sets.catalog(), "mine"}


def test_a_folder_may_hold_only_protocols(tmp_path):
    (tmp_path / "protocols.yaml").write_text("protocols: {}")
    assert set(sets.catalog([tmp_path])) == set(sets.catalog())
    assert set(sets.catalog([tmp_path / "protocols.yaml"])) == set(sets.catalog())
    with pytest.raises(UserError, match="no such file or folder"):
        sets.catalog([tmp_path / "typo"])


def test_a_name_that_is_taken(user, tmp_path):
    with pytest.raises(UserError, match=r"'set5' is already taken by .*datasets\.yaml\. Rename"):
        user(HEAD + line(), name="set5")
    user(HEAD + line())
    (tmp_path / "again.yaml").write_text((tmp_path / "datasets.yaml").read_text())
    with pytest.raises(UserError, match="'mine' is already taken"):
        sets.catalog([tmp_path, tmp_path / "again.yaml"])


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
    ({"local": {"folder": "x", "input": "a/*"}, "match": {"input": "(a+)+$"}},
     r"match: input: '\(a\+\)\+\$' is a repetition of something that has a variable length"),
    ({"local": {"folder": "x", "input": "a/*"}, "match": {"hr": "("}},
     r"match: hr: '\(' is not a valid regular expression"),
    ({"archive": {"files": [{"url": "http://[::1/a.zip"}]}}, "valid schemes are https and http"),
    ({"local": {"folder": 5}}, r"local: folder: valid is a path"),
])
def test_bad_sources_are_refused(user, fields, message):
    with pytest.raises(UserError, match=message):
        user(**fields)


def test_how_far_other_files_move_a_mean_is_data_of_the_set(user):
    given = {"psnr": 0.006, "ssim": 0.0001, "reason": "other files"}
    assert user(HEAD + line()).differs == {}
    entry = user(HEAD + line(), differs=given)
    assert entry.differs == given
    assert sets.DatasetEntry.from_dict(entry.as_dict()) == entry


@pytest.mark.parametrize("pixels", [
    5, {"all": 5}, {"all": 5, "largest": 6}, {"all": 5, "largest": 0}, {"all": 5.5, "largest": 1},
    {"all": 5, "largest": True}, {"all": 5, "largest": 1, "least": 1}])
def test_wrong_pixels_are_explained(user, pixels):
    with pytest.raises(UserError, match="pixels: valid is {all: 567456, largest: 262144}"):
        user(HEAD + line(), pixels=pixels)
    assert user(HEAD + line(), pixels={"all": 5, "largest": 5}).pixels["all"] == 5


@pytest.mark.parametrize(("differs", "message"), [
    (0.006, "differs: valid is {psnr: 0.006, reason: why}"),
    ({"psnr": 0.006}, "differs: valid is"), ({"reason": "x"}, "differs: valid is"),
    ({"psnr": 0, "reason": "x"}, "psnr is 0; valid: a number above 0"),
    ({"psnr": "much", "reason": "x"}, "psnr is 'much'; valid: a number"),
    ({"psnr": True, "reason": "x"}, "psnr is True; valid: a number"),
    ({"psrn": 0.1, "reason": "x"}, "unknown metric 'psrn'. Did you mean 'psnr'")])
def test_a_wrong_difference_is_explained(user, differs, message):
    with pytest.raises(UserError, match=message):
        user(HEAD + line(), differs=differs)


@pytest.mark.parametrize("name", ["My Set", "../x", "a/b", "_input", "x\n", ""])
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
        sets.catalog([tmp_path])
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
        sets.manifest(entry)
    assert f"{entry.manifest}: line 3: " in str(caught.value)


@pytest.mark.parametrize("second", ["a.jpg", "A.png", "a.png"])
def test_two_files_of_one_name_are_refused(user, second):
    entry = user(HEAD + line(file="a.png") + line(file=second))
    with pytest.raises(UserError, match=r"line 3: the name .* is already on line 2 for .*'hr'"):
        sets.manifest(entry)
    sets.manifest(user(HEAD + line(file="a.png") + line(role="lr_x2", file=second)))


@pytest.mark.parametrize(("text", "message"), [
    ("role,file,url,sha256\n", r"line 1: the columns are .* Valid: role, file"),
    ("role,file,url,sha256,bytes,note\n", r"line 1: the columns are"),
    ("", r"line 1: the columns are missing"),
    (HEAD, r"lists no files"),
])
def test_bad_columns_are_refused(user, text, message):
    with pytest.raises(UserError, match=message):
        sets.manifest(user(text))


def test_a_manifest_that_is_not_there(user, tmp_path):
    entry = user(HEAD + line())
    (tmp_path / "mine.csv").unlink()
    with pytest.raises(UserError, match=r"mine\.csv: not a readable manifest"):
        sets.manifest(entry)


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
        return sets.digest(sets.DatasetEntry("any", "Any", "test", path, manifest=path))

    shuffled = random.sample(table, len(table))
    assert digest(table, "a.invalid") == digest(shuffled, "b.invalid")
    role, n, b = table[0]
    for other in [("other", n, b), (role, 1000, b), (role, n, b + b"x")]:
        assert digest([other, *table[1:]], "a.invalid") != digest(table, "a.invalid")


def test_the_digest_of_set5_does_not_drift():
    """It enters every stored fingerprint: a change makes all results of the past incomparable."""
    assert sets.digest(sets.get("set5")) == (
        "b66442a96a2773ddbd6d64381a076cfb8bf4336618e16d4dfa6c0ff17f660a99")
