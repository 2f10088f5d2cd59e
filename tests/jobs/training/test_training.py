"""The training loop: what it records, that it can be repeated and resumed, where it stops."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from irbench import plan
from irbench.catalog import recipes
from irbench.core import digests, locks, records
from irbench.core.errors import Unavailable
from irbench.data import sets
from irbench.jobs.training import curve, data, losses, muon, state
from irbench.weights import storage
from tests.helpers import trainings
from tests.helpers.trainings import again, change, job, outcome, result, stop_after, train


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to train in, accelerate's settings forgotten."""
    from accelerate.state import AcceleratorState

    monkeypatch.chdir(tmp_path)
    yield tmp_path
    AcceleratorState._reset_state(reset_partial_state=True)


def weights(config):
    path = plan.load(config).folder / result(config)["checkpoint"]["file"]
    return storage.tensors(path, path.read_bytes())


# -- what it gives -------------------------------------------------------------------------------

def test_a_training_learns_and_is_recorded(folder, capsys):
    config = trainings.make(folder, steps=40, lr=0.01, ema=0.9, holdout=1, validate_every=15)
    assert train(config) == 0
    wording = capsys.readouterr()
    assert json.loads(wording.out.splitlines()[-1])["status"] == "ok"
    assert "% of the time waiting for data" in wording.err
    got = result(config)
    assert (got["steps"], got["images_seen"], got["processes"]) == (40, 160, 1)
    assert got["images"] == {"training": 2, "held_out": 1}
    losses_seen = [point["loss"] for point in got["curve"]]
    assert sum(losses_seen[-5:]) < 0.9 * sum(losses_seen[:5])
    assert 0 < got["waiting"] < 1
    validated = {point["step"]: point["psnr"] for point in got["validation"]}
    assert list(validated) == [15, 30, 40]      # the last step too
    assert round(got["best"]["psnr"], 4) == max(validated.values())
    assert len(got["validation_on"]["names"]) == 1
    run = plan.load(config)
    for file in (got["checkpoint"], got["best"]):
        assert digests.file_digest(run.folder / file["file"]) == file["sha256"]
    header = storage.read_header(run.folder / got["checkpoint"]["file"])
    assert (header["protocol"], header["steps"], header["levels"]) == ("sr-x2@1", 40, None)
    assert header["training"] == job(config).fingerprint
    best = storage.read_header(run.folder / got["best"]["file"])
    assert validated[best["steps"]] == max(validated.values())
    assert not list(run.folder.rglob("*.state*"))
    assert not list(run.folder.rglob(".thin*"))
    with job(config).record.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, 41))
    assert [row["step"] for row in rows if row["validation_psnr_db"]] == ["15", "30", "40"]


def test_a_blind_training_is_named_after_its_task_and_covers_its_levels(folder):
    config = trainings.make(folder, "denoise_color-sigma25", levels={"sigma": [15, 50]}, steps=2)
    assert job(config).key["protocol"] == "denoise_color-blind@1"
    assert train(config) == 0
    path = plan.load(config).folder / "checkpoints" / "denoise_color-blind@1" / "thin.safetensors"
    assert storage.read_header(path)["levels"] == {"sigma": [15, 50]}


def test_a_budget_in_seconds(folder):
    config = trainings.make(folder, seconds=1, holdout=1, validate_every=1000)
    assert train(config) == 0
    got = result(config)
    assert 1 <= got["seconds"] < 5
    assert 1 < len(got["curve"]) <= min(state.POINTS, got["steps"])
    assert got["images_seen"] == 4 * got["steps"]
    # the rate falls as the time goes by
    assert got["curve"][-1]["lr"] < 0.5 * max(point["lr"] for point in got["curve"])
    assert [point["step"] for point in got["validation"]] == [got["steps"]]


def test_tensorboard_gets_the_curve(folder):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = trainings.make(folder, steps=3, holdout=1, validate_every=1)
    assert train(config, "--tensorboard") == 0
    board = EventAccumulator(str(plan.load(config).folder / "tensorboard" / "sr-x2@1" / "thin"))
    board.Reload()
    assert [event.step for event in board.Scalars("loss")] == [1, 2, 3]
    assert len(board.Scalars("validation PSNR (dB)")) == 3


