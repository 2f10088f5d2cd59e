"""``irbench score``: a folder against a folder."""

import csv
import json
import shutil
import unicodedata

import pytest

from irbench import cli
from irbench.api import scores
from irbench.imaging.images import write_png
from tests.helpers import tiny


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(3):
        write_png(tmp_path / "targets" / f"img{i}.png", tiny.photo(i, 30, 32))
        write_png(tmp_path / "results" / f"img{i}.png", tiny.photo(i + 5, 30, 32))
    return tmp_path


def score(*more):
    return cli.main(["score", "results", "targets", "--protocol", "sr-x2", *map(str, more)])


def test_a_table_a_json_and_a_csv_of_the_same_values(folders, capsys):
    assert score("--json", "out/scores.json", "--csv", "scores.csv") == 0
    want = scores.score("results", "targets", "sr-x2")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["image", "PSNR", "(dB)", "SSIM"]
    assert lines[2].split() == ["img0", f"{want.scores['img0']['psnr']:.3f}",
                                f"{want.scores['img0']['ssim']:.5f}"]
    assert f"mean (sr-x2@2)  {want.mean['psnr']:11.3f}".split() == lines[5].split()[:3]
    assert json.loads(lines[-1]) == {"protocol": "sr-x2@2", "count": 3, "mean": want.mean,
                                     "without_result": [], "left_out": []}
    assert json.loads((folders / "out/scores.json").read_text()) == want.as_dict()
    rows = list(csv.DictReader((folders / "scores.csv").open()))
    assert [row["image"] for row in rows] == ["img0", "img1", "img2", "mean"]
    assert float(rows[3]["psnr_db"]) == want.mean["psnr"]
    assert float(rows[1]["ssim"]) == want.scores["img1"]["ssim"]


def test_a_target_without_a_result_leaves_no_mean_and_is_named(folders, capsys):
    (folders / "results/img1.png").rename(folders / "results/other.png")
    assert score("--csv", "scores.csv") == 1
    out = capsys.readouterr().out
    assert "no mean of PSNR: targets without a result: img1" in out
    assert "results without a target, ignored: other" in out
    assert json.loads(out.splitlines()[-1])["mean"] == {"psnr": None, "ssim": None}
    rows = list(csv.DictReader((folders / "scores.csv").open()))
    assert [row["psnr_db"] == "" for row in rows] == [False, False, True, True]


def test_what_is_not_looked_at_is_named(folders, capsys):
    (folders / "targets/sub").mkdir()
    shutil.copy(folders / "targets/img0.png", folders / "targets/sub/img9.png")
    (folders / "results/img8.exr").write_bytes(b"P7")
    (folders / "results/notes.txt").write_text("no image")
    assert score() == 0
    *_, said, last = capsys.readouterr().out.splitlines()
    assert said == ("not looked at, of another type or in a folder below: results/img8.exr, "
                    "targets/sub/img9.png")
    assert json.loads(last)["left_out"] == ["results/img8.exr", "targets/sub/img9.png"]
    assert json.loads(last)["count"] == 3


def test_names_that_look_the_same_are_told(folders, capsys):
    for folder, form in (("targets", "NFD"), ("results", "NFC")):
        (folders / folder / "img1.png").rename(
            folders / folder / f"{unicodedata.normalize(form, 'é')}.png")
    assert score() == 1
    assert ("target and result differ only in how Unicode writes their letters (NFC and NFD): "
            ) in capsys.readouterr().out
    for name in ("img0", "img2"):
        (folders / "results" / f"{name}.png").unlink()
        (folders / "targets" / f"{name}.png").unlink()
    assert score() == 2
    assert "They differ only in how Unicode" in capsys.readouterr().err


@pytest.mark.parametrize("more, message", [
    (["--match", "["], "not a valid regular expression"),
    (["--match", "(a+)+$"], "which may take for ever"),
    (["--metrics", "pnsr"], "unknown metric 'pnsr'"),
    (["--csv", "targets"], "--csv targets: this is a folder; name a file."),
])
def test_what_cannot_be_done_is_said_in_one_sentence(more, message, capsys):
    try:
        code = score(*more)
    except SystemExit as error:
        code = error.code
    assert code == 2 and message in capsys.readouterr().err


def test_folders_without_a_common_name_are_refused(folders, capsys):
    for path in (folders / "results").iterdir():
        path.rename(path.with_stem(f"{path.stem}_x2"))
    assert score() == 2
    err = capsys.readouterr().err
    assert "targets: img0, img1, img2" in err and "give --match" in err
    assert score("--match", "_x2$") == 0
