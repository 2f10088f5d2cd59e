"""Sets that users bring: looked up, paired, counted, held to what they were."""

import functools
import re
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irbench.core import digests
from irbench.core.errors import Damaged, Unavailable, UserError
from irbench.data import folders, obtain, sets, tree
from irbench.imaging.images import write_png
from tests.helpers.sets import images, make, photo


@pytest.fixture
def user(tmp_path):
    """Return a function that writes a user's catalog with one entry ``mine`` and reads it."""
    return functools.partial(make, tmp_path)


@pytest.fixture
def folder(tmp_path):
    """A folder of three images and some files that are none."""
    for i, name in enumerate(["c.png", "a.png", "b.PNG"]):
        write_png(tmp_path / "images" / name, photo(i))
    (tmp_path / "images" / "notes.txt").write_text("not an image")
    (tmp_path / "images" / ".hidden.png").write_text("not an image")
    write_png(tmp_path / "images" / ".thumbnails" / "d.png", photo(4))
    return tmp_path / "images"


# -- a folder of the user's own ----------------------------------------------------------------

def test_a_folder_is_a_dataset(user, folder, tmp_path):
    entry = user(local={"folder": "images"})
    found = sets.open_local(entry, tmp_path / "data")
    assert found == obtain.fetch(entry, tmp_path / "data", progress=False)
    assert [image.name for image in found.role("hr")] == ["a", "b", "c"]
    assert found.roles == ("hr",)
    assert np.array_equal(found.images[0].load(), photo(1))
    assert sets.state(entry, tmp_path / "data") == "complete"
    assert not (tmp_path / "data").exists()


