"""Stored results: one JSON record per cell, training, profile and dataset.

A record says what was computed (``key``), from what (``spec``, ``resolved`` and their
``fingerprint``), with what outcome (``status``, ``reason``, ``result``), how long each phase took
(``seconds``) and where (``provenance``). Time, git state and paths are provenance: they never
enter the fingerprint, so that two runs with the same inputs have the same one.

Try: ``python -c "from irbench import records; print(records.provenance())"``
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from irbench import __version__, digest_cache
from irbench.errors import UserError

SCHEMA_VERSION = 1
STATUSES = ("ok", "unavailable", "failed")
PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "pillow", "pyiqa", "fvcore",
            "scikit-image", "safetensors", "snakemake", "pandas", "matplotlib")


# -- canonical form and digests ----------------------------------------------------------------

def canonical(value: object) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False,
                      allow_nan=False)


def fingerprint(value: object) -> str:
    """Return the SHA-256 (hex) of a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@functools.cache
def code_digest(*modules: str) -> str:
    """Return one SHA-256 over the named modules' source (or files, by path), importing none."""
    paths = {Path(name) if "/" in name else _module_path(name) for name in modules}
    # by name and content: where the files lie makes no difference
    return fingerprint(sorted([path.name, file_digest(path)] for path in paths))


def _module_path(name: str) -> Path:
    base = Path(__file__).parent.joinpath(*name.split(".")[1:])
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def known_digest(path: str | Path) -> str:
    """Return the SHA-256 (hex) of a file, read again only when the file has changed."""
    return known_digests([path])[0]


def known_digests(paths: Iterable[str | Path], each: Callable = map) -> list[str]:
    """Return the SHA-256 (hex) of files, in order; see ``irbench.digest_cache``.

    Args:
        paths: of the files.
        each: how to hash those that are not known, called as ``map`` is; it may use threads and
            show progress.

    Raises OSError for a file that is not there or cannot be read.
    """
    paths = [Path(path).absolute() for path in paths]
    known = digest_cache.find(paths)
    missing = [path for path in dict.fromkeys(paths) if path not in known]
    found = []
    if missing:
        try:
            for one in each(lambda path: digest_cache.measure(path, file_digest), missing):
                found.append(one)
        finally:
            digest_cache.keep(found)
    known |= {one.path: one.sha256 for one in found}
    return [known[path] for path in paths]


# What is told of a protocol or model and fixes no number; the report takes it from the plan.
PROSE = {"title", "source", "description", "note", "published_as", "in_paper"}


def decisive(spec: dict) -> dict:
    """Return what of a job's spec fixes its result.

    Left out are the prose of protocol and model, and where weights come from whose digest is known.
    """
    spec = {key: {k: v for k, v in value.items() if k not in PROSE}
            if key in ("protocol", "model") else value for key, value in spec.items()}
    source = (spec.get("model") or {}).get("checkpoint") or {}
    if source.get("sha256"):
        spec["model"]["checkpoint"] = {k: v for k, v in source.items()
                                       if k not in ("path", "url", "peer")}
    return spec


# -- files that appear whole or not at all -----------------------------------------------------

# on the disk, in the quota, of one file
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; moved into place on success, removed on failure.

    Raises:
        UserError: there is no room for the file.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix,
                                        dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise UserError(f"{path}: not written: {error.strerror}. Make room for it, then run the "
                        "same command again.") from None


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: object) -> None:
    """Write a value as readable JSON (keys in their given order), atomically."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


_claims: list = []  # open files: a claim lasts as long as the process, however it ends


def claim(folder: Path) -> None:
    """Claim a run's folder for this process; a claim ends with the process, even by kill -9.

    Raises:
        UserError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = (folder / ".lock").open("a")
    if not lock(handle):
        handle.close()
        raise UserError(f"{folder}: another run is working in this folder. Wait for it, or give "
                        "this one another name (`run:` in the config).")
    _claims.append(handle)


