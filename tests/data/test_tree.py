"""Which files of a folder belong to a set: patterns, suffixes, links, names, and what is left."""

import functools
import glob
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irbench.core.errors import Unavailable, UserError
from irbench.data import check, folders, obtain, sets, tree
from tests.helpers.sets import images, make


@pytest.fixture
def user(tmp_path):
    """Return a function that writes a user's catalog with one entry ``mine`` and reads it."""
    return functools.partial(make, tmp_path)


def touch(home, *names):
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("")


def found(home, pattern):
    return [path.relative_to(home).as_posix() for path in tree.find(home, [pattern])[0]]


# -- patterns ----------------------------------------------------------------------------------

NAMES = ["a.png", "b.txt", ".c.png", "d/a.png", "d/e/f.jpg", "d/e/a.png", "g/a.png", ".h/a.png",
         "d/.i/a.png", "x[1].png", "d/e/j/k.png"]
PIECES = st.sampled_from(["**", "*", "d", "e", "?", "[de]", "*.png", "a.*", "x[[]1].png", ".h"])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree")
    touch(folder, *NAMES)
    return folder


@settings(max_examples=200, deadline=None)
@given(pieces=st.lists(PIECES, min_size=1, max_size=4))
def test_patterns_are_those_of_glob(home, pieces):
    pattern = "/".join(pieces)
    expected = {name for name in glob.glob(pattern, root_dir=home, recursive=True)  # noqa: PTH207
                if (home / name).is_file()
                and (not pattern.endswith("*") or name.endswith(tree.SUFFIXES))}
    assert set(found(home, pattern)) == expected


@pytest.mark.parametrize("pattern", ["*.png", "*.PNG", "*.Png", "*.[p]ng", None, "*", "im*"])
def test_the_case_of_a_suffix_does_not_matter(tmp_path, pattern):
    touch(tmp_path, "im1.png", "im2.PNG", "im3.Png", "IM.txt")
    assert found(tmp_path, pattern) == ["im1.png", "im2.PNG", "im3.Png"]


def test_the_case_of_a_name_matters(tmp_path):
    touch(tmp_path, "Im1.png", "im2.png", "D/im3.png")
    assert found(tmp_path, "im*.PNG") == ["im2.png"]
    assert found(tmp_path, "d/*") == []


# -- links -------------------------------------------------------------------------------------

def test_a_loop_of_links_ends(tmp_path):
    touch(tmp_path, "set/deep/a.png")
    for name in ("up", "again", "more"):  # one link doubles the paths at each of 40 levels
        (tmp_path / "set" / "deep" / name).symlink_to("..")
    (tmp_path / "set" / "itself").symlink_to("itself")
    assert found(tmp_path / "set", "**/*.png") == ["deep/a.png"]


def test_a_linked_folder_is_followed(tmp_path):
    touch(tmp_path, "elsewhere/a.png", "set/b.png")
    (tmp_path / "set" / "more").symlink_to(tmp_path / "elsewhere")
    assert found(tmp_path / "set", "**/*.png") == ["more/a.png", "b.png"]


def test_a_link_to_nothing_is_a_missing_image(user, tmp_path):
    images(tmp_path / "mine", "a.png")
    (tmp_path / "mine" / "b.png").symlink_to("gone.png")
    entry = user(local={"folder": "mine"})
    with pytest.raises(Unavailable, match=r"b\.png is a link to a file that does not exist"):
        sets.digest(entry)
    assert sets.state(entry, tmp_path) == "unusable"
    [problem] = check.check(entry, tmp_path).problems
    assert "b.png is a link" in problem


# -- left out ----------------------------------------------------------------------------------

