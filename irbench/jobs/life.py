"""A process that ends with the processes it works for: a job with its run, a helper with its job.

A job that outlived its run would compute what nobody waits for, and stand in the way of the next
run. So a process that starts another one names itself in the environment (``environment``). The
started process watches (``watch``) all that are named there, and its own parent, such as the shell
that Snakemake puts between. When one of them has ended, even by kill -9, it sends itself SIGTERM:
a training saves its state first, everything else ends at once. A command that is started by hand
finds no name, so that ``nohup irbench ...`` outlives its shell. Processes of other machines are
named, too, but not watched. A job of a cluster starts anew (``start_anew``): it ends with the
Snakemake process of its own, which the scheduler has started, not with the one that submitted it.
That one sends itself SIGKILL, since after SIGTERM it would wait for its jobs, for hours, say.

Reads ``/proc`` where there is one; writes nothing.

Try: ``python -c "from irbench.jobs import life; print(life.environment())"``
"""

from __future__ import annotations

import _thread as low_level
import contextlib
import functools
import hashlib
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

VARIABLE = "IRBENCH_LIFE"
EVERY = 0.25     # seconds between two looks
PATIENCE = 600.0  # seconds that a process has to save and end; then it is killed
PROC = Path("/proc")
_gone: Callable[[], bool] = lambda: False  # noqa: E731
_resting = threading.Event()    # set: the thread that watches is to end
_thread: threading.Thread | None = None


def environment() -> dict[str, str]:
    """Return the variable for a process that must not outlive this one, nor what this one watches.
    """
    own = f"{_machine()}:{os.getpid()}:{_started(os.getpid())}"
    named = [name for name in os.environ.get(VARIABLE, "").split(",") if name]
    return {VARIABLE: ",".join(dict.fromkeys([*named, own]))}


def wait(join: Callable[[], int], terminate: Callable[[], None]) -> tuple[int, int | None]:
    """Wait for a process that does this one's work.

    SIGTERM is passed on to it, unless it means that a process that both watch has ended. Ctrl-C
    reaches it directly, and this process goes on waiting.

    Args:
        join: waits for the process and returns its exit code.
        terminate: sends SIGTERM to it.

    Returns:
        Its exit code, and the first of these signals that came meanwhile, or None.
    """
    came: list[int] = []

    def pass_on(number: int, _: object) -> None:
        came.append(number)
        # a process that sees by itself that the run has ended needs no second signal: that could
        # come when its state is saved, and its lock not yet removed
        if number == signal.SIGTERM and not ended():
            terminate()

    before = {number: signal.signal(number, pass_on)
              for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return join(), next(iter(came), None)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM raise ``Terminated`` in the block, as Ctrl-C raises KeyboardInterrupt."""
    def stop(*_: object) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():   # only that one gets signals
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def watch(*, at_once: Callable[[], bool] = lambda: False) -> None:
    """End this process soon after one that it works for; does nothing if none is named.

    Args:
        at_once: whether by SIGKILL, asked at that moment; else by SIGTERM, with time to save.
    """
    global _gone, _thread
    if not is_watching():
        return
    _gone = functools.partial(_any_gone, _watched(), os.getppid())
    _resting.clear()
    _thread = threading.Thread(target=_wait, args=(at_once,), daemon=True, name="life")
    _thread.start()


def rest() -> None:
    """Stop watching until ``watch`` is called again; then this process has no thread for it."""
    global _thread
    if _thread:
        _resting.set()
        _thread.join()
        _thread = None


def start_anew() -> None:
    """Work for no other process than this one: a scheduler has started it, and will end it.

    A job that a cluster runs must outlive the process that submitted it, even on one machine.
    """
    os.environ.pop(VARIABLE, None)


def handle_apart(number: int = signal.SIGTERM) -> None:
    """Let the handler of a signal run in a thread of its own; nothing changes if there is none.

    Python runs handlers in the main thread, wherever that is. Snakemake's handler takes a lock that
    its scheduler may hold at that moment, and then waits for itself forever.
    """
    given = signal.getsignal(number)
    if callable(given):
        # not threading.Thread, whose start takes a lock of its own
        signal.signal(number, lambda *came: low_level.start_new_thread(given, came))


def is_watching() -> bool:
    """Return whether this process works for another one."""
    return VARIABLE in os.environ


def ended() -> bool:
    """Return whether a process that this one works for has ended."""
    return _gone()


def _watched() -> dict[int, str]:
    """Return the processes of this machine that are named, each with its start."""
    found = {}
    for name in os.environ[VARIABLE].split(","):
        machine, _, process = name.partition(":")
        number, _, started = process.partition(":")
        if machine == _machine() and number.isdecimal() and int(number) != os.getpid():
            found[int(number)] = started
    return found


def _any_gone(watched: dict[int, str], parent: int) -> bool:
    return os.getppid() != parent or any(
        _started(number) != started for number, started in watched.items())


def _wait(at_once: Callable[[], bool]) -> None:
    while not _gone():
        if _resting.wait(EVERY):
            return
    os.kill(os.getpid(), signal.SIGKILL if at_once() else signal.SIGTERM)
    time.sleep(PATIENCE)
    os.kill(os.getpid(), signal.SIGKILL)


def _started(number: int) -> str:
    """Return when a process was started, as text that tells it from a later one of its number.

    "" for a process that has ended, though nobody may have asked for its exit code yet.
    """
    try:
        text = (PROC / str(number) / "stat").read_text(errors="replace")
        fields = text.rpartition(")")[2].split()   # a name in parentheses may hold anything
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        if (PROC / "self" / "stat").exists():
            return ""
    try:
        process = psutil.Process(number)
        return "" if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.Error:
        return ""


@functools.cache
def _machine() -> str:
    """Return what numbers of processes are valid in: a machine since its start, or a container."""
    marks = [platform.node()]
    for path, read in ((PROC / "sys/kernel/random/boot_id", Path.read_text),
                       (PROC / "self/ns/pid", os.readlink)):
        try:
            marks.append(str(read(path)))
        except OSError:
            marks.append("")
    return hashlib.sha256("\n".join(marks).encode()).hexdigest()[:12]
