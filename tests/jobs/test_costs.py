"""What a run will need: hours, disk and memory, from synthetic records of other runs."""

import json
import re
import shlex

import pytest
import yaml

from irbench import cli, plan
from irbench.core import files, machine, records
from irbench.core.run_folder import RunFolder
from irbench.data import sizes
from irbench.jobs import needs
from irbench.jobs.costs import estimate, hours, measured
from irbench.jobs.costs.measured import LatencyCurve, MeasuredOn
from irbench.jobs.result import Result, record_of, write
from tests.helpers import tiny

HERE = machine.provenance()["hardware"]["cpu"]
GPU = "A GPU"
AREAS = (24 * 30, 31 * 26, 28 * 28)     # of tinyset
WHERE = MeasuredOn("cpu", HERE, "somewhere")


def profile(ms: float = 20.0, side: int = 8, batch: int = 1, sweep: dict | None = None,
            device: str = "cpu", **more) -> dict:
    """A profile's result with what an estimate reads."""
    return {"parameters": 1000, "input": {"batch": batch, "channels": 3, "height": side,
                                          "width": side},
            "latency_ms": {"p50": ms, "samples": [ms]}, "device": device, "sweep": sweep,
            "device_name": GPU if device == "cuda" else HERE, "peak_memory_bytes": 5000, **more}


def cell_result(areas=AREAS, **more) -> dict:
    return {"images": [{"name": f"img{i}", "height": 1, "width": area, "psnr": 30.0, "ssim": 0.9}
                       for i, area in enumerate(areas)],
            "mean": {"psnr": 30.0, "ssim": 0.9}, "device": "cpu", **more}


def training_result(steps: int, seconds: float, processes: int = 1) -> dict:
    return {"checkpoint": {"file": "x", "sha256": "0" * 64}, "steps": steps, "seconds": seconds,
            "processes": processes, "parameters": 1000, "device": "cpu", "device_name": HERE}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """The tiny run, none of whose jobs is done, and a function that adds records to another run."""
    monkeypatch.chdir(tmp_path)
    planned = plan.load(tiny.make(tmp_path))
    other = RunFolder("results/other")

    def add(job: plan.Job, result: dict, seconds: dict | None = None, spec: dict | None = None,
            folder: RunFolder = other) -> None:
        record = record_of(job, Result(result, seconds=seconds or {}, spec=spec))
        files.write_json(folder.record(job.kind, job.key), record)

    return planned, add


def of(planned: plan.Plan, *folders: str) -> dict[tuple[str, str], estimate.JobsOfModel]:
    """Estimate the run; return the rows by kind and model."""
    found = estimate.estimate(planned, "config.yaml", measured.run_folders(folders))
    return {(row.kind, row.what): row for row in found.rows}


# -- from one size to another ----------------------------------------------------------------------

def test_latency_is_interpolated_between_sizes_and_never_below_the_smallest():
    curve = LatencyCurve(WHERE, "sr-x2", ((64, 10.0), (256, 40.0), (1024, 640.0)))
    assert curve.seconds(64) == 0.010 and curve.seconds(10) == 0.010
    assert curve.seconds(128) == pytest.approx(0.020)   # in proportion between the first two
    assert curve.seconds(512) == pytest.approx(0.160)   # the square between the last two
    assert curve.seconds(4096) == pytest.approx(2.560)  # in proportion beyond the largest
    steep = LatencyCurve(WHERE, "sr-x2", ((64, 10.0),), growth=1.5)
    assert steep.seconds(256) == pytest.approx(0.080)


@pytest.mark.parametrize(("low", "growth"), [(1.05, 1.2), (0.9, 1.0), (None, 1.0)])
def test_only_a_clearly_steeper_sweep_is_continued(world, low, growth):
    planned, add = world
    points = [{"height": s, "width": s, "batch": 1, "latency_ms": {"p50": s / 2}} for s in (8, 16)]
    add(planned.profiles["sr-x2@2/tiny"], profile(30.0, 32, sweep={"size": {
        "points": points, "exponent": low and {"value": 1.2, "low": low, "high": 1.4}}}))
    (several,) = measured.read([RunFolder("results/other")]).latencies.values()
    assert several[0].growth == growth
    assert several[0].points == ((64, 4.0), (256, 8.0), (1024, 30.0))


