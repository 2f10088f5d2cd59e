"""One training in several processes: the same parameters, one voice, one end."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from irbench import plan
from irbench.catalog import recipes
from irbench.jobs.training import engine, processes
from irbench.weights import storage
from tests.helpers import trainings
from tests.helpers.paths import ROOT
from tests.helpers.trainings import again, result, train


def weights(config):
    path = plan.load(config).folder / result(config)["checkpoint"]["file"]
    return storage.tensors(path, path.read_bytes())


# torch's Muon orthogonalises in bfloat16, which magnifies the rounding of the gradients
@pytest.mark.slow
@pytest.mark.parametrize(("optimiser", "bound"), [("adamw", 1e-6), ("muon", 5e-3)])
def test_two_processes_give_the_parameters_of_one(tmp_path, monkeypatch, optimiser, bound):
    monkeypatch.chdir(tmp_path)
    config = trainings.make(tmp_path, noise=0, ema=0.9, accumulate=2, holdout=1, validate_every=6,
                            optimiser=optimiser)
    assert train(config) == 0
    one, alone = result(config), weights(config)
    again(config)
    assert train(config, "--max-minutes", "1e-9") == 3     # one process begins, two go on
    reported = subprocess.run(
        [sys.executable, "-m", "irbench", "train", "--config", str(config), "--protocol", "sr-x2",
         "--model", "thin", "--processes", "2"], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"})
    two = result(config)
    assert (two["processes"], two["steps"], two["images_seen"]) == (2, 12, 48)
    for name, tensor in weights(config).items():
        assert (tensor - alone[name]).abs().max() < bound
        assert (tensor - torch.zeros_like(tensor)).abs().max() > 1e-3
    assert [p["loss"] for p in two["curve"]] == pytest.approx([p["loss"] for p in one["curve"]],
                                                              abs=bound)
    assert two["validation"][-1]["psnr"] == pytest.approx(one["validation"][-1]["psnr"],
                                                          abs=max(1e-3, 10 * bound))
    # printed once, by the first process
    assert reported.stderr.count("continuing after step 1") == 1
    assert len(reported.stdout.splitlines()) == 1
    assert "Warning" not in reported.stderr


THREADS_AT_THE_END = '''
import atexit
import glob
import os

def tell():
    names = [open(path).read().strip() for path in glob.glob("/proc/self/task/*/comm")]
    open(f"threads-{os.environ.get('RANK')}", "w").write(" ".join(names))

atexit.register(tell)
'''


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="names of threads need /proc")
@pytest.mark.parametrize(("more", "code"), [((), 0), (("--max-minutes", "1e-9"), 3)])
def test_no_thread_of_the_group_is_left_when_the_interpreter_ends(tmp_path, more, code):
    # one that is left aborts the process now and then, with exit code 134 after a good training
    config = trainings.make(tmp_path)
    # read as Python starts, so that what it does at the end comes last
    (tmp_path / "sitecustomize.py").write_text(THREADS_AT_THE_END)
    reported = subprocess.run(
        [sys.executable, "-m", "irbench", "train", "--config", str(config), "--protocol", "sr-x2",
         "--model", "thin", "--processes", "2", *more], capture_output=True, text=True,
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])})
    assert reported.returncode == code, reported.stderr
    for rank in range(2):
        assert "gloo" not in (tmp_path / f"threads-{rank}").read_text()


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch):
    monkeypatch.setattr(engine, "Accelerator", lambda **_: type("Three", (), {"num_processes": 3}))
    resolved = recipes.resolve({"recipe": "demo", "batch": 6}, "x")
    engine.start("cpu", resolved, 1)
    for change, message in (({"batch": 8}, "a batch of 8 cannot be shared by 3 processes in 1"),
                            ({"accumulate": 2, "batch": 9}, "Choose a `batch` that 6 divides"),
                            ({"phases": [{"from": 0}, {"from": 0.5, "batch": 4}]}, "batch of 4")):
        with pytest.raises(engine.UserError, match=message):
            engine.start("cpu", replace(resolved, **change), 1)


# -- starting and ending them --------------------------------------------------------------------

def launch(code, count=2):
    return processes.launch([sys.executable, "-S", "-c", f"import os, sys, time\n{code}"], count, 1)


def test_each_process_knows_its_place(tmp_path):
    code = ("names = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'OMP_NUM_THREADS')\n"
            f"open({str(tmp_path)!r} + '/' + os.environ['RANK'], 'w').write("
            "' '.join(os.environ[n] for n in names))")
    assert launch(code, 3) == 0
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == [
        f"{i} {i} 3 127.0.0.1 1" for i in range(3)]


def test_the_exit_code_is_that_of_the_first_to_fail(monkeypatch):
    monkeypatch.setattr(processes, "GRACE", 0.3)
    assert launch("sys.exit(3)") == 3
    began = time.monotonic()
    assert launch("sys.exit(5) if os.environ['RANK'] == '1' else time.sleep(60)") == 5
    # even one that does not mind being asked to end
    assert launch("import signal; signal.signal(15, signal.SIG_IGN)\n"
                  "if os.environ['RANK'] == '1': time.sleep(.3); os.kill(os.getpid(), 9)\n"
                  "time.sleep(60)") == 128 + 9
    assert time.monotonic() - began < 30


def test_a_signal_to_the_one_that_started_them_reaches_all(tmp_path):
    member = ("import signal, sys, time\n"
              "signal.signal(15, lambda *_: sys.exit(3))\n"
              "import os; open(os.environ['RANK'], 'w')\n"
              "time.sleep(60)")
    code = ("import sys; from irbench.jobs.training import processes\n"
            f"sys.exit(processes.launch([sys.executable, '-S', '-c', {member!r}], 2, 1))")
    one = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path,
                           env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    until = time.monotonic() + 60
    while not ((tmp_path / "0").exists() and (tmp_path / "1").exists()):
        assert time.monotonic() < until
        time.sleep(0.02)
    one.send_signal(signal.SIGTERM)
    assert one.wait(60) == 3


def test_only_the_first_process_has_rank_0(monkeypatch):
    monkeypatch.setenv("RANK", "3")     # of something else: this one was not started with others
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert processes.rank() == 0
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert processes.rank() == 3


# -- in the workflow -----------------------------------------------------------------------------

@pytest.mark.slow
@pytest.mark.parametrize(("asked", "words"), [
    (["train:max_minutes=50", "train:gpu=4"], "--max-minutes 50 --processes 4  --on-failure"),
    (["train:graph=1"], "--max-minutes 0 --processes 1 --graph --on-failure"),
])
def test_the_workflow_passes_on_minutes_gpus_and_graphs(tmp_path, asked, words):
    config = trainings.make(tmp_path)
    root = ROOT
    reported = subprocess.run(
        [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"),
         "--workflow-profile", str(root / "profiles" / "default"), "--directory", str(tmp_path),
         "--configfile", str(config), "--dry-run", "--printshellcmds", "--cores", "1",
         "--set-resources", *asked, "--resources", "gpu=4"],
        capture_output=True, text=True, timeout=120)
    assert reported.returncode == 0, reported.stdout + reported.stderr
    line, = (line for line in reported.stdout.splitlines() if "irbench train " in line)
    assert f"--model thin --threads 1 {words}" in line