def test_without_tensorboard_the_option_says_so(folder, monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert train(trainings.make(folder), "--tensorboard") == 2
    assert "the package tensorboard is not installed" in capsys.readouterr().err


# -- the same again ------------------------------------------------------------------------------

KINDS = {"plain": {}, "muon": {"optimiser": "muon"}, "ema": {"ema": 0.9, "holdout": 1,
                                                             "validate_every": 5},
         "phases": {"accumulate": 2, "phases": [{"from": 0}, {"from": 0.5, "batch": 2,
                                                             "patch": 24, "lr": 0.01}],
                    "loss": "l1_fft", "schedule": "milestones", "milestones": [0.6]}}


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_stopped_and_continued_ends_with_the_same_bytes(folder, monkeypatch, kind,
                                                                   capsys):
    config = trainings.make(folder, **KINDS[kind])
    assert train(config) == 0
    whole = outcome(config)
    again(config)
    for step in (1, 5, 4):  # of each run, so after the steps 1, 6 and 10
        with monkeypatch.context() as patch:
            stop_after(patch, step)
            assert train(config) == 3
    assert "stopped after step 10 of 12; the state is saved" in capsys.readouterr().err
    assert len(job(config).record.with_suffix(".csv").read_text().splitlines()) == 11
    assert not job(config).record.exists()
    assert train(config) == 0
    assert outcome(config) == whole


@pytest.mark.slow
def test_the_record_tells_trainings_with_other_threads_apart(folder, monkeypatch):
    """Threads fix the order of sums, so they are part of what the record's fingerprint covers."""
    config = trainings.make(folder)
    found = {}
    for threads in ("1", "2"):
        assert train(config, "--threads", threads) == 0
        found[threads] = records.read(job(config).record)
        again(config)
    one, two = found["1"], found["2"]
    assert one["spec"] == two["spec"]       # the plan accepts both: neither is stale
    assert one["resolved"]["made_on"] == [{"device": "cpu", "processes": 1, "threads": 1}]
    assert two["resolved"]["made_on"] == [{"device": "cpu", "processes": 1, "threads": 2}]
    assert one["fingerprint"] != two["fingerprint"]
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert train(config) == 3
    assert train(config, "--threads", "2") == 0     # of both
    assert [where["threads"] for where in records.read(job(config).record)[
        "resolved"]["made_on"]] == [1, 2]


def test_workers_change_nothing(folder):
    config = trainings.make(folder, "denoise_color-sigma25", steps=3, batch=2,
                            phases=[{"from": 0}, {"from": 0.5, "batch": 4}])
    assert train(config) == 0
    alone = weights(config)
    again(config)
    change(config, workers=2)
    assert train(config) == 0
    assert all(torch.equal(alone[k], v) for k, v in weights(config).items())


def test_a_batch_in_two_parts_gives_the_same_step(folder):
    config = trainings.make(folder, noise=0)
    assert train(config) == 0
    whole = weights(config)
    again(config)
    change(config, accumulate=2)
    assert train(config) == 0
    for name, parts in weights(config).items():
        assert torch.allclose(parts, whole[name], atol=1e-6)
        assert not torch.equal(parts, torch.zeros_like(parts))


def test_a_training_that_another_process_is_at_is_left_alone(folder, monkeypatch, capsys):
    from irbench.jobs import run as jobs

    config = trainings.make(folder)
    lock = job(config).record.with_suffix(".lock")
    lock.parent.mkdir(parents=True)
    monkeypatch.setattr(jobs, "LET_GO", 0.1)
    with lock.open("a") as other:
        assert locks.lock(other)
        assert train(config) == 2
    assert "another process runs it" in capsys.readouterr().err
    # what one killed while writing had begun is gone afterwards
    begun = lock.with_name(".thin.state.abcdefgh.state")
    begun.write_bytes(b"half")
    assert train(config) == 0
    assert not begun.exists()


def test_the_running_mean_follows_its_formula():
    network = torch.nn.Linear(2, 1)
    resolved = recipes.resolve({"recipe": "demo", "ema": 0.5, "optimiser": "adamw"}, "x")
    one = state.State(network, resolved, "", "none")
    expected = network.weight.detach().clone()
    for step in range(12):
        with torch.no_grad():
            network.weight += 1
        one.step = step
        one.average()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * network.weight.detach()
        assert torch.allclose(one.averaged.weight, expected)
    assert not torch.allclose(expected, network.weight)


def test_muon_takes_the_matrices_and_leaves_the_rest_to_adamw():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.Linear(2, 3))
    resolved = recipes.resolve({"recipe": "demo", "optimiser": "muon", "matrix_lr": 8}, "x")
    one = state.State(network, resolved, "", "none")
    kinds = {type(o).__name__: o.param_groups[0] for o in one.optimisers}
    assert [p.shape for p in kinds["Muon"]["params"]] == [(3, 2)]
    assert len(kinds["AdamW"]["params"]) == 3
    one.step = 60
    rate = one.set_rate()
    assert (kinds["Muon"]["lr"], kinds["AdamW"]["lr"]) == (8 * rate, rate)