def test_a_batch_counts_per_image(world):
    planned, add = world
    add(planned.profiles["sr-x2@2/tiny"], profile(30.0, 8, batch=3))
    (several,) = measured.read([RunFolder("results/other")]).latencies.values()
    assert several[0].points == ((64, 10.0),)
    add(planned.profiles["sr-x2@2/tiny"], profile(30.0, 8, batch=3, sweep={"batch": {"points": [
        {"height": 8, "width": 8, "batch": n, "latency_ms": {"p50": 4.0 + 9 * n}}
        for n in (1, 2)]}}))
    (several,) = measured.read([RunFolder("results/other")]).latencies.values()
    assert several[0].points == ((64, 13.0),)       # one image at once was measured, too


def test_a_disturbed_latency_counts_only_where_there_is_no_other_and_is_marked(world):
    planned, add = world
    job = planned.profiles["sr-x2@2/tiny"]

    def busy(ms):
        return {"p50": ms, "samples": [ms], "busy_elsewhere": 1.5}

    add(job, profile(latency_ms=busy(80.0)), folder=RunFolder("results/busy"))
    row = of(planned, "results/busy")["profile", "tiny"]
    assert row.seconds == pytest.approx(6 * 0.080 * 4)
    assert list(row.sources) == ["profile sr-x2@2 / tiny of results/busy, disturbed by other work"]
    add(job, profile(20.0))
    row = of(planned, "results/busy", "results/other")["profile", "tiny"]
    assert row.seconds == pytest.approx(6 * 0.020 * 4)
    assert list(row.sources) == ["profile sr-x2@2 / tiny of results/other"]
    add(job, profile(side=16, latency_ms=busy(500.0), sweep={"size": {"points": [
        {"height": 8, "width": 8, "batch": 1, "latency_ms": {"p50": 20.0}}]}}))
    (several,) = measured.read([RunFolder("results/other")]).latencies.values()
    assert several[0].points == ((64, 20.0),) and not several[0].busy


def test_of_disturbed_latencies_the_least_disturbed_counts(world):
    """Also before one of more sizes."""
    planned, add = world
    job = planned.profiles["sr-x2@2/tiny"]
    for folder, ms, cores in (("a", 80.0, 7.0), ("b", 40.0, 0.5), ("c", 60.0, 3.0)):
        times = {"p50": ms, "samples": [ms], "busy_elsewhere": cores}
        points = [{"height": 4, "width": 4, "batch": 1, "latency_ms": times}] * (folder != "b")
        add(job, profile(latency_ms=times, sweep={"size": {"points": points}}),
            folder=RunFolder(f"results/{folder}"))
    row = of(planned, "results")["profile", "tiny"]
    assert list(row.sources) == ["profile sr-x2@2 / tiny of results/b, disturbed by other work"]
    assert row.seconds == pytest.approx(6 * 0.040 * 4)


# -- a run -----------------------------------------------------------------------------------------

def test_a_cell_takes_the_latency_of_its_sizes_and_says_what_is_missing(world):
    planned, add = world
    add(planned.profiles["sr-x2@2/tiny"], profile(ms=20.0, side=8))
    rows = of(planned, "results/other")
    cell = rows["cell", "tiny"]
    # x2: an input has a quarter of the pixels; 20 ms for 64 of them
    assert cell.seconds == pytest.approx(sum(AREAS) / 4 / 64 * 0.020)
    assert dict(cell.sources) == {"profile sr-x2@2 / tiny of results/other": 1}
    assert (cell.jobs, cell.left, cell.known, cell.lacks_beside) == (2, 2, 1, 1)
    assert dict(cell.unknown) == {"no profile of tiny": 1} and cell.at_least
    # a profile: (1 + 3 + 2) passes of 16x16
    assert rows["profile", "tiny"].seconds == pytest.approx(6 * 0.020 * 256 / 64)
    assert rows["cell", "bicubic"].known == 0
    assert dict(rows["cell", "bicubic"].unknown) == {"no finished cell of bicubic": 1}
    assert dict(rows["training", "tiny"].unknown) == {"no finished training of tiny": 2}