def test_a_pattern_chooses(user, folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert [r.file for r in sets.manifest(
        user(local={"folder": "~/images", "pattern": "*.png"}))] == ["a.png", "b.PNG", "c.png"]
    write_png(folder / "more" / "d.png", photo(4))
    assert [r.file for r in sets.manifest(
        user(local={"folder": str(folder), "pattern": "**/*.png"}))] == [
            "a.png", "b.PNG", "c.png", "d.png"]


def test_the_refusal_of_a_folder_says_one_thing_to_do(user, folder, tmp_path):
    write_png(folder / "more" / "d.png", photo(4))
    with pytest.raises(UserError) as caught:
        sets.manifest(user(local={"folder": "images"}))
    assert re.search(r"1 image file in .*images matches no pattern \(more/d.png\). In the "
                     r"catalog, widen the pattern, or name what does not belong to the set, such "
                     r"as leave_out: 'more/\*\*'\.$", str(caught.value))
    left = user(local={"folder": "images", "leave_out": "more/**"})
    assert [row.file for row in sets.manifest(left)] == ["a.png", "b.PNG", "c.png"]
    with pytest.raises(UserError, match=r"none.* does not exist. Add what is missing to .*none, or "
                       "correct 'local' in the catalog"):
        sets.manifest(user(local={"folder": "none"}))


def test_a_tree_of_too_many_files_is_refused(user, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(tree, "MOST", 3)
    with pytest.raises(Unavailable, match="be read: more than 3 files and folders lie below"):
        sets.digest(user(local={"folder": "images", "leave_out": "**/*"}))


def test_a_list_of_images_that_no_pattern_takes_ends(user, folder, monkeypatch):
    monkeypatch.setattr(tree, "MOST_LEFT", 1)
    with pytest.raises(UserError, match="more than 1 image files .* match no pattern"):
        sets.digest(user(local={"folder": "images", "hr": "a.png"}))


def test_the_digest_of_a_folder_follows_its_bytes(user, folder):
    entry = user(local={"folder": "images"})
    before = sets.digest(entry)
    rows = [["hr", name, digests.file_digest(folder / name)]
            for name in ("a.png", "b.PNG", "c.png")]
    assert before == digests.fingerprint(rows)
    write_png(folder / "a.png", photo(9))
    assert sets.digest(entry) != before


def test_a_folder_with_problems(user, folder, tmp_path):
    write_png(folder / "a.bmp.png", photo(1))
    entry = user(local={"folder": "images"})
    sets.manifest(entry)
    (folder / "a.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match=r"a\.jpg and .*a\.png have the same name"):
        sets.manifest(entry)
    for where, message in (({"folder": "images", "pattern": "*.gif"}, "no image matches"),
                           ({"folder": "nowhere"}, "nowhere does not exist")):
        entry = user(local=where)
        with pytest.raises(Unavailable, match=message):
            sets.open_local(entry, tmp_path)
        assert sets.state(entry, tmp_path) == "absent"


# -- pairs -------------------------------------------------------------------------------------

PAIRS = {"hr": "target/*", "input": "input/*"}


def names(data):
    return [(a.name, b.name) for a, b in data.pairs()]


def test_pairs_are_matched_by_name_never_by_order(user, tmp_path):
    images(tmp_path / "mine" / "input", "b.png", "a.jpg", "c.png")
    images(tmp_path / "mine" / "target", "c.png", "a.png", "b.bmp")
    entry = user(local={"folder": "mine", **PAIRS})
    assert entry.paired
    data = sets.open_local(entry, tmp_path)
    assert data.roles == ("hr", "input")
    assert names(data) == [("a", "a"), ("b", "b"), ("c", "c")]
    [(first, target), *_] = data.pairs()
    assert (first.path.name, target.path.name) == ("a.jpg", "a.png")
    assert (first.role, target.role) == ("input", "hr")


def test_a_set_without_inputs_has_no_pairs(user, folder):
    entry = user(local={"folder": "images"})
    assert not entry.paired
    with pytest.raises(UserError, match="unknown role 'input'"):
        sets.open_local(entry, folder).pairs()


def test_what_match_describes_does_not_count(user, tmp_path):
    images(tmp_path / "mine" / "input", "0_rain.png", "10_rain.png", "2_rain.png")
    images(tmp_path / "mine" / "target", "0_clean.png", "2_clean.png", "10_clean.png")
    local_ = {"folder": "mine", **PAIRS}
    entry = user(local=local_, match={"input": "_rain$", "hr": "_clean$"})
    assert names(sets.open_local(entry, tmp_path)) == [
        ("0_rain", "0_clean"), ("10_rain", "10_clean"), ("2_rain", "2_clean")]
    with pytest.raises(Unavailable, match="3 inputs without a target of that name .*0_rain"):
        sets.open_local(user(local=local_), tmp_path)


def test_the_digest_follows_the_pairing(user, tmp_path):
    """The same files paired otherwise are another set: every figure may differ."""
    images(tmp_path / "mine" / "input", "p1q2.png", "p2q1.png")
    images(tmp_path / "mine" / "target", "1.png", "2.png")
    found = {}
    for pattern in (r"p|q\d", r"p\dq", r"p|q[12]"):
        entry = user(local={"folder": "mine", **PAIRS}, match={"input": pattern})
        found[pattern] = names(sets.open_local(entry, tmp_path)), sets.digest(entry)
    one, other, again = found.values()
    assert one[0] == [("p1q2", "1"), ("p2q1", "2")] != other[0]
    assert one[1] != other[1]
    assert again == one  # another expression, the same pairs


def test_several_inputs_may_share_a_target(user, tmp_path):
    images(tmp_path / "mine" / "input", "im_0001_s80_a04.png", "im_0001_s90_a05.png",
           "im_0002_s80_a04.png")
    images(tmp_path / "mine" / "target", "im_0001.png", "im_0002.png")
    entry = user(local={"folder": "mine", **PAIRS},
                 match=sets.get("outdoor_rain_test1").match)
    assert [b for _, b in names(sets.open_local(entry, tmp_path))] == [
        "im_0001", "im_0001", "im_0002"]


@pytest.mark.parametrize("match", [{"hr": "_s[0-9]+$"}, {"input": "_s[0-9]+$", "hr": "_s[0-9]+$"}])
def test_the_same_name_goes_before_a_reduced_one(match):
    found = folders.pair(["a_s1", "a_s2"], ["a_s2", "a_s1"], match)
    assert found == ([(0, 1), (1, 0)], [])


def test_an_input_with_several_targets_has_none():
    assert folders.pair(["a_1"], ["a_2", "a_3"], {"input": "_[0-9]$", "hr": "_[0-9]$"}) == (
        [], ["1 inputs with several targets (a_1)", "2 targets without an input (a_2, a_3)"])


@given(st.sets(st.text("abc01_", min_size=1, max_size=4), min_size=1), st.randoms(), st.data())
def test_pairing_does_not_depend_on_order(stems, random, data):
    stems = sorted(stems)
    inputs, targets = random.sample(stems, len(stems)), random.sample(stems, len(stems))
    pairs, problems = folders.pair(inputs, targets, {})
    assert problems == []
    assert [inputs[i] for i, _ in pairs] == [targets[j] for _, j in pairs] == stems
    gone = data.draw(st.sampled_from(targets))
    pairs, problems = folders.pair(inputs, [t for t in targets if t != gone], {})
    assert len(pairs) == len(stems) - 1
    assert problems == [f"1 inputs without a target of that name ({gone})"]


@pytest.mark.parametrize(("gone", "message"), [
    ("target/b.png", r"1 inputs without a target of that name \(b\)"),
    ("input/b.png", r"1 targets without an input \(b\)"),
])
def test_an_image_without_a_partner_is_named(user, tmp_path, gone, message):
    for role in ("input", "target"):
        images(tmp_path / "mine" / role, "a.png", "b.png")
    entry = user(local={"folder": "mine", **PAIRS})
    (tmp_path / "mine" / gone).unlink()
    with pytest.raises(Unavailable, match=message):
        sets.digest(entry)
    assert sets.state(entry, tmp_path) == "incomplete"


def test_a_file_with_two_roles_is_refused(user, tmp_path):
    images(tmp_path / "mine" / "input", "a.png")
    entry = user(local={"folder": "mine", "hr": "**/*", "input": "input/*"})
    with pytest.raises(UserError, match=r"a\.png is both an input and a target"):
        sets.manifest(entry)


# -- held to what they were --------------------------------------------------------------------

@pytest.fixture
def manual(tmp_path):
    """Return a function that reads an entry of a set of two pairs below data."""
    root = tmp_path / "data"
    for role in ("input", "target"):
        images(root / "rain" / "deep" / role, "a.png", "b.png")

    def again(**changes):
        fields = {"folder": "rain", "hr": "**/target/*", "input": "**/input/*", "count": 2,
                  "get": "ask nicely", **changes}
        return make(tmp_path, root=root, manual=fields)
    return again


def test_a_manual_set_is_written_down_when_it_is_first_fetched(manual, tmp_path, monkeypatch):
    entry = manual()
    listed = tmp_path / "data" / "manifests" / "mine.csv"
    assert sets.state(entry, entry.root) == "unchecked"
    assert not listed.exists()
    digest = sets.digest(entry)
    assert not listed.exists()  # looking writes nothing
    obtain.fetch(entry, entry.root)
    assert listed.read_text().splitlines()[1:] == ["role,path,sha256,bytes", *(
        f"{role},deep/{folder}/{name},{digests.file_digest(path)},{path.stat().st_size}"
        for role, folder in (("hr", "target"), ("input", "input")) for name in ("a.png", "b.png")
        for path in [entry.home / "deep" / folder / name])]
    assert sets.state(entry, entry.root) == "complete"
    # later uses hash nothing
    monkeypatch.setattr(folders, "known_digests", None)
    assert sets.digest(manual()) == digest
    assert names(sets.open_local(entry, entry.root)) == [("a", "a"), ("b", "b")]
    assert names(obtain.fetch(entry, entry.root)) == [("a", "a"), ("b", "b")]


def test_a_folder_may_be_a_link_and_hold_links(manual, tmp_path):
    entry = manual()
    (tmp_path / "elsewhere").mkdir()
    shutil.move(entry.home / "deep", tmp_path / "elsewhere" / "deep")
    entry.home.rmdir()
    entry.home.symlink_to(tmp_path / "elsewhere")
    assert len(sets.manifest(entry)) == 4
    entry.home.unlink()
    entry.home.mkdir()
    (entry.home / "deep").symlink_to(tmp_path / "elsewhere" / "deep")
    assert len(sets.manifest(entry)) == 4


def test_a_changed_file_is_found_when_it_is_used(manual):
    entry = manual()
    obtain.fetch(entry, entry.root)
    path = entry.home / "deep" / "input" / "a.png"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    [(image, _), _] = obtain.obtain(entry, entry.root).pairs()
    with pytest.raises(Unavailable, match=r"a\.png: the file has changed"):
        image.load()
    path.write_bytes(data[:-9])
    with pytest.raises(Damaged, match=r"1 of 4 files have another size \(input/a\.png\)\. "
                                      r".*ask nicely.*--accept"):
        obtain.obtain(entry, entry.root)
    assert sets.state(entry, entry.root) == "partial 3/4"


@pytest.mark.parametrize(("change", "message", "state"), [
    (lambda home: shutil.rmtree(home), "the folder .*rain does not exist. How to get it: ask "
     "nicely. Put",
     "absent"),
    (lambda home: shutil.rmtree(home / "deep"), r"no image matches \*\*/target/\* or .* in ",
     "absent"),
    (lambda home: (home / "deep/input/a.png").unlink(), "1 inputs in .*, expected 2; 1 targets",
     "1 of 2 expected"),
    (lambda home: images(home / "deep/input", "c.png"), "3 inputs in .*, expected 2; 1 inputs",
     "3 of 2 expected"),
    (lambda home: (home / "deep/input/a.png").rename(home / "deep/input/x.png"),
     r"1 inputs without a target of that name \(x\); 1 targets without an input \(a\)",
     "unchecked"),
    (lambda home: images(home / "other/input", "a.png"),
     r"3 inputs in .*, expected 2; 1 inputs without a target of that name \(other/a\)",
     "3 of 2 expected"),
])
def test_a_set_that_is_not_whole_is_not_written_down(manual, change, message, state):
    entry = manual()
    change(entry.home)
    assert sets.state(entry, entry.root) == state
    with pytest.raises(Unavailable, match=message):
        sets.manifest(entry)
    with pytest.raises(Unavailable, match=message):
        obtain.fetch(entry, entry.root)
    assert not folders.frozen_path(entry).exists()


def test_a_list_made_for_another_definition_does_not_count(manual):
    before = sets.digest(manual(hr="**/target/a.*", input="**/input/a.*", count=1,
                                leave_out="**/b.*"))
    assert sets.digest(manual()) != before
    assert len(sets.manifest(manual())) == 4


@pytest.mark.parametrize("text", ["", "# {}", "no list", None])
def test_a_damaged_list_says_what_to_do(manual, text):
    entry = manual()
    obtain.fetch(entry, entry.root)
    path = folders.frozen_path(entry)
    first = path.read_text().partition("\n")[0]
    path.write_text(f"{first}\nrole,path,sha256,bytes\n" if text is None else text)
    if text == "# {}":  # another definition, so it is made again
        assert len(sets.manifest(entry)) == 4
        return
    with pytest.raises(Unavailable, match="here: irbench data check mine --accept"):
        sets.manifest(entry)


def test_the_reason_does_not_say_where_irbench_lies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Unavailable) as caught:
        sets.digest(sets.get("gopro", data_root="data"))
    assert str(caught.value).startswith("dataset 'gopro': the folder data/gopro does not exist. ")
    assert "1k6DTSHu4saUgrGTYkkZXTptILyG9RRll" in str(caught.value)


@pytest.mark.parametrize(("fields", "message"), [
    ({"folder": "../x", "get": "ask"}, r"manual: folder: '\.\./x' is not valid"),
    ({"folder": "/x", "get": "ask"}, r"folder: '/x' is not valid"),
    ({"folder": "x"}, "manual: missing get. Valid is {folder"),
    ({"get": "x"}, "manual: missing folder"),
    ({"folder": "x", "get": "ask", "input": "*"}, "'input' needs 'hr' beside it"),
    ({"folder": "x", "get": "ask", "count": 0}, "count: 0 is not valid"),
    ({"folder": "x", "get": "ask", "count": "many"}, "count: 'many' is not valid"),
    ({"folder": "x", "get": "ask", "hr": "../*"}, r"hr: '\.\./\*' is not valid"),
    ({"folder": "x", "get": "ask", "target": "*"}, "unknown key 'target'"),
])
def test_bad_manual_entries_are_refused(user, fields, message):
    with pytest.raises(UserError, match=message):
        user(manual=fields)


@pytest.mark.parametrize(("match", "message"), [
    ({"input": "("}, "match: input: '\\(' is not a valid regular expression"),
    ({"target": "x"}, "unknown role 'target'"),
    ("x", "match: valid is {input: REGEX"),
])
def test_bad_matches_are_refused(user, match, message):
    with pytest.raises(UserError, match=message):
        user(local={"folder": "x", **PAIRS}, match=match)


def test_a_match_without_pairs_is_refused(user):
    with pytest.raises(UserError, match="only a set with 'input:' images has pairs"):
        user(local={"folder": "x"}, match={"input": "_x$"})
    with pytest.raises(UserError, match="'pattern' and 'hr' mean the same"):
        user(local={"folder": "x", "hr": "*", "pattern": "*"})
