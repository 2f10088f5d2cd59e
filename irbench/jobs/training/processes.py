"""Several processes for one training on one machine: start them, pass signals on, end together.

Each process gets the environment of accelerate and torchrun (RANK, WORLD_SIZE, MASTER_ADDR, ...)
and runs the same command, so that torchrun or ``accelerate launch`` can replace this module across
machines. They are not used here for two reasons. If a training pauses, its exit code is not an
error, but they print a traceback and return another code. And they use a fixed port.

Does not import torch. Try: ``irbench train --protocol sr-x2 --model compacter --processes 2``
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time

from irbench.core import locks
from irbench.jobs import life

GRACE = 20.0  # seconds the others have to end after one has failed; then they are terminated


def started() -> bool:
    """Whether this process is one of several, however they were started."""
    return "LOCAL_RANK" in os.environ


def rank() -> int:
    """Return the number of this process: 0 is the one that reports and writes."""
    return int(os.environ.get("RANK", 0)) if started() else 0


def launch(command: list[str], count: int, threads: int) -> int:
    """Run a command in several processes; return 0, or the exit code of the first that failed.

    Args:
        command: the program and its arguments.
        count: the number of processes.
        threads: CPU threads of each process.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lock, kept_open = locks.passed_on()
    shared = {**os.environ, **lock, **life.environment(), "MASTER_ADDR": "127.0.0.1",
              "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
              "OMP_NUM_THREADS": str(threads)}
    members = [subprocess.Popen(command, env={**shared, "RANK": str(i), "LOCAL_RANK": str(i)},
                                pass_fds=kept_open) for i in range(count)]
    # a signal to this process is passed on to all; Ctrl-C reaches them directly
    before = {number: signal.signal(number, handler) for number, handler in (
        (signal.SIGTERM, lambda *_: _each(members, "terminate")), (signal.SIGINT, signal.SIG_IGN))}
    try:
        code = _wait(members)
    finally:
        _each(members, "kill")
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code  # the shells' exit code for a signal


def _wait(members: list[subprocess.Popen]) -> int:
    """Wait for all; if one has failed, end the others, which would wait for it forever.

    They get ``GRACE`` seconds first, because they may already be ending for the same reason.
    """
    code, failed = 0, None
    while True:
        codes = [member.poll() for member in members]
        if not code and (code := next(filter(None, codes), 0)):
            failed = time.monotonic()
        spent = time.monotonic() - failed if failed else 0.0
        if None not in codes or spent > 2 * GRACE:
            return code
        if spent > GRACE:
            _each(members, "terminate")
        time.sleep(0.05)


def _each(members: list[subprocess.Popen], what: str) -> None:
    for member in members:
        if member.poll() is None:
            getattr(member, what)()
