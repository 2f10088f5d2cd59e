"""``irbench restore``, as a photographer calls it."""

import json
import os
import shlex
import signal
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

import irbench
from irbench import cli
from irbench.api import files
from irbench.imaging import photo
from irbench.imaging.images import imresize, read_image, write_png
from irbench.weights import bundled
from tests.helpers import tiny


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Photographs in a folder and one below it, and a network that doubles each pixel."""
    monkeypatch.chdir(tmp_path)
    write_png(tmp_path / "photos/a.png", tiny.photo(0, 8, 10))
    (tmp_path / "photos/trip").mkdir()
    Image.fromarray(tiny.photo(1, 9, 7)).save("photos/trip/b.jpg")
    (tmp_path / "photos/notes.txt").write_text("no photograph")
    write_png(tmp_path / "photos/.hidden.png", tiny.photo(0, 8, 10))
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


NET = '''
from torch import nn

class Double(nn.Module):
    def __init__(self, scale, gain=1):
        super().__init__()
        self.up, self.gain = nn.Upsample(scale_factor=scale), gain

    def forward(self, x):
        return self.up(x) * self.gain
'''


def restore(*arguments, model="net.py:Double", protocol="sr-x2"):
    return cli.main(["restore", *map(str, arguments), "--model", model, "--device", "cpu",
                     *(["--protocol", protocol] if protocol else [])])


def summary(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def doubled(image):
    return image.repeat(2, 0).repeat(2, 1)


def test_a_folder_keeps_names_and_folders(capsys):
    assert restore("photos", "--output", "out") == 0
    found = sorted(str(path) for path in Path("out").rglob("*") if path.is_file())
    assert found == ["out/a.png", "out/trip/b.png"]
    assert np.array_equal(read_image("out/a.png"), doubled(tiny.photo(0, 8, 10)))
    assert np.array_equal(read_image("out/trip/b.png"), doubled(read_image("photos/trip/b.jpg")))
    assert summary(capsys) == {
        "restored": 2, "skipped": 0, "refused": {}, "model": "double", "protocol": "sr-x2@2",
        "device": "cpu", "output": "out"}


def test_it_is_the_function_of_python():
    restore("photos/a.png", "--output", "out.png", model="semanir-light")
    want = irbench.restore("photos/a.png", "semanir-light", "sr-x2", device="cpu")
    assert np.array_equal(read_image("out.png"), np.asarray(want))


def test_one_file_and_a_pattern():
    assert restore("photos/a.png", "--output", "large.webp") == 0
    assert np.array_equal(read_image("large.webp"), doubled(tiny.photo(0, 8, 10)))
    assert restore("photos/**/*.jpg", "--output", "out", "--format", "tiff") == 0
    assert np.array_equal(read_image("out/trip/b.tif"), doubled(read_image("photos/trip/b.jpg")))


def test_the_same_command_continues(capsys, monkeypatch):
    restore("photos", "--output", "out")
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.png")}
    Path("out/trip/b.png").unlink()
    capsys.readouterr()
    assert restore("photos", "--output", "out") == 0
    found = summary(capsys)
    assert (found["restored"], found["skipped"]) == (1, 1)
    assert Path("out/a.png").stat().st_mtime_ns == before[Path("out/a.png")]


@pytest.mark.parametrize("change", ["photograph", "model", "options", "other program"])
def test_another_result_is_not_replaced_unless_asked(change, capsys):
    restore("photos", "--output", "out")
    model, more = "net.py:Double", ()
    if change == "photograph":
        write_png(Path("photos/a.png"), tiny.photo(5, 8, 10))
    elif change == "model":
        model = "bicubic"
    elif change == "options":       # which no weights show
        more = ("--options", "gain=0.5")
    else:
        write_png(Path("out/a.png"), tiny.photo(6, 8, 10))
    before = Path("out/a.png").read_bytes()
    assert restore("photos", "--output", "out", *more, model=model) == 2
    assert "results exist already" in capsys.readouterr().err
    assert Path("out/a.png").read_bytes() == before
    assert restore("photos", "--output", "out", "--overwrite", *more, model=model) == 0
    assert Path("out/a.png").read_bytes() != before


@pytest.mark.parametrize("suffix", ["png", "jpeg", "tiff", "webp"])
def test_a_file_that_the_network_opens_only_in_its_forward_pass_counts(suffix, capsys):
    Path("net.py").write_text(NET.replace(
        "self.up(x) * self.gain", "self.up(x) * float(open('gain.txt').read())"))
    Path("gain.txt").write_text("1")
    ask = ("photos/a.png", "--output", "out", "--format", suffix)
    assert restore(*ask) == 0
    assert restore(*ask) == 0 and summary(capsys)["skipped"] == 1
    target = next(Path("out").glob("a.*"))
    before = target.read_bytes()
    Path("gain.txt").write_text("0.5")
    assert restore(*ask) == 2 and "results exist already" in capsys.readouterr().err
    assert restore(*ask, "--overwrite") == 0
    assert photo.read(target).pixels.max() < 130 and target.read_bytes() != before
    assert restore(*ask) == 0 and summary(capsys)["skipped"] == 1
    Path("gain.txt").unlink()
    assert restore(*ask) == 2


def test_overwrite_always_restores(capsys):
    for _ in range(2):
        assert restore("photos", "--output", "out", "--overwrite") == 0
        assert summary(capsys)["restored"] == 2


def test_a_result_inside_the_folder_is_not_restored_again():
    for _ in range(2):
        assert restore("photos", "--output", "photos/large") == 0
    assert not Path("photos/large/large").exists()


def test_a_photograph_that_cannot_be_restored_does_not_stop_the_others(capsys):
    Path("photos/broken.png").write_bytes(b"no image")
    Image.fromarray(tiny.photo(0, 8, 8)).convert("CMYK").save("photos/print.tif")
    assert restore("photos", "--output", "out") == 1
    out = capsys.readouterr()
    found = json.loads(out.out.splitlines()[-1])
    assert found["restored"] == 2 and set(found["refused"]) == {
        "photos/broken.png", "photos/print.tif"}
    assert "not restored: photos/print.tif: the image has the colour space CMYK" in out.err
    assert not list(Path("out").glob(".*"))
    assert restore("photos/print.tif", "--output", "large.png") == 2
    assert not Path("large.png").exists()


@pytest.mark.parametrize("arguments, message", [
    (("nothing", "--output", "out"), "nothing: no such file or folder"),
    (("raw.CR2", "--output", "out"), "raw.CR2: irbench does not read .cr2 files. Convert it to"),
    (("fake.png", "--output", "out"), "fake.png: its content is not an image that irbench "
     "restores, although its name ends in .png. It is a text file"),
    (("cut.png", "--output", "out"), "cut.png: the image is truncated or broken ("),
    (("raw", "--output", "out"), "no photograph there that irbench reads (but raw/1.heic)"),
    (("net.py", "--output", "out"), "net.py: not an image file"),
    (("*.txt", "--output", "out"), "no photograph there"),
    (("photos", "--output", "out.png"), "names a file, but several"),
    (("photos", "--output", "photos"), "this is a photograph to restore"),
    (("photos/a.png", "--output", "out.png", "--format", "webp"), "Omit one of them"),
    (("photos/a.png", "--output", "out.bmp"), "the suffix '.bmp'"),
    (("photos/a.png", "--output", "net.py/out.png"), "not written"),
])
def test_what_cannot_be_done_is_said_in_one_sentence(arguments, message, capsys):
    Path("raw").mkdir()
    for name in ("raw.CR2", "raw/1.heic", "raw/notes", "fake.png"):
        Path(name).write_text("words")
    Path("cut.png").write_bytes(Path("photos/a.png").read_bytes()[:-20])
    assert restore(*arguments) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err and "the set" not in err


@pytest.mark.parametrize("given", ["photos", "photos/**/*"])
def test_photographs_that_are_not_read_are_named_and_other_files_counted(given, capsys):
    # beside a.png, as a camera writes them: no two photographs with one result
    for name in ("a.CR2", "trip/b.heic", "film.mov", ".DS_Store"):
        Path("photos", name).write_text("x")
    assert restore(given, "--output", "out") == 1
    out = capsys.readouterr()
    found = json.loads(out.out.splitlines()[-1])
    assert found["restored"] == 2
    assert set(found["refused"]) == {"photos/a.CR2", "photos/trip/b.heic"}
    assert "not restored: photos/a.CR2: irbench does not read .cr2 files" in out.err
    assert "2 files with other suffixes were not taken" in out.err      # film.mov, notes.txt


def test_two_photographs_of_one_name_are_refused(capsys):
    Image.fromarray(tiny.photo(3, 8, 8)).save("photos/A.jpg")
    assert restore("photos", "--output", "out") == 2
    assert "photos/A.jpg and photos/a.png would both become out/a.png" in capsys.readouterr().err


def test_the_protocol_may_be_omitted_if_there_is_one(capsys):
    path = bundled.catalog()["semanir-light-sr-x2"].path
    assert restore("photos/a.png", "--output", "out", model=str(path), protocol=None) == 0
    assert restore("photos/a.png", "--output", "two", model="compacter", protocol=None) == 2
    assert "which protocol? It has weights for" in capsys.readouterr().err


def test_nothing_is_degraded_first():
    """A denoiser gets the photograph, not a noisy copy: the input comes back as it is."""
    assert restore("photos/a.png", "--output", "same.png", model="input",
                   protocol="denoise_color-sigma50") == 0
    assert np.array_equal(read_image("same.png"), tiny.photo(0, 8, 10))


def test_tiles_give_the_same_and_show_progress(monkeypatch):
    seen = []
    track = files.messages.track

    def spy(items, title, total, **more):
        seen.append((title, total))
        return track(items, title, total, **more)

    monkeypatch.setattr(files.messages, "track", spy)
    assert restore("photos/a.png", "--output", "out.png", "--tile", "6") == 0
    assert np.array_equal(read_image("out.png"), doubled(tiny.photo(0, 8, 10)))
    assert ("restore with double", 1) in seen
    assert any(title == "a.png, tiles" and total > 1 for title, total in seen)


def test_what_a_photographer_keeps():
    """Upright, 16 bits, alpha, profile, EXIF: all in one file."""
    deep = np.random.default_rng(0).integers(0, 65536, (8, 10, 4), dtype=np.uint16)
    data = cv2.imencode(".png", deep[..., [2, 1, 0, 3]])[1].tobytes()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Artist] = 3, "me"
    chunks = photo._chunk(b"eXIf", exif.tobytes()[6:])
    Path("photos/deep.png").write_bytes(data[:33] + chunks + data[33:])
    assert restore("photos/deep.png", "--output", "out") == 0
    found = photo.read("out/deep.png")
    assert found.pixels.dtype == np.uint16
    assert np.array_equal(found.pixels, doubled(deep[::-1, ::-1, :3]))
    enlarged = imresize(deep[::-1, ::-1, 3:] / 65535, 2)[..., 0]
    assert np.array_equal(found.alpha, np.round(np.clip(enlarged, 0, 1) * 65535))
    assert found.exif[ExifTags.Base.Artist] == "me" and ExifTags.Base.Orientation not in found.exif


def noisy(folder):
    """Write a photograph as PNG, and as JPEG with each subsampling, to a new folder."""
    picture = Image.fromarray(tiny.photo(2, 32, 32))
    Path(folder).mkdir()
    picture.save(f"{folder}/plain.png")
    for number, name in enumerate(["444", "422", "420"]):
        picture.save(f"{folder}/{name}.jpg", subsampling=number)


@pytest.mark.parametrize("protocol, told", [
    ("denoise_color-sigma25", True), ("jpeg_color-q10", False), ("sr-x2", False)])
def test_photographs_whose_noise_will_stay_are_named_once(protocol, told, capsys):
    """JPEG that shares colours among pixels correlates the noise, which the model never saw."""
    noisy("noisy")
    assert restore("noisy", "--output", "out", model="input" if told else "compacter",
                   protocol=protocol) == 0
    out = capsys.readouterr()
    assert out.err.count("much of the noise will stay") == told
    if told:
        assert ("2 of 4 photographs (noisy/420.jpg, noisy/422.jpg): JPEG with subsampled chroma "
                "(4:2:0, 4:2:2)") in out.err
    # nothing is left to restore: nothing is said
    restore("noisy", "--output", "out", model="input" if told else "compacter", protocol=protocol)
    assert "noise will stay" not in capsys.readouterr().err


def test_python_warns_of_noise_that_will_stay():
    noisy("noisy")
    model = irbench.load_model("input", "denoise_color-sigma25", device="cpu")
    with pytest.warns(UserWarning, match=r"^noisy/420.jpg: JPEG with subsampled .*4:2:0") as found:
        irbench.restore("noisy/420.jpg", model)
    assert found[0].filename == __file__
    with pytest.warns(UserWarning, match=r"^the image: JPEG .*4:2:2"), \
            Image.open("noisy/422.jpg") as opened:
        model(opened)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for quiet in ("noisy/444.jpg", "noisy/plain.png", np.asarray(Image.open("noisy/420.jpg"))):
            irbench.restore(quiet, model)


def test_the_command_for_gray_photographs_that_is_printed_works(capsys):
    noisy("mixed dir")
    Image.fromarray(tiny.photo(2, 32, 32)).convert("L").save("mixed dir/gray one.png")
    assert restore("mixed dir", "--output", "out", model="compacter",
                   protocol="denoise_color-sigma50") == 1
    err = capsys.readouterr().err
    assert "such as compacter with denoise_gray-sigma50." in err
    line = next(line for line in err.splitlines() if "irbench restore" in line)
    assert line.startswith("1 gray photograph was left.")
    words = shlex.split(line[line.index("irbench restore"):])
    assert words[-2:] == ["--protocol", "denoise_gray-sigma50"]
    assert cli.main([*words[1:], "--device", "cpu"]) == 0
    assert [path.name for path in Path("out-gray").iterdir()] == ["gray one.png"]


def test_any_level_of_blind_weights_gives_the_same_pixels():
    picture = tiny.photo(1, 24, 24)
    for task, levels in (("denoise_color-sigma", (15, 25, 50)), ("jpeg_color-q", (10, 40))):
        first, *others = (irbench.restore(picture, "compacter", f"{task}{level}", device="cpu")
                          for level in levels)
        assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("more, advice", [
    ((), "Run the same command again; it continues."),
    (("--overwrite",), "With --overwrite the same command restores all of them again.")])
def test_an_interrupted_command_says_what_is_kept(number, code, more, advice, monkeypatch, capsys,
                                                  usual_signals):
    write, before = files.files.write_atomic, signal.getsignal(number)

    def stop_at_the_second(path, data):
        if Path("out/a.png").exists():
            os.kill(os.getpid(), number)
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(files.files, "write_atomic", stop_at_the_second)
        assert restore("photos", "--output", "out", *more) == code
    assert signal.getsignal(number) is before
    out = capsys.readouterr()
    assert out.out == "" and out.err.splitlines()[-1] == (
        f"irbench: interrupted. Kept in out: 1 restored photograph. {advice}")
    assert [path.name for path in Path("out").rglob("*")] == ["a.png"]
    assert restore("photos", "--output", "out") == 0
    assert summary(capsys)["skipped"] == 1


def test_a_command_that_is_interrupted_at_once_says_so(monkeypatch, capsys):
    monkeypatch.setattr(files, "find", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert restore("photos", "--output", "out") == 143
    assert capsys.readouterr().err == ("irbench: interrupted. No photograph was finished. Run the "
                                       "same command again.\n")


def test_a_large_photograph_is_named_when_it_begins(monkeypatch, capsys):
    monkeypatch.setattr(files.messages, "LARGE", 80)
    assert restore("photos", "--output", "out") == 0
    assert "restore with double: now a.png, 0.0 megapixels" in capsys.readouterr().err