def lock(handle: IO, wait: bool = False) -> bool:
    """Claim an open file against other processes, until it is closed or the process ends.

    Returns False if another process holds it; with ``wait``, waits until it has let go. On a file
    system without locks everyone gets it.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


# -- records -----------------------------------------------------------------------------------

class Phases:
    """Adds up the wall time of named phases; entering one phase twice adds to it."""

    def __init__(self) -> None:
        """Start with no phase."""
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the time of a ``with`` block towards phase ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent


def make(kind: str, key: dict, spec: dict, *, status: str = "ok", reason: str | None = None,
         resolved: dict | None = None, result: dict | None = None,
         seconds: dict[str, float] | None = None, attempt: int = 0,
         threads: int | None = None) -> dict:
    """Build a record of the current schema version and check it.

    Args:
        kind: ``cell``, ``training``, ``profile`` or ``data``.
        key: what names it within a run, for example protocol, dataset and model.
        spec: everything known beforehand that fixes the result.
        status: one of ``STATUSES``; anything but ``ok`` needs a reason and has no result.
        reason: why there is no result, one sentence for people.
        resolved: what was only known at run time and fixes the result (digests of weights, data).
        result: the outcome; its form depends on the kind.
        seconds: wall time per phase.
        attempt: how often an earlier attempt had failed.
        threads: CPU threads used.
    """
    record = {
        "schema_version": SCHEMA_VERSION, "kind": kind, "status": status, "reason": reason,
        "key": key, "result": result, "spec": spec, "resolved": resolved or {},
        "fingerprint": fingerprint({"spec": spec, "resolved": resolved or {}}),
        "attempt": attempt,
        "seconds": {name: round(value, 4) for name, value in (seconds or {}).items()},
        "provenance": provenance(threads),
    }
    check(record, "a new record")
    return record


def check(record: dict, where: str) -> None:
    """Raise UserError unless a record follows the schema of its version."""
    problem = _problem(record)
    if problem:
        raise UserError(f"{where}: not a valid irbench record: {problem}. "
                        "Delete the file and run again.")


def _problem(record: object) -> str | None:
    if not isinstance(record, dict):
        return "it is not a JSON object"
    if record.get("schema_version") != SCHEMA_VERSION:
        return (f"schema_version is {record.get('schema_version')!r}, "
                f"this irbench reads {SCHEMA_VERSION}")
    for name, kinds in (("kind", str), ("key", dict), ("spec", dict), ("resolved", dict),
                        ("seconds", dict), ("provenance", dict), ("attempt", int)):
        if not isinstance(record.get(name), kinds):
            return f"{name!r} is missing or of the wrong type"
    if record.get("status") not in STATUSES:
        return f"status {record.get('status')!r} is not one of {', '.join(STATUSES)}"
    if record["status"] == "ok" and not isinstance(record.get("result"), dict):
        return "status is ok but there is no result"
    if record["status"] != "ok" and not (record.get("reason") and record.get("result") is None):
        return "a record without success needs a reason and no result"
    expected = fingerprint({"spec": record["spec"], "resolved": record["resolved"]})
    if record.get("fingerprint") != expected:
        return "the fingerprint does not fit the inputs it names; the file was edited"
    return _not_finite(record)


def _not_finite(value: object, where: str = "record") -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"{where} is {value}; an unknown figure is null"
    items = (value.items() if isinstance(value, dict)
             else enumerate(value) if isinstance(value, list) else ())
    return next((p for k, v in items if (p := _not_finite(v, f"{where}.{k}"))), None)


def read(path: Path) -> dict:
    """Read and check a record. Raises UserError for a missing, broken or edited file."""
    try:
        record = json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such record. Run the stage that writes it.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}). "
                        "Delete the file and run again.") from None
    check(record, str(path))
    return record


def next_attempt(path: Path, spec: dict | None = None) -> int:
    """Return the attempt number the next run of a job has: one more than that of a stale record.

    The number is a parameter of the rule. It changes exactly when the stored record is a failure
    or was made from another spec, so that such a job runs again in the next run and a finished one
    never does. The spec itself is no parameter: that of a set which the run fetches is known only
    after the rules' parameters are fixed.
    """
    try:
        record = json.loads(Path(path).read_text())
        stale = record["status"] != "ok" or (spec is not None and record["spec"] != spec)
        return int(record["attempt"]) + stale
    except (OSError, ValueError, KeyError, TypeError):
        return 0


# -- provenance --------------------------------------------------------------------------------

def provenance(threads: int | None = None) -> dict:
    """Describe when, by what code and on what machine something ran."""
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "irbench": __version__, "git": _git(), "python": platform.python_version(),
        "packages": versions_of(*PACKAGES), "hardware": _hardware(), "threads": threads,
    }


@functools.cache
def versions_of(*names: str) -> dict[str, str | None]:
    """Return the installed versions of packages; null where one is absent."""
    versions: dict[str, str | None] = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


@functools.cache
def _git() -> dict | None:
    def run(*args: str) -> str:
        return subprocess.run(["git", *args], cwd=Path(__file__).parent, check=True, text=True,
                              capture_output=True, timeout=10).stdout.strip()
    try:
        return {"commit": run("rev-parse", "HEAD"), "dirty": bool(run("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


@functools.cache
def _hardware() -> dict:
    import psutil

    gpu = None
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        if torch.cuda.is_available():
            gpu = torch.cuda.get_device_name()
    return {"platform": f"{platform.system()} {platform.machine()}", "cpu": _cpu_name(),
            "cores": os.cpu_count(), "memory_bytes": psutil.virtual_memory().total, "gpu": gpu}


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