# -- where it stops ------------------------------------------------------------------------------

def test_no_time_is_left_after_a_first_step(folder, capsys):
    config = trainings.make(folder)
    assert train(config, "--max-minutes", "1e-9") == 3
    assert "stopped after step 1 of 12" in capsys.readouterr().err
    assert train(config, "--max-minutes", "0") == 0      # no limit


@pytest.mark.parametrize("value", ["-1", "soon", "nan", "inf"])
def test_minutes_that_are_none(folder, value, capsys):
    with pytest.raises(SystemExit):
        train(trainings.make(folder), f"--max-minutes={value}")
    assert "is not a non-negative number of minutes" in capsys.readouterr().err


@pytest.mark.parametrize(("poison", "message"), [
    (float("nan"), "the loss is nan at step 9"),
    (1e6, "over 20 times the usual, at step 9")])
def test_a_bad_loss_stops_with_step_images_and_last_saved_state(folder, monkeypatch, capsys, poison,
                                                                message):
    sample = data.Patches.sample

    def poisoned(self, step, index, patch):
        one, other = sample(self, step, index, patch)
        return one, other + np.float32(poison if step == 9 else 0)
    monkeypatch.setattr(data.Patches, "sample", poisoned)
    monkeypatch.setattr(state, "REMEMBERED", 10)
    config = trainings.make(folder)
    assert train(config) == 2
    wording = capsys.readouterr().err
    assert message in wording
    run = plan.load(config)
    batch = data.load(run, job(config), run.scopes["sr-x2@1/thin"])
    assert f"Images of the batch: {', '.join(batch.names(9, 4))}. " in wording
    assert "tinytrain/img1" in wording
    path = job(config).record.with_suffix(".state")
    assert f"The last saved state: {path} (after step 8)." in wording
    assert "or lower `lr` or `grad_clip`: a changed recipe starts over" in wording
    assert state.read(path)["step"] == 8
    assert all(tensor.isfinite().all() for tensor in state.read(path)["network"].values())
    assert not job(config).record.exists()


def test_gradients_that_are_no_numbers_stop_it_too(folder, monkeypatch, capsys):
    # the slope of a square root at 0: the loss is a number, its gradient is none
    monkeypatch.setattr(losses, "make", lambda recipe: lambda restored, target:
                        (restored - restored.detach()).abs().sum().sqrt() + 0.1)
    assert train(trainings.make(folder)) == 2
    wording = capsys.readouterr().err
    assert "the loss is 0.1, but the norm of its gradients is nan at step 0" in wording
    assert "The last saved state: none was saved yet." in wording


@pytest.mark.parametrize(("changes", "message"), [
    ({"precision": "fp16"}, "precision fp16 trains on a GPU only. Use bf16 or no on a CPU."),
    ({"patch": 32}, "images smaller than the patch of 32 pixels: tinytrain/img10, tinytrain/img11"),
    ({"holdout": 3}, "no training image is left of 3")])
def test_what_cannot_be_trained_is_said_in_a_sentence(folder, capsys, changes, message):
    assert train(trainings.make(folder, **changes)) == 2
    wording = capsys.readouterr().err
    assert message in wording
    assert "Traceback" not in wording


def test_training_images_are_verified(folder, capsys):
    config = trainings.make(folder)
    run = plan.load(config)
    image = sets.open_local(run.entry("tinytrain"), folder / "data").images[0]
    image.path.write_bytes(image.path.read_bytes()[:60])
    assert train(config) == 2
    assert image.path.name in capsys.readouterr().err


def test_bfloat16_trains_on_a_cpu(folder):
    config = trainings.make(folder, precision="bf16", steps=3)
    assert train(config) == 0
    assert all(tensor.dtype == torch.float32 for tensor in weights(config).values())


# -- parts ---------------------------------------------------------------------------------------