@pytest.mark.parametrize(("names", "fields", "left"), [
    (["a.png", "b.JPG"], {"hr": "*.png"}, "1 image file .*b.JPG"),
    (["a.png", "b.heic", "c.DNG"], {}, "2 image files .*b.heic, c.DNG"),
    (["a.png", "d/b.png", "d/c.jpg"], {"hr": "**/*.png"}, "1 image file .*d/c.jpg"),
    (["d/gt/a.png", "e/gt/b.bmp"], {"hr": "*/gt/*.png"}, "1 image file .*e/gt/b.bmp"),
    (["hr/a.png", "in/a.png", "in/b.tif"], {"hr": "hr/*.png", "input": "in/*.png"},
     "1 image file .*in/b.tif"),
    (["a.png", "d/b.png", "d/e/c.png", "f/.g.png"], {}, "2 image files .*d/b.png, d/e/c.png"),
    (["a.png", "d/b.png"], {"hr": "*.png"}, "1 image file .*d/b.png"),
    (["a_HR.png", "a_LR.png"], {"hr": "*_HR.png"}, "1 image file .*a_LR.png"),
])
def test_an_image_that_no_pattern_takes_makes_a_set_incomplete(user, tmp_path, names, fields,
                                                               left):
    (tmp_path / "mine").mkdir()
    for name in names:
        if name.endswith(".png"):
            images((tmp_path / "mine" / name).parent, Path(name).name)
        else:
            touch(tmp_path / "mine", name)
    match = {"match": {"hr": "_HR$", "input": "_LR$"}} if "input" in fields else {}
    entry = user(local={"folder": "mine", **fields}, **match)
    for look in (sets.digest, lambda entry: obtain.obtain(entry, tmp_path)):
        with pytest.raises(UserError, match=f"{left}.*leave_out"):
            look(entry)
    assert sets.state(entry, tmp_path) == "incomplete"
    result = check.check(entry, tmp_path)
    assert not result.as_dict()["complete"]
    assert "no pattern" in result.problems[0]
    stray = [name for name in names if name in result.problems[0]]
    entry = user(local={"folder": "mine", "leave_out": stray, **fields}, **match)
    assert sets.state(entry, tmp_path) == "complete"
    assert check.check(entry, tmp_path).as_dict()["complete"]


def test_images_where_no_pattern_looks_do_not_count(user, tmp_path):
    images(tmp_path / "mine" / "sharp", "a.png")
    images(tmp_path / "mine" / "blur_gamma", "a.png")
    images(tmp_path / "mine", ".thumb.png")
    touch(tmp_path / "mine", "sharp/notes.txt", "sharp/._a.png")
    assert sets.state(user(local={"folder": "mine", "hr": "sharp/*"}), tmp_path) == "complete"
    entry = user(local={"folder": "mine", "hr": "**/*.jpg", "leave_out": "**/*"})
    assert sets.state(entry, tmp_path) == "absent"


def test_a_manual_set_is_not_pinned_while_images_are_left_out(tmp_path):
    images(tmp_path / "rain", "a.png", "b.png", "c.PNG")
    touch(tmp_path / "rain", "d.JPG")
    entry = make(tmp_path, root=tmp_path, manual={"folder": "rain", "hr": "*.png", "get": "ask"})
    with pytest.raises(UserError, match=r"1 image file .*d\.JPG"):
        obtain.fetch(entry, tmp_path)
    assert not folders.frozen_path(entry).exists()
    (tmp_path / "rain" / "d.JPG").unlink()
    assert len(obtain.fetch(entry, tmp_path).images) == 3
    assert sets.state(entry, tmp_path) == "complete"
    touch(tmp_path / "rain", "e.JPG")  # after it was pinned
    assert sets.state(entry, tmp_path) == "incomplete"
    with pytest.raises(Unavailable, match=r"1 image file .*e\.JPG"):
        obtain.obtain(entry, tmp_path)


@pytest.mark.parametrize("value", [5, "", ["../x"], "/x", [None], {"a": 1}])
def test_a_bad_leave_out_is_refused(user, value):
    with pytest.raises(UserError, match="leave_out: .* is not valid"):
        user(local={"folder": "mine", "leave_out": value})


def test_an_entry_survives_its_plain_form(user):
    entry = user(local={"folder": "mine", "leave_out": ["a*", "b*"]})
    assert entry.leave_out == ("a*", "b*")
    assert sets.DatasetEntry.from_dict(entry.as_dict()) == entry


