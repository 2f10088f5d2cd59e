import json
import re
import subprocess
import sys

import pytest
import yaml

from irbench import cli, plan
from irbench.catalog import protocols
from irbench.cli import info
from irbench.core import digests, records
from irbench.jobs import run as jobs
from irbench.jobs import verify
from tests.helpers import tiny

STILL = '''
from torch import nn
CARDS = {"still": {"title": "Still", "builder": "build", "tasks": ["sr"], "in_paper": False,
                   "note": "for speed", "source": "a test", "learned": False, "reference": True}}

def build(task, scale, channels):
    return nn.Upsample(scale_factor=scale)
'''


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tiny.make(tmp_path)


def evaluate(model, *more, protocol="jpeg_gray-q10"):
    return cli.main(["eval", "--protocol", protocol, "--dataset", "tinyset", "--model", model,
                     *more])


def test_a_cell_by_hand(world, capsys):
    assert evaluate("input") == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    record = records.read(world.parent / summary["record"])
    assert record["status"] == "ok"
    assert [image["name"] for image in record["result"]["images"]] == ["img0", "img1", "img2"]
    psnrs = [image["psnr"] for image in record["result"]["images"]]
    assert record["result"]["mean"]["psnr"] == pytest.approx(sum(psnrs) / 3)
    assert set(record["seconds"]) == {"load", "forward", "score", "write"}
    folder = world.parent / "results/tiny"
    for image in record["result"]["images"]:
        assert (folder / image["file"]).is_file()
    kept = {p.parent.name for p in folder.glob("images/jpeg_gray-q10@1/tinyset/*/*.png")}
    assert kept == {"input", "_input", "_target"}


def test_the_same_cell_twice_gives_the_same_bytes(world):
    evaluate("input")
    run = plan.load(world)
    path = run.find("cell", protocol="jpeg_gray-q10", dataset="tinyset", model="input").record
    first = records.read(path)
    evaluate("input")
    second = records.read(path)
    for record in (first, second):
        del record["seconds"], record["provenance"]
    assert first == second


@pytest.mark.parametrize("damage", [pytest.param("truncated", marks=pytest.mark.slow), "text"])
def test_a_broken_image_leaves_no_mean_and_no_record(world, capsys, damage):
    victim = world.parent / "images" / "test" / "img1.png"
    victim.write_bytes(victim.read_bytes()[:90] if damage == "truncated" else b"no image")
    assert evaluate("input") == 2
    error = capsys.readouterr().err
    assert "img1.png" in error
    assert "Traceback" not in error
    assert not list(world.parent.glob("results/tiny/cells/**/*.json"))
    assert evaluate("input", "--on-failure", "record") == 0
    record = records.read(next(world.parent.glob("results/tiny/cells/**/*.json")))
    assert record["status"] == "unavailable"
    assert "img1.png" in record["reason"]


def test_a_wrong_checkpoint_is_refused_by_name(world, capsys):
    assert cli.main(["train", "--protocol", "sr-x2", "--model", "tiny"]) == 0
    weights = world.parent / "results/tiny/checkpoints/sr-x2@1/tiny.safetensors"
    config = yaml.safe_load(world.read_text())

    def try_(checkpoint, **options):
        config["models"]["tiny"] = {"checkpoint": str(checkpoint), "options": options}
        world.write_text(yaml.safe_dump(config))
        capsys.readouterr()
        code = evaluate("tiny", protocol="sr-x2")
        return code, capsys.readouterr().err

    assert try_(weights)[0] == 0
    code, error = try_(weights, width=5)
    assert code == 2
    assert "it is for options" in error
    code, error = try_(world)
    assert code == 2
    assert "not a checkpoint (it begins with" in error
    broken = world.parent / "cut.safetensors"
    broken.write_bytes(weights.read_bytes()[:-10])
    code, error = try_(broken)
    assert code == 2
    assert "cut.safetensors" in error
    code, error = try_(world.parent)
    assert code == 2
    assert "a folder, not a file" in error
    code, error = try_(weights, width=-1)
    assert code == 2
    assert "width is -1; it must be at least 1" in error
    code, error = try_("nowhere.safetensors")
    assert code == 2
    assert "no such file" in error
    config["cells"][1]["models"] = ["tiny"]
    config["models"]["tiny"] = {"checkpoint": str(weights)}
    world.write_text(yaml.safe_dump(config))
    assert evaluate("tiny") == 2
    error = capsys.readouterr().err
    assert "it is for protocol 'sr-x2@1', but model tiny needs 'jpeg_gray-q10@1'" in error