def test_loading_and_scoring_come_from_finished_cells_of_the_protocol(world):
    planned, add = world
    add(planned.profiles["sr-x2@2/tiny"], profile(ms=20.0, side=8))
    add(planned.cells["sr-x2@2/tinyset/bicubic"], cell_result((500, 500)),
        {"load": 0.5, "forward": 2.0, "score": 1.0, "write": 0.5})
    forward = sum(AREAS) / 4 / 64 * 0.020
    cell = of(planned, "results/other")["cell", "tiny"]
    assert cell.seconds == pytest.approx(forward + sum(AREAS) * 2.0 / 1000)
    assert cell.lacks_beside == 0 and dict(cell.unknown) == {"no profile of tiny": 1}


def test_a_finished_cell_on_the_same_images_is_taken_as_it_is(world):
    planned, add = world
    job = planned.cells["sr-x2@2/tinyset/bicubic"]
    add(job, cell_result(), {"load": 0.5, "forward": 2.0, "score": 1.0})
    assert of(planned, "results/other")["cell", "bicubic"].seconds == 3.5
    # of other images: in proportion to the pixels, here a thousand in 3.5 s
    add(job, cell_result((1000,)), {"load": 0.5, "forward": 2.0, "score": 1.0},
        {**job.spec, "dataset": {"name": "x", "sha256": "f" * 64}})
    row = of(planned, "results/other")["cell", "bicubic"]
    assert row.seconds == pytest.approx(3.5 * sum(AREAS) / 1000) and not row.at_least


def test_what_is_done_is_counted_apart(world):
    planned, add = world
    job = planned.cells["sr-x2@2/tinyset/bicubic"]
    add(job, {**cell_result(), "images": [{**image, "kept": {}} for image in
                                          cell_result()["images"]]}, folder=planned.run_folder)
    row = of(planned)["cell", "bicubic"]
    assert (row.jobs, row.done, row.left, row.seconds, row.at_least) == (1, 1, 0, 0.0, False)


def test_a_training_takes_the_seconds_of_its_budget_or_those_per_pixel(world, tmp_path):
    planned, add = world
    job = planned.trainings["sr-x2@1/tiny"]        # 12 steps of 2 patches of 16 pixels
    add(job, training_result(steps=5, seconds=10.0))
    row = of(planned, "results/other")["training", "tiny"]
    assert row.seconds == pytest.approx(24.0) and row.unknown.total() == 1     # not jpeg_gray
    add(job, training_result(steps=5, seconds=10.0, processes=4))
    assert of(planned, "results/other")["training", "tiny"].seconds == pytest.approx(96.0)
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    config["models"]["tiny"]["training"] |= {"steps": 24, "patch": 32}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    larger = of(plan.load(tmp_path / "config.yaml"), "results/other")["training", "tiny"]
    assert larger.seconds == pytest.approx(96.0 * 2 * 4)
    config["models"]["tiny"]["training"] |= {"steps": None, "seconds": 60}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    row = of(plan.load(tmp_path / "config.yaml"))["training", "tiny"]
    assert row.seconds == 120.0 and not row.at_least


def test_a_record_of_a_training_comes_before_a_card_of_bundled_weights():
    own, card = (measured.TrainingTime(WHERE, "n", seconds) for seconds in (1.0, 2.0))
    far = measured.TrainingTime(MeasuredOn("cuda", GPU, "there"), "n", 3.0)
    speeds = hours.Speeds(measured.Measurements(trainings=[far, own, card]), (HERE, "cpu"))
    assert speeds.trainings["n"] is own


def test_the_cards_of_bundled_weights_tell_what_a_training_takes():
    found = measured.read([])
    assert len(found.trainings) == len(measured.bundled.catalog()) and not found.cells
    assert all("the card of " in one.at.source for one in found.trainings)
    assert found.parameters and all(found.parameters.values())