# -- names -------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "reason"), [
    (b"caf\xe9.png", r"caf\\udce9\.png' holds bytes that are not UTF-8"),
    (b"d\xff/a.png", r"d\\udcff/a\.png' holds bytes that are not UTF-8"),
    (b"a\nb.png", r"a\\nb\.png' holds the control character '\\n'"),
    (b"a\x7f.png", "control character"), ("a\u2028.png".encode(), "control character")])
def test_a_name_that_no_record_can_hold_is_refused(user, tmp_path, name, reason):
    path = tmp_path / "mine" / os.fsdecode(name)
    touch(path.parent, path.name)
    entry = user(local={"folder": "mine", "hr": "**/*.png"})
    with pytest.raises(Unavailable, match=f"{reason}.*Rename") as caught:
        sets.digest(entry)
    str(caught.value).encode()
    [problem] = check.check(entry, tmp_path).problems
    problem.encode()
    assert sets.state(entry, tmp_path) == "unusable"


def test_a_name_in_other_letters_is_accepted(user, tmp_path):
    images(tmp_path / "mine", "café 夜\u00a0\u202f1.png")
    assert sets.state(entry := user(local={"folder": "mine"}), tmp_path) == "complete"
    assert obtain.obtain(entry, tmp_path).images[0].load().shape == (6, 8, 3)


def test_a_left_out_name_that_is_not_utf8_is_shown(user, tmp_path):
    images(tmp_path / "mine", "a.png")
    touch(tmp_path / "mine", os.fsdecode(b"\xe9.heic"))
    with pytest.raises(UserError, match=r"'\\udce9\.heic'") as caught:
        sets.digest(user(local={"folder": "mine"}))
    str(caught.value).encode()


def test_a_folder_that_cannot_exist_is_a_message(user, tmp_path):
    for folder in ("x" * 300, "d/" * 3000):
        entry = user(local={"folder": folder})
        with pytest.raises(Unavailable, match="read: File name too long. Correct its path"):
            sets.digest(entry)
        assert "File name too long" in check.check(entry, tmp_path).problems[0]
        assert sets.state(entry, tmp_path) == "unusable"
    for folder in ("a\0b", "a\n"):
        for kind in ("local", "manual"):
            with pytest.raises(UserError, match="folder(: .*valid| holds a character)"):
                user(**{kind: {"folder": folder, "get": "ask"} if kind == "manual" else
                        {"folder": folder}})


@pytest.mark.parametrize("root", [os.fsdecode(b"\xe9"), "a\nb", "a\0b"])
def test_a_data_root_that_no_record_can_hold_is_refused(tmp_path, root):
    with pytest.raises(UserError, match="data_root .*Choose another folder"):
        make(tmp_path, root=tmp_path / root, local={"folder": "x"})
    with pytest.raises(UserError, match="data_root .*Choose another folder"):
        sets.state(make(tmp_path, local={"folder": "x"}), root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_no_empty_folder(user, tmp_path):
    images(tmp_path / "mine", "a.png")
    touch(tmp_path / "mine", "closed/b.png")
    (tmp_path / "mine" / "closed").chmod(0)
    with pytest.raises(Unavailable, match="closed cannot be read: Permission denied"):
        sets.digest(user(local={"folder": "mine", "hr": "**/*.png"}))
    (tmp_path / "mine" / "closed").chmod(0o700)


def test_many_double_stars_end_soon(tmp_path):
    deep = tmp_path
    for _ in range(20):
        deep /= "a"
    touch(deep, "one.png")
    pattern = "/".join(["**", "a"] * 9 + ["**"] * 9 + ["*.png"])
    assert tree.find(tmp_path, [pattern]) == [[deep / "one.png"]]
    assert tree.find(tmp_path, ["/".join(["**", "a*"] * 9 + ["b", "*.png"])]) == [[]]
    assert tree.distinct(tmp_path, pattern, deep / "one.png").endswith("one.png")