def test_altered_trained_weights_are_refused(world, capsys):
    cli.main(["train", "--protocol", "sr-x2", "--model", "tiny"])
    weights = world.parent / "results/tiny/checkpoints/sr-x2@1/tiny.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert evaluate("tiny", protocol="sr-x2") == 2
    assert "was altered" in capsys.readouterr().err


def test_a_model_that_breaks_costs_one_cell(world):
    plugin = world.parent / "tiny_model.py"
    head = "def forward(self, x):"
    plugin.write_text(plugin.read_text().replace(head, f"{head}\n        raise KeyError(7)"))
    config = yaml.safe_load(world.read_text())
    from irbench.weights import loading
    run = plan.load(world)
    network = loading.build(run.models["tiny"], run.protocols["sr-x2@2"],
                                tuple(config["plugins"]))
    weights = world.parent / "w.safetensors"
    loading.save(weights, network.state_dict(), run.models["tiny"], run.protocols["sr-x2@2"])
    config["models"]["tiny"] = {"checkpoint": str(weights)}
    world.write_text(yaml.safe_dump(config))
    assert evaluate("tiny", "--on-failure", "record", protocol="sr-x2") == 0
    record = records.read(world.parent / "results/tiny/cells/sr-x2@2/tinyset/tiny.json")
    assert record["status"] == "failed"
    assert "KeyError: 7" in record["reason"]


def test_a_job_that_is_killed_leaves_a_record(world):
    plugin = world.parent / "tiny_model.py"
    plugin.write_text("import os\n" + plugin.read_text().replace(
        "def forward(self, x):", "def forward(self, x):\n        os.kill(os.getpid(), 9)"))
    assert cli.main(["profile", "--protocol", "sr-x2", "--model", "tiny", "--on-failure",
                     "record"]) == 0
    record = records.read(world.parent / "results/tiny/profiles/sr-x2@2/tiny.json")
    assert record["status"] == "failed"
    assert "ended by signal 9 (out of memory?)" in record["reason"]


def test_images_deleted_since_they_were_fetched_are_fetched_again(world, monkeypatch):
    config = yaml.safe_load(world.read_text())
    config["cells"] = [{"protocol": "sr-x2", "datasets": ["remote"], "models": ["bicubic"]}]
    source = world.parent / "images" / "test" / "img0.png"
    (world.parent / "datasets.yaml").write_text(yaml.safe_dump({"datasets": {"remote": {
        "title": "Remote", "use": "test", "manifest": "remote.csv"}}}))
    (world.parent / "remote.csv").write_text(
        "role,file,url,sha256,bytes\n"
        f"hr,a.png,https://example.org/a.png,{digests.file_digest(source)},"
        f"{source.stat().st_size}\n")
    monkeypatch.setenv("IRBENCH_MIRROR", str(world.parent / "mirror"))
    mirrored = world.parent / "mirror" / "example.org" / "a.png"
    mirrored.parent.mkdir(parents=True)
    mirrored.write_bytes(source.read_bytes())
    config["models"] = {"bicubic": {}}
    world.write_text(yaml.safe_dump(config))
    command = ["eval", "--protocol", "sr-x2", "--dataset", "remote", "--model", "bicubic"]
    assert cli.main(command) == 0
    copy = world.parent / "data" / "remote" / "hr" / "a.png"
    copy.unlink()
    assert cli.main(command) == 0
    assert copy.exists()


def test_fetching_again_changes_no_record(world):
    cli.main(["data", "fetch", "tinyset"])
    path = world.parent / "results/tiny/data/tinyset.json"
    before = path.stat().st_mtime_ns
    cli.main(["data", "fetch", "tinyset"])
    assert path.stat().st_mtime_ns == before


def test_keeping_images_by_hand_is_no_other_result(world):
    assert evaluate("input", "--keep-images") == 0
    problems = verify.check(plan.load(world))
    assert not [p for p in problems if "tinyset / input" in p]


def test_a_report_shows_no_number_of_other_inputs(world):
    evaluate("input")
    assert cli.main(["report"]) == 0
    table = (world.parent / "results/tiny/tables/jpeg_gray.md").read_text()
    cell = records.read(next(world.parent.glob("results/tiny/cells/**/*.json")))
    number = f"{cell['result']['mean']['psnr']:.2f}"
    assert number in table
    config = yaml.safe_load(world.read_text())
    config["keep_images"] = False
    world.write_text(yaml.safe_dump(config))
    assert cli.main(["report"]) == 0
    table = (world.parent / "results/tiny/tables/jpeg_gray.md").read_text()
    assert number not in table
    assert "computed from other inputs" in table