def test_phases_of_a_recipe_count_with_their_share(world):
    planned, _ = world
    job = planned.trainings["sr-x2@1/tiny"]
    protocol = planned.scopes["sr-x2@1/tiny"]
    plain = measured.pixels_a_step(job.model.training, protocol)
    assert plain == 2 * (16 / 2) ** 2
    recipe = job.model.training.from_dict({**job.model.training.as_dict(), "phases": [
        {"from": 0, "batch": 4}, {"from": 0.75, "patch": 32}]})
    assert measured.pixels_a_step(recipe, protocol) == pytest.approx(0.75 * 2 * plain
                                                                     + 0.25 * 4 * plain)


def test_times_of_two_machines_are_never_added(world):
    planned, add = world
    planned.config["device"] = "auto"
    add(planned.profiles["sr-x2@2/tiny"], profile())
    add(planned.profiles["sr-x2@2/tiny"], profile(1.0, device="cuda"),
        folder=RunFolder("results/gpu"))
    add(planned.profiles["jpeg_gray-q10@1/tiny"], profile(1.0, device="cuda"),
        folder=RunFolder("results/gpu"))
    found = estimate.estimate(planned, "config.yaml", measured.run_folders(["results"]))
    assert (found.machine, found.device) == (GPU, "cuda") and found.others[f"{HERE} (cpu)"] >= 1
    row = next(row for row in found.rows if row.kind == "cell" and row.what == "tiny")
    assert not row.unknown and all("results/gpu" in source for source in row.sources)
    # 5,000 bytes for 64 pixels; the largest image of JPEG has 806
    assert row.gpu_memory == pytest.approx(5000 * 806 / 64)


@pytest.mark.parametrize(("asked", "machine", "device"), [
    ("cpu", HERE, "cpu"), ("cuda", GPU, "cuda"), ("cuda:1", GPU, "cuda"), ("mps", "", "mps"),
    ("auto", GPU, "cuda")])
def test_only_times_of_the_device_that_the_config_asks_for_count(world, monkeypatch, asked, machine,
                                                                 device):
    """Also where the other device tells more, and when a run has records of another device."""
    planned, add = world
    monkeypatch.setattr(measured.bundled, "catalog", dict)
    planned.config["device"] = asked
    add(planned.profiles["sr-x2@2/tiny"], profile(ms=20.0))
    for name in ("sr-x2@2/tiny", "jpeg_gray-q10@1/tiny"):
        add(planned.profiles[name], profile(1.0, device="cuda"), folder=RunFolder("results/gpu"))
    found = estimate.estimate(planned, "config.yaml", measured.run_folders(["results"]))
    assert (found.machine, found.device) == (machine, device)
    others = {f"{HERE} (cpu)": 1, f"{GPU} (cuda)": 2}
    assert found.others == {name: count for name, count in others.items()
                            if name != f"{machine} ({device})"}
    row = next(row for row in found.rows if row.kind == "profile")
    assert row.seconds == pytest.approx({HERE: 6 * 0.080, GPU: 2 * 6 * 0.004, "": 0.0}[machine])
    assert dict(row.unknown) == {HERE: {"no profile of tiny": 1}, GPU: {},
                                 "": {"no profile of tiny": 2}}[machine]
    assert bool(row.gpu_memory) == (device == "cuda")


def test_the_two_devices_of_a_mac_are_told_apart():
    """Both are measured under the name of the processor."""
    cpu, mps = (measured.TrainingTime(MeasuredOn(device, "Apple M2", device), "n", 1.0)
                for device in ("cpu", "mps"))
    for one in (cpu, mps):
        speeds = hours.Speeds(measured.Measurements(trainings=[cpu, mps]), one.at.place)
        assert speeds.trainings["n"] is one


def test_a_profile_of_the_same_network_under_another_protocol_serves(world):
    planned, _ = world
    model = planned.cells["sr-x2@2/tinyset/tiny"].model.as_dict()
    x2, jpeg = (planned.protocols[name] for name in ("sr-x2@2", "jpeg_gray-q10@1"))
    other = plan.load("config.yaml").known and type(jpeg).from_dict(
        {**jpeg.as_dict(), "id": "jpeg_gray-q20@1"})
    assert measured.network_of(model, jpeg) == measured.network_of(model, other)
    assert measured.network_of(model, jpeg) != measured.network_of(model, x2)
    wider = {**model, "options": {**model["options"], "width": 8}}
    assert measured.network_of(wider, x2) != measured.network_of(model, x2)
    assert measured.network_of({**model, "name": "b"}, x2) == measured.network_of(model, x2)
    theirs = {**model, "arch": "external"}
    assert measured.network_of({**theirs, "name": "b"}, x2) != measured.network_of(theirs, x2)


