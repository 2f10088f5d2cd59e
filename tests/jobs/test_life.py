"""A job ends with its run and with the shell between them; a command by hand outlives its shell."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from irbench.jobs import life
from tests.helpers.paths import ROOT

JOB = ("import sys, time; from irbench.jobs import life; life.watch({})\n"
       "open(sys.argv[1], 'w').close(); time.sleep(60)")
# a run, a shell and a job, as Snakemake starts them; the shell does more afterwards, so it stays
RUN = ("import os, subprocess, sys, time; from irbench.jobs import life\n"
       "os.environ.update(life.environment() if sys.argv[3] == 'run' else {})\n"
       "subprocess.Popen(['bash', '-c', '\"$@\"; true', 'bash', sys.executable, '-c', sys.argv[1],"
       " sys.argv[2]])\n"
       "time.sleep(60)")


def processes(tmp_path, how, options="", before=""):
    """Start a run, by the workflow or by hand; return it, its shell and its job."""
    started = tmp_path / "started"
    environment = {name: value for name, value in os.environ.items() if name != life.VARIABLE}
    one = subprocess.Popen([sys.executable, "-c", RUN,
                            before + JOB.format(options), str(started), how],
                           env={**environment, "PYTHONPATH": str(ROOT)})
    wait_for(started.exists)
    shell, = psutil.Process(one.pid).children()
    job, = shell.children()
    return psutil.Process(one.pid), shell, job


def wait_for(condition, seconds=30):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def has_ended(process):
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("killed", [0, 1])
def test_a_job_ends_with_its_run_and_with_its_shell(tmp_path, killed):
    chain = processes(tmp_path, "run")
    chain[killed].kill()    # nobody asks for its exit code: it is a zombie, and counts as ended
    wait_for(lambda: has_ended(chain[2]), seconds=5)
    chain[0].kill()


def test_one_that_would_wait_after_sigterm_can_end_at_once(tmp_path):
    """Snakemake on a login node, say: it waits for the jobs of a cluster."""
    chain = processes(tmp_path, "run", "at_once=lambda: True",
                      "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n")
    chain[0].kill()
    wait_for(lambda: has_ended(chain[2]), seconds=5)


def test_a_command_by_hand_outlives_its_shell(tmp_path):
    chain = processes(tmp_path, "hand")
    chain[1].kill()
    chain[0].kill()
    time.sleep(3 * life.EVERY)
    assert not has_ended(chain[2])
    chain[2].kill()


def test_only_processes_of_this_machine_are_watched(monkeypatch):
    """A number may belong to another process on another machine, or here at another time."""
    other = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    machine = life._machine()
    name = f"{machine}:{other.pid}:{life._started(other.pid)}"
    monkeypatch.setenv(life.VARIABLE, f"elsewhere:1:5,{name},{machine}:x:1")
    assert life._watched() == {other.pid: life._started(other.pid)}
    own = life.environment()[life.VARIABLE].split(",")
    assert own[:-1] == os.environ[life.VARIABLE].split(",")
    assert own[-1].startswith(f"{machine}:{os.getpid()}:")
    assert not life._any_gone(life._watched(), os.getppid())
    assert life._any_gone({other.pid: "an earlier start"}, os.getppid())
    assert life._any_gone({}, os.getppid() + 1)
    other.send_signal(signal.SIGKILL)
    wait_for(lambda: life._any_gone(life._watched(), os.getppid()))
    other.wait()


def test_without_proc_psutil_tells_the_same(monkeypatch, tmp_path):
    monkeypatch.setattr(life, "PROC", tmp_path)
    other = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    assert life._started(other.pid)
    other.kill()
    wait_for(lambda: not life._started(other.pid))
    other.wait()
    assert not life._started(other.pid)


HELD = """
import os, signal, threading
from irbench.jobs import life
lock, done = threading.Lock(), threading.Event()
def handler(*came):
    with lock:
        assert came[0] == signal.SIGTERM
        done.set()
signal.signal(signal.SIGTERM, handler)
life.handle_apart()
with lock:
    os.kill(os.getpid(), signal.SIGTERM)
    assert not done.wait(0.2)
assert done.wait(20)
"""


def test_a_handler_may_take_a_lock_that_the_main_thread_holds():
    done = subprocess.run([sys.executable, "-c", HELD], timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_signal_without_a_handler_is_left_as_it_is():
    before = signal.getsignal(signal.SIGUSR1)
    life.handle_apart(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) == before == signal.SIG_DFL