def test_a_metric_taken_off_the_config_keeps_the_others(world, capsys):
    evaluate("input")
    cell = plan.load(world).cells["jpeg_gray-q10@1/tinyset/input"]
    mean = records.read(cell.record)["result"]["mean"]
    shown = {name: f"{mean[name]:.{decimals}f}" for name, decimals in (("psnr", 2), ("ssim", 4))}
    config = yaml.safe_load(world.read_text())
    for asked in (["psnr"], ["ssim", "psnr"], ["ssim"], ["psnr", "ssim"]):
        world.write_text(yaml.safe_dump(config | {"metrics": asked}))
        assert not [one for one in verify.check(plan.load(world)) if one.startswith(cell.title)]
        assert cli.main(["report"]) == 0
        table = (world.parent / "results/tiny/tables/jpeg_gray.md").read_text()
        assert {name for name, text in shown.items() if text in table} == set(asked)
    # a metric that no record holds is computed
    world.write_text(yaml.safe_dump(config | {"metrics": ["psnr", "ssim", "lpips"]}))
    assert [one for one in verify.check(plan.load(world)) if one.startswith(
        f"{cell.title}: its") and "metrics" in one]


def test_a_profile_by_hand(world, capsys):
    assert cli.main(["profile", "--protocol", "sr-x2", "--model", "tiny"]) == 0
    record = records.read(world.parent / "results/tiny/profiles/sr-x2@2/tiny.json")
    # 3 -> 4 and 4 -> 12 channels by 3x3 convolutions with bias
    assert record["result"]["parameters"] == (27 * 4 + 4) + (36 * 12 + 12)
    assert record["result"]["macs"] == 16 * 16 * (27 * 4 + 36 * 12)
    assert len(record["result"]["latency_ms"]["samples"]) == 3