def test_losses_against_their_formulas():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 3, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    d = (a - b).numpy()
    assert losses.l1(a, b).item() == pytest.approx(np.abs(d).mean())
    assert losses.charbonnier(a, b).item() == pytest.approx(np.sqrt(d**2 + 1e-6).mean())
    spectrum = np.fft.rfft2(d, norm="ortho")
    expected = np.abs(d).mean() + 0.1 * (np.abs(spectrum.real).mean()
                                         + np.abs(spectrum.imag).mean()) / 2
    resolved = recipes.resolve({"recipe": "demo", "loss": "l1_fft", "fft_weight": 0.1}, "x")
    assert losses.make(resolved)(a, b).item() == pytest.approx(expected)


def test_the_last_loss_is_a_mean_over_the_end_of_the_curve():
    points = [{"loss": float(i)} for i in range(20)]
    assert curve.final_loss(points) == 18.5
    assert curve.final_loss(points[:1]) == 0.0


def test_a_spike_is_judged_by_the_median_of_enough_losses():
    one = state.State(torch.nn.Linear(1, 1), recipes.resolve(
        {"recipe": "demo", "spike": 10, "optimiser": "adamw"}, "x"), "", "none")
    for loss in [1.0] * 49:
        one.note(loss, 0.1)
    assert not one.spiked(1000.0)
    one.note(900.0, 0.1)
    assert one.spiked(10.1)
    assert not one.spiked(9.9)
    one.recipe = replace(one.recipe, spike=None)
    assert not one.spiked(math.inf)


# -- how it runs: settings that change the weights by rounding only ------------------------------

def losses_of(config, **settings):
    from irbench.jobs import run
    from irbench.jobs.result import RunSettings

    planned = plan.load(config)
    found, = planned.trainings.values()
    result = run.compute(planned, found, RunSettings(device="cpu", **settings)).result
    return [point["loss"] for point in result["curve"]]


def test_another_layout_in_memory_changes_nothing_but_rounding(folder, monkeypatch):
    config = trainings.make(folder, noise=0.0)  # a network would draw its noise in another order
    plain = losses_of(config)
    seen = []
    make = losses.make

    def watched(recipe):
        loss_of = make(recipe)

        def loss(restored, target):
            seen.append(target.is_contiguous(memory_format=torch.channels_last))
            return loss_of(restored, target)
        return loss
    monkeypatch.setattr(losses, "make", watched)
    assert losses_of(config, channels_last=True) == pytest.approx(plain, rel=1e-5)
    assert seen == [True] * 12


def test_a_compiled_training_runs_compiled_code_and_saves_plain_weights(folder, monkeypatch):
    from irbench.inference import prepare

    config = trainings.make(folder)
    plain, compiled = losses_of(config), []
    names = set(weights(config))

    def compile(network):   # stands in for a compiler, which takes many seconds
        return lambda x: compiled.append(len(x)) or network(x)
    monkeypatch.setattr(torch, "compile", compile)
    monkeypatch.setattr(prepare, "check_compiler", lambda device: None)
    assert losses_of(config, compile=True) == plain
    assert compiled == [4] * 12
    assert set(weights(config)) == names


@pytest.mark.slow
def test_a_training_can_be_compiled(folder, monkeypatch):
    # code that another process compiles, or was killed while compiling, is not used
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder / "inductor"))
    config = trainings.make(folder, noise=0.0)  # compiled code draws other random numbers
    assert losses_of(config, compile=True) == pytest.approx(losses_of(config), rel=1e-4)


def test_without_a_compiler_a_compiled_training_is_refused(folder, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(Unavailable, match="no-such-compiler is not found"):
        losses_of(trainings.make(folder), compile=True)


def test_one_process_can_train_in_several_precisions(folder):
    config = trainings.make(folder)
    plain = losses_of(config)
    change(config, precision="bf16")
    half = losses_of(config)
    assert half != plain and half == pytest.approx(plain, rel=0.1)


def test_graphs_are_refused_on_a_cpu_in_one_sentence(folder, capsys):
    config = trainings.make(folder)
    assert train(config, "--graph") == 2
    said = capsys.readouterr().err
    assert "--graph: graphs are CUDA's, and the device is cpu" in said and "Traceback" not in said
    assert not list(folder.rglob("*.safetensors"))


def test_an_old_torch_has_no_muon_and_needs_none(folder, monkeypatch, capsys):
    monkeypatch.setattr(muon, "AVAILABLE", False)
    config = trainings.make(folder)
    assert train(config) == 0
    change(config, optimiser="muon")
    assert train(config) == 2
    assert "muon: torch 2" in capsys.readouterr().err