@pytest.mark.parametrize("spoil", [
    lambda record: record["spec"]["protocol"].pop("degradation"),
    lambda record: record["spec"]["model"].update(inference={"dtyp": "x"}),
    lambda record: record["result"].pop("input"),
    lambda record: record["result"]["input"].update(batch=0),
    lambda record: record["result"]["latency_ms"].pop("p50"),
    lambda record: record["result"]["latency_ms"].update(p50=0),
    lambda record: record["result"].update(device_name=None, latency_ms=None)])
def test_a_record_of_another_form_is_left_out(world, spoil):
    planned, add = world
    add(planned.profiles["sr-x2@2/tiny"], profile())
    path = RunFolder("results/other").record("profile", {"protocol": "sr-x2@2", "model": "tiny"})
    record = json.loads(path.read_text())
    spoil(record)
    files.write_json(path, record | {
        "fingerprint": records.fingerprint({"spec": record["spec"], "resolved": {}}),
        "result_digest": records.result_digest(record["result"])})
    assert RunFolder("results/other").load("profile", record["key"]).record
    assert not measured.read([RunFolder("results/other")]).latencies


# -- disk and memory -------------------------------------------------------------------------------

def test_disk_and_memory_say_where_they_come_from(world):
    planned, add = world
    add(planned.trainings["sr-x2@1/tiny"], training_result(5, 10.0))
    found = estimate.estimate(planned, "config.yaml", measured.run_folders(["results/other"]))
    needed = {need.what: need for need in found.disk}
    total = sum(AREAS)      # the training set has the same sizes
    # x2 in colour with its inputs, JPEG in gray
    assert needed["decoded training images"].bytes == pytest.approx(total * 3 * 1.25 + total, abs=1)
    states = needed["weights and states"]
    assert states.bytes == 4 * 10 * 1000 and states.unknown == ("jpeg_gray-q10@1 / tiny",)
    # a result of each model, and target and input once; x2 in colour, JPEG in gray
    assert needed["pictures, at most"].bytes == pytest.approx(
        total * 3 * (2 + 1.25) + total * (2 + 2), abs=1)
    assert found.bytes == sum(need.bytes for need in found.disk) and found.bytes_at_least
    assert set(found.memory) == {"data", "training", "cell", "profile", "leaks"}
    assert found.memory["cell"] == max(needs.memory(planned, job)
                                       for job in planned.cells.values())


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_sizes_of_weights_come_from_any_machine(world, device):
    """Also from the profile of the same network, which may be run in another way."""
    planned, add = world
    planned.config["device"] = device
    add(planned.trainings["sr-x2@1/tiny"], training_result(5, 10.0))
    job = planned.profiles["jpeg_gray-q10@1/tiny"]
    model = {**job.spec["model"], "inference": {**job.spec["model"]["inference"], "tile": 8}}
    add(job, profile(device="cuda", parameters=700), spec={**job.spec, "model": model})
    found = estimate.estimate(planned, "config.yaml", measured.run_folders(["results/other"]))
    states = next(need for need in found.disk if need.what == "weights and states")
    assert (states.bytes, states.unknown) == (4 * 10 * (1000 + 700), ())


def test_a_profile_without_a_time_tells_the_size_of_weights(world):
    planned, add = world
    add(planned.profiles["sr-x2@2/tiny"], profile(latency_ms=None))
    found = measured.read([RunFolder("results/other")])
    job = planned.trainings["sr-x2@1/tiny"]
    assert not found.latencies
    assert found.parameters[measured.weights_of(
        job.model.as_dict(), planned.scopes["sr-x2@1/tiny"])] == 1000