def test_profiles_of_one_command_have_a_process_each(world):
    """Forks of a process that has imported torch: a computation in each ends, and is as alone."""
    value = yaml.safe_load(world.read_text())
    value["models"]["tiny"] = {"checkpoint": "none", "variants": {
        "fast": {"inference": {"dtype": "bfloat16"}}}}
    world.write_text(yaml.safe_dump(value))
    done = subprocess.run(
        [sys.executable, "-m", "irbench", "profile", "--protocol", "sr-x2", "--model", "tiny",
         "tiny.fast", "--threads", "2", "--on-failure", "record", "--log", "one.log", "two.log"],
        cwd=world.parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for name, dtype, log in (("tiny", "float32", "one"), ("tiny.fast", "bfloat16", "two")):
        record = records.read(world.parent / f"results/tiny/profiles/sr-x2@2/{name}.json")
        assert (record["status"], record["result"]["dtype"]) == ("ok", dtype)
        text = (world.parent / f"{log}.log").read_text()
        assert text.count(": started") == 1 and f"/ {name}: started" in text


@pytest.mark.parametrize(("options", "words"), [
    (["--protocol", "sr-x2", "jpeg_gray-q10", "--model", "tiny"], "one for each"),
    (["--protocol", "sr-x2", "--model", "tiny", "tiny"], "--on-failure record"),
    (["--protocol", "sr-x2", "--model", "tiny", "--log", "a", "b"], "one file for each")])
def test_profiles_that_do_not_go_together_are_refused(world, capsys, options, words):
    assert cli.main(["profile", *options]) == 2
    assert words in capsys.readouterr().err
    assert not (world.parent / "results/tiny/profiles").exists()


@pytest.mark.parametrize(("options", "seconds"), [
    ([], 7), (["--wait-quiet"], 300), (["--wait-quiet", "2.5"], 2.5), (["--wait-quiet", "0"], 0)])
def test_how_long_a_profile_waits_for_a_quiet_machine(world, monkeypatch, options, seconds):
    """The config says it for the workflow, an option for one job; the result is the same."""
    planned = plan.load(world)
    config = yaml.safe_load(world.read_text())
    world.write_text(yaml.safe_dump(config | {"wait_quiet": 7}))
    again = plan.load(world)
    assert {job.title: job.fingerprint for job in planned.jobs()} == {
        job.title: job.fingerprint for job in again.jobs()}
    asked = []
    monkeypatch.setattr(jobs, "do", lambda plan, job, how, **_: asked.append(how.wait_quiet))
    assert cli.main(["profile", "--protocol", "sr-x2", "--model", "tiny", *options]) == 0
    assert asked == [seconds]


def test_a_negative_patience_is_refused(world, capsys):
    with pytest.raises(SystemExit):
        cli.main(["profile", "--protocol", "sr-x2", "--model", "tiny", "--wait-quiet", "-1"])
    assert "is not a non-negative number of seconds" in capsys.readouterr().err


def test_a_profile_is_of_the_inference_asked_for(world, capsys):
    value = yaml.safe_load(world.read_text())
    value["models"]["tiny"] = {"checkpoint": "none", "variants": {
        "fast": {"inference": {"dtype": "bfloat16"}}}}
    value["profile"] |= {"sweep": {"sizes": [8, 12, 16], "batches": [1], "samples": 2},
                         "references": ["still"]}
    value["plugins"].append("still.py")
    world.write_text(yaml.safe_dump(value))
    (world.parent / "still.py").write_text(STILL)
    folder = world.parent / "results/tiny/profiles/sr-x2@2"
    for name, dtype in (("tiny", "float32"), ("tiny.fast", "bfloat16"), ("still", "float32")):
        assert cli.main(["profile", "--protocol", "sr-x2", "--model", name]) == 0
        result = records.read(folder / f"{name}.json")["result"]
        assert result["inference"]["dtype"] == dtype
        assert [point["height"] for point in result["sweep"]["size"]["points"]] == [8, 12, 16]
    assert cli.main(["eval", "--protocol", "sr-x2", "--dataset", "tinyset", "--model",
                     "still"]) == 2
    assert "unknown cell job" in capsys.readouterr().err


def test_a_profile_tells_which_attention_was_chosen(world, capsys):
    value = yaml.safe_load(world.read_text())
    value["models"]["semanir-light"] = {"checkpoint": "none", "options": {
        "width": 12, "stages": 1, "layers": 1}}
    value["cells"][0]["models"].append("semanir-light")
    world.write_text(yaml.safe_dump(value))
    assert cli.main(["profile", "--protocol", "sr-x2", "--model", "semanir-light"]) == 0
    record = records.read(world.parent / "results/tiny/profiles/sr-x2@2/semanir-light.json")
    chosen = record["result"]["attention"]
    assert f"attention {chosen['implementation']}: {chosen['reason']}" in capsys.readouterr().err


BENCH = ["bench", "attention", "--device", "cpu"]
SMALL = ["--n", "16", "--k", "4", "8", "--windows", "1", "--heads", "2", "--head-dim", "4",
         "--samples", "2", "--implementations", "mask", "gather"]


def test_the_attention_benchmark_by_hand(world, capsys):
    assert cli.main([*BENCH, *SMALL]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)  # one line, nothing else
    assert {(row["implementation"], row["k"]) for row in result["rows"]} == {
        ("dense", None), ("mask", 4), ("mask", 8), ("gather", 4), ("gather", 8)}
    assert "gather" in err and "device cpu: asked for" in err
    assert not (world.parent / "results").exists()


def test_the_attention_benchmark_of_a_run(world, capsys):
    assert cli.main([*BENCH, "--config", str(world)]) == 2
    assert "no benchmark is configured. Add `attention_bench: {}`" in capsys.readouterr().err
    value = yaml.safe_load(world.read_text())
    value["attention_bench"] = {"n": [16], "k": [4, 32], "windows": 1, "heads": 2, "head_dim": 4,
                                "samples": 2, "implementations": ["mask"]}
    world.write_text(yaml.safe_dump(value))
    assert cli.main([*BENCH, "--config", str(world), "--heads", "2", "--head-dim", "3"]) == 2
    assert "Omit either --config or --heads, --head-dim." in capsys.readouterr().err
    assert cli.main([*BENCH, "--config", str(world)]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    record = records.read(world.parent / summary["record"])
    assert (record["kind"], record["status"]) == ("bench", "ok")
    assert {(row["implementation"], row["k"]) for row in record["result"]["rows"]} == {
        ("dense", None), ("mask", 4)}
    assert not [p for p in verify.check(plan.load(world)) if p.startswith("bench")]


def test_data_by_hand(world, capsys):
    assert cli.main(["data", "fetch", "tinyset"]) == 0
    record = records.read(world.parent / "results/tiny/data/tinyset.json")
    assert record["result"]["count"] == 3


def test_list_and_info(capsys, world):
    assert cli.main(["list"]) == 0
    out = capsys.readouterr().out
    for name in ("compacter", "sr-x2@2", "set5", "demo"):
        assert name in out
    assert cli.main(["list", "models", "--config", str(world)]) == 0
    assert "tiny" in capsys.readouterr().out
    assert cli.main(["list", "models"]) == 0
    assert "SwinIR-M (random weights, for speed): Random weights: " in capsys.readouterr().out
    assert cli.main(["info", "sr-x2"]) == 0
    assert json.loads(capsys.readouterr().out)["degradation"]["scale"] == 2
    assert cli.main(["info", "compater"]) == 2
    said = capsys.readouterr().err
    assert "Did you mean 'compacter'" in said and len(said) < 200   # not two hundred names
    assert re.search(r"irbench list shows the \d{3} valid ones\.$", said.strip())


def test_list_and_info_know_what_the_config_here_defines(world, capsys):
    value = yaml.safe_load(world.read_text())
    value["models"]["mine"] = {"arch": "tiny", "checkpoint": "none"}
    world.write_text(yaml.safe_dump(value))
    for name, key in (("mine", "arch"), ("tiny", "builder"), ("tinyset", "source")):
        assert cli.main(["info", name]) == 0
        assert json.loads(capsys.readouterr().out)[key]
        assert cli.main(["list"]) == 0
        assert f"  {name} " in capsys.readouterr().out
    # who mends a config needs the names
    world.write_text("models: [")
    assert cli.main(["list", "models"]) == 0 and cli.main(["info", "mine"]) == 2
    said = capsys.readouterr().err
    assert said.count("config.yaml adds nothing: ") == 2 and "unknown name 'mine'" in said
    assert cli.main(["list", "--config", str(world)]) == 2


def test_info_says_of_a_path_that_there_is_no_such_file(world, capsys):
    assert cli.main(["eval", "--protocol", "sr-x2", "--dataset", "tinyset", "--model",
                     "bicubic"]) == 0
    place = "results/tiny/cells/sr-x2@{}/tinyset/bicubic.json"
    for name, message in (
            (place.format(1), f"no such file. Did you mean {place.format(2)}?"),
            ("results/tiny", "a folder. Give the path of a record"),
            ("/none/of/these.pth", "no such file. Give the path"),
            ("nothing.json", "no such file. Give the path")):
        capsys.readouterr()
        assert cli.main(["info", name]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"irbench: {name}: {message}") and "valid names" not in said
    example = re.search(r"irbench info (results\S+json)", info.__doc__)[1]
    assert example.split("/")[3] == protocols.get("sr-x2").id


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["info", "sr-x2"]])
def test_quick_commands_do_not_import_torch(arguments):
    code = ("import sys; from irbench.cli import main\n"
            f"try: main({arguments!r})\nexcept SystemExit: pass\n"
            "bad = {'torch', 'pyiqa', 'pandas', 'matplotlib', 'snakemake'} & set(sys.modules)\n"
            "assert not bad, bad")
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_planning_does_not_import_torch(world):
    code = ("import sys; from irbench import plan; plan.load('config.yaml')\n"
            "bad = {'torch', 'pyiqa', 'pandas', 'matplotlib'} & set(sys.modules)\n"
            "assert not bad, bad")
    process = subprocess.run([sys.executable, "-c", code], cwd=world.parent, capture_output=True,
                             text=True)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("arguments", [
    ["eval", "--protocol", "sr-x2", "--dataset", "tinyset", "--model", "tinyy"],
    ["train", "--protocol", "sr-x2", "--model", "bicubic"],
    ["data", "fetch", "nothing"],
    ["report", "--config", "missing.yaml"],
    ["eval", "--protocol", "sr-x2", "--dataset", "tinyset", "--model", "bicubic", "--log", "."],
    ["info", "config.yaml"],
    ["bench", "attention", "--config", "missing.yaml"],
    ["bench", "attention", "--on-failure", "record"],
])
def test_misuse_is_exit_code_2_with_one_message(world, capsys, arguments):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("irbench: ")
    assert "Traceback" not in error


def test_the_published_methods_that_a_table_takes_are_listed(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["list", "published"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "published:" and {"IMDN", "SwinIR"} <= {one.split()[0] for one in lines[1:]}
    assert any(one.split()[0] == "IMDN" and "sr_light" in one for one in lines[1:])
    assert any(one.split()[0] == "DnCNN*" for one in lines)
    legend, more = lines[-2:]
    assert legend == "  * one model for all levels (the asterisk is the source's);"
    assert more.startswith("    irbench table --rows takes the name without it") and len(more) <= 80
    assert cli.main(["list", "metrics"]) == 0 and "asterisk" not in capsys.readouterr().out