def test_networks_with_the_same_number_of_parameters_are_known(world):
    planned, _ = world
    model = planned.cells["sr-x2@2/tinyset/tiny"].model.as_dict()
    x2, jpeg = (planned.protocols[name] for name in ("sr-x2@2", "jpeg_gray-q10@1"))
    tiled = {**model, "inference": {**model["inference"], "dtype": "bfloat16"}}
    wider = {**model, "options": {**model["options"], "width": 8}}
    assert measured.weights_of(tiled, x2) == measured.weights_of(model, x2)
    assert measured.weights_of(wider, x2) != measured.weights_of(model, x2)
    assert measured.weights_of(model, jpeg) != measured.weights_of(model, x2)


def test_sets_that_are_not_here_count_as_the_catalog_states(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tiny.make(tmp_path, keep_images=False, models={"bicubic": {}, "input": {}}, cells=[
        {"protocol": "sr-x2", "datasets": ["set5", "manga109"], "models": ["bicubic"]},
        {"protocol": "deblur-motion", "datasets": ["gopro"], "models": ["input"]}])
    planned = plan.load(path)
    (need,) = estimate.estimate(planned, path, []).disk
    rows = [row.split(",") for row in
            planned.entry("set5").manifest.read_text().splitlines()[1:]]
    assert need.what == "sets to download" and need.bytes == sum(int(row[-1]) for row in rows)
    assert need.unknown == ("manga109 (you supply it)", "gopro (you supply it)")
    found = sizes.known(planned.entry("set5"), "data")
    assert (found.count, found.total, found.source) == (5, 567456, "the catalog")
    assert sizes.known(planned.entry("gopro"), "data") is None


# -- the command -----------------------------------------------------------------------------------

def test_the_command_says_what_it_knows_and_how_to_know_the_rest(world, capsys):
    planned, add = world
    add(planned.profiles["sr-x2@2/tiny"], profile(ms=20_000.0))
    assert cli.main(["plan", "--cost", "--profiles", "results"]) == 0
    text = capsys.readouterr().out
    assert "All of this is estimated" in text and f"Times are those of {HERE} (cpu)" in text
    assert "profile sr-x2@2 / tiny of results/other" in text and "at least" in text
    for rule in hours.RULES:
        assert rule in text
    lines = [line for line in text.splitlines() if "To know it: irbench " in line]
    assert any(line.startswith("- no profile of tiny: 1 evaluate job, 1 profile job.")
               for line in lines) and len(lines) >= 3
    for line in lines:      # what it advises is a command
        words = line.partition("To know it: irbench ")[2].partition(",")[0]
        assert cli._parser().parse_args(shlex.split(words)).call
    assert cli.main(["plan", "--cost", "--profiles", "results/other", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["hours_at_least"] and found["machine"] == HERE
    rows = {(row["kind"], row["what"]): row for row in found["rows"]}
    assert rows["cell", "bicubic"]["hours"] is None     # unknown, not zero
    assert rows["cell", "bicubic"]["unknown"][0]["reason"] == "no finished cell of bicubic"
    assert found["hours"] == pytest.approx(sum(row["hours"] or 0 for row in found["rows"]),
                                           abs=1e-3)


def test_without_any_measurement_nothing_is_guessed(world, capsys, monkeypatch):
    monkeypatch.setattr(measured.bundled, "catalog", dict)
    assert cli.main(["plan", "--cost"]) == 0
    text = capsys.readouterr().out
    assert ("Times are unknown: no measurement on cpu (`device` of the config) in the cards of the "
            "bundled weights.") in text
    total = next(line for line in text.splitlines() if line.startswith("total"))
    assert "unknown" in total
    assert cli.main(["plan", "--cost", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["hours"] is None and found["hours_at_least"]       # not zero
    assert {need["what"]: need["bytes"] for need in found["disk"]}["weights and states"] is None


@pytest.mark.parametrize("device", ["cpu", "cuda", "auto"])
def test_the_command_speaks_of_the_device_that_is_used(world, capsys, tmp_path, device):
    planned, add = world
    config = yaml.safe_load((tmp_path / "config.yaml").read_text()) | {"device": device}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    for folder, where in (("cpu", "cpu"), ("gpu", "cuda"), ("gpu-2", "cuda")):
        add(planned.profiles["sr-x2@2/tiny"], profile(device=where),
            folder=RunFolder(f"results/{folder}"))
    add(planned.profiles["jpeg_gray-q10@1/tiny"], profile(device="cuda"),
        folder=RunFolder("results/gpu"))
    assert cli.main(["plan", "--cost", "--profiles", "results"]) == 0
    text = capsys.readouterr().out
    on_gpu = device != "cpu"
    assert f"Times are those of {f'{GPU} (cuda)' if on_gpu else f'{HERE} (cpu)'}" in text
    assert ("`device: auto` of the config is taken as cuda." in text) == (device == "auto")
    assert f"of {f'{HERE} (cpu)' if on_gpu else f'{GPU} (cuda)'}" in text.partition("Not used:")[2]
    assert ("GPU memory" in text) == on_gpu and ("memory of a GPU" in text) == on_gpu
    assert ("GPU" in text.replace(GPU, "")) == on_gpu
    assert cli.main(["plan", "--cost", "--profiles", "results", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["device_asked"] == device and found["device"] == ("cuda" if on_gpu else "cpu")
    rows = [row for row in found["rows"] if row["kind"] == "profile"]
    assert [row["gpu_memory_bytes"] is not None for row in rows] == [on_gpu]
    assert any("GPU" in rule for rule in found["rules"]) == on_gpu


@pytest.mark.parametrize("seconds", [
    (120.4, 4.4, 13.4), (7229.0, 7229.0, 7229.0), (0.04, 0.04, 0.04), (3629.6, 3629.6, 59.4)])
def test_totals_agree_with_what_they_add_up(world, capsys, monkeypatch, seconds):
    _, at = world, iter(seconds * 9)
    monkeypatch.setattr(hours.Hours, "of", lambda *_: hours.Share(next(at), "a test"))
    assert cli.main(["plan", "--cost"]) == 0
    kinds, rows = (part.splitlines()[2:] for part in capsys.readouterr().out.split("\n\n")[1:3])

    def spent(line: str) -> tuple[float, str]:
        found = re.findall(r"([\d.]+) (h|min|s)\b", line)
        return (sum(float(number) * {"h": 3600, "min": 60, "s": 1}[unit]
                    for number, unit in found), found[-1][1] if found else "")

    def agree(total: str, parts: list[str]) -> None:
        shown, unit = spent(total)
        assert shown == pytest.approx(sum(spent(part)[0] for part in parts),
                                      abs={"h": 30, "min": 30, "s": 0.5}[unit])

    *kinds, total = kinds
    agree(total, kinds)
    for kind in ("train", "evaluate", "profile"):
        line = next(line for line in kinds if line.startswith(kind))
        agree(line, [row for row in rows if row.startswith(kind)])


def test_without_folders_the_command_names_the_cards_alone(world, capsys):
    assert cli.main(["plan", "--cost"]) == 0
    text = capsys.readouterr().out
    assert ", from the cards of the bundled weights. Not used: " in text
    assert "(cpu)" in text.splitlines()[1] and "no folder" not in text


def test_a_plan_lists_its_jobs_with_their_state(world, capsys):
    planned, _ = world
    data = planned.data["tinyset"]
    write(data, record_of(data, Result({"count": 3})))
    assert cli.main(["plan", "config.yaml"]) == 0
    text = capsys.readouterr().out
    assert "1 current, 1 missing" in text and f"tiny: {len(planned.jobs())} jobs" in text
    assert cli.main(["plan", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sum(one["jobs"] for one in found["jobs"]) == len(planned.jobs())


def test_the_plan_of_the_papers_is_known_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["plan", "paper", "--cost", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["jobs"] > 300 and found["hours_at_least"] and found["disk_at_least"]
    assert found["left"] == found["jobs"]


@pytest.mark.parametrize(("words", "message"), [
    (["--profiles", "results"], "--profiles is for --cost"),
    (["--cost", "--profiles", "nowhere"], "--profiles nowhere: no records there"),
    (["papr"], "unknown run or config 'papr'")])
def test_wrong_words_are_explained(world, capsys, words, message):
    assert cli.main(["plan", *words]) == 2
    assert message in capsys.readouterr().err
