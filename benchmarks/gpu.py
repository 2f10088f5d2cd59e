"""A GPU in one command: check everything that needs one, or train a model in the given time.

    check                          in under five minutes: tests, attention, profiles, some training
                                   steps, the evaluation of images, a training on two GPUs
    train MODEL PROTOCOL MINUTES   a training that fits into the minutes, with its weights and state

Runs with the Python, torch and other packages that the machine has, installs and downloads
nothing, and skips by name what lacks a package. Every stage (``gpu_stages.py``) is a process of its
own with its own time limit, the most important first: a stage that fails or takes too long costs
only itself.

Reads   a folder of images (``--data``): sets as irbench lays them out (bsds500_train/hr/*.jpg), or
        any folder with images; for protocols with pairs, input/ and target/. ``check`` also works
        without: it makes images up, and says so.
Writes  to ``--out``: STAGE.json and STAGE.log, which grow while the stage runs; summary.json, after
        every stage; with ``train`` MODEL-PROTOCOL.safetensors (the weights), .best.safetensors,
        .csv (the curve), and .state if it was stopped early; and work/, which may be deleted.
        A table goes to stderr, and summary.json, in one line, to stdout.

Exit code: 0; 1 if a stage failed or took too long; 2 for a wrong command; 3 if a training stopped
before its end (the same command continues); 130 after Ctrl-C.

Try: ``benchmarks/gpu.sh check --device cpu --tiny --out /tmp/gpu``
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LEAST = (3, 11)     # of Python, as in pyproject.toml
# what irbench imports for any job
BASE = ("torch", "numpy", "PIL", "cv2", "scipy", "yaml", "tqdm", "psutil")
LIMIT = 5.0         # minutes of a check, all stages together
RESERVE = 6.0       # seconds of a check that are kept for its end
BAD = ("failed", "timed out")


@dataclass(frozen=True)
class Stage:
    """A part of a check.

    Attributes:
        name: its name, also of its files.
        seconds: its time limit.
        purpose: what it does, in words.
        needs: the packages it needs besides ``BASE``.
        grace: seconds that it has to save and end after its time limit.
    """

    name: str
    seconds: float
    purpose: str
    needs: tuple[str, ...] = ()
    grace: float = 2.0


STAGES = (
    Stage("machine", 15, "versions, devices, the images to work on"),
    Stage("tests", 80, "the tests marked gpu", ("pytest",)),
    Stage("attention", 50, "every attention implementation over N and k, with memory"),
    Stage("profiles", 55, "speed and memory of the bundled models and SwinIR", ("safetensors",)),
    Stage("steps-compacter", 45, "training steps of Compacter in several precisions",
          ("accelerate", "safetensors")),
    Stage("steps-semanir-light", 45, "the same of SemanIR-light", ("accelerate", "safetensors")),
    Stage("evaluation", 30, "the evaluation pipeline on the given images", ("safetensors",)),
    Stage("processes", 30, "one training shared by two GPUs", ("accelerate", "safetensors")),
    # the last: a compiler may take all the time that is left
    Stage("compiled", 120, "training steps and profiles of compiled networks",
          ("accelerate", "safetensors")),
)
TRAIN = Stage("train", 0.0, "a training", ("accelerate", "safetensors"), 20.0)


# -- one stage -----------------------------------------------------------------------------------

def has(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


class Interrupted(Exception):
    """Ctrl-C, or SIGTERM, ended the whole command."""


def run_stage(stage: Stage, seconds: float, settings: dict) -> dict:
    """Run a stage in a process of its own and return its findings, also those of a killed one.

    ``settings`` go to the stage; ``out`` is the folder of its files. The result has ``status`` (ok,
    failed, timed out, skipped, paused, interrupted), ``reason``, ``seconds`` and what it found.
    """
    out = Path(settings["out"])
    path, log = out / f"{stage.name}.json", out / f"{stage.name}.log"
    path.unlink(missing_ok=True)  # of an earlier run
    lacking = [name for name in (*BASE, *stage.needs) if not has(name)]
    if lacking:
        return finished(path, {}, "skipped", f"needs {', '.join(lacking)}", 0.0)
    if seconds < 1:
        return finished(path, {}, "skipped", "the time of the whole check was used up", 0.0)
    say(f"== {stage.name}: {stage.purpose}; at most {seconds:.3g} s")
    begun = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-u", str(HERE / "gpu_stages.py"), stage.name, json.dumps(settings)],
        cwd=out / "work", env=environment(out / "work"), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    copying = threading.Thread(target=copy_lines, args=(child.stdout, log), daemon=True)
    copying.start()
    status, reason = "", ""
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        status, reason = "timed out", f"it took longer than {seconds:.3g} s"
    except Interrupted:
        status, reason = "interrupted", "the command was stopped"
    end(child, stage.grace)
    copying.join(5)
    found = read(path)
    if not status:
        status, reason = found.get("status"), found.get("reason", "")
        if child.returncode != 0 or status in (None, "running"):
            code = child.returncode
            ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            status = "failed"
            reason = reason or f"its process {ended}; last line: {last_line(log)}"
    return finished(path, found, status, reason, time.monotonic() - begun)


def environment(work: Path) -> dict[str, str]:
    """Return the environment of a stage: irbench from this checkout, no source of downloads."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    given = {name: value for name, value in os.environ.items() if name != "IRBENCH_MIRROR"}
    return {**given, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1",
            "HF_HUB_OFFLINE": "1", "TRITON_CACHE_DIR": str(work / "triton"),
            "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor")}


def copy_lines(source, log: Path) -> None:
    """Copy the output of a stage to its log and to stderr, line by line."""
    with log.open("wb") as file:
        for line in source:
            file.write(line)
            file.flush()
            say(line.decode(errors="replace").rstrip("\n"))


def end(child: subprocess.Popen, grace: float) -> None:
    """End a stage and all processes that it started: politely, so that it can save, then firmly."""
    signals = [signal.SIGKILL] if child.poll() is not None else [signal.SIGTERM, signal.SIGKILL]
    for number in signals:
        try:
            os.killpg(child.pid, number)  # the stage leads a group of its own
        except ProcessLookupError:
            break
        try:
            child.wait(grace)
        except (subprocess.TimeoutExpired, Interrupted):
            continue
    child.wait()


def read(path: Path) -> dict:
    """Return a stage's findings so far, {} if there are none."""
    try:
        found = json.loads(path.read_text())
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        lines = []
    return next((line.strip() for line in reversed(lines) if line.strip()), "none")


def finished(path: Path, found: dict, status: str, reason: str, seconds: float) -> dict:
    """Return a stage's final findings, and write them to its file."""
    found = {**found, "stage": path.stem, "status": status, "reason": reason,
             "seconds": round(seconds, 1)}
    write(path, found)
    say(f"== {path.stem}: {status}{f': {reason}' if reason else ''} ({seconds:.1f} s)")
    return found


def write(path: Path, value: dict) -> None:
    """Write JSON to a temporary name and move it into place."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(value, indent=1, default=str) + "\n")
    temporary.replace(path)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# -- all of them ---------------------------------------------------------------------------------

def run_all(stages: list[tuple[Stage, float]], minutes: float, settings: dict) -> dict:
    """Run stages one after another within the minutes; write and return the summary."""
    out, found, begun = Path(settings["out"]), [], time.monotonic()
    (out / "work").mkdir(parents=True, exist_ok=True)
    for stage, seconds in stages:
        left = 60 * minutes - (time.monotonic() - begun)
        found.append(run_stage(stage, min(seconds, left), settings))
        summary = {"command": settings["command"], "settings": settings,
                   "python": sys.version.split()[0],
                   "seconds": round(time.monotonic() - begun, 1), "stages": found}
        write(out / "summary.json", summary)
        if found[-1]["status"] == "interrupted":
            break
    return summary


def table(summary: dict) -> str:
    """Return one line for each stage: name, status, seconds, the main findings or the reason."""
    lines = [f"{'stage':<21}{'status':<12}{'s':>6}  found"]
    for one in summary["stages"]:
        text = "; ".join(filter(None, [one["reason"], one.get("short", "")]))
        lines.append(f"{one['stage']:<21}{one['status']:<12}{one['seconds']:>6.1f}  {text}")
    return "\n".join(lines)


def exit_code(summary: dict) -> int:
    statuses = [one["status"] for one in summary["stages"]]
    if "interrupted" in statuses:
        return 130
    if any(status in BAD for status in statuses) or not {"ok", "paused"} & set(statuses):
        return 1
    return 3 if "paused" in statuses else 0


# -- the command ---------------------------------------------------------------------------------

def arguments_of(words: list[str] | None) -> argparse.Namespace:
    """Parse the command line; a wrong one ends the program with exit code 2."""
    parser = argparse.ArgumentParser(prog="gpu.sh", description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="command", required=True)
    check = verbs.add_parser("check", help="check everything that needs a GPU")
    train = verbs.add_parser("train", help="train a model in the time that there is")
    train.add_argument("model", help="e.g. compacter")
    train.add_argument("protocol", help="e.g. sr-x2")
    train.add_argument("minutes", type=minutes, help="of the whole training, start included")
    for one in (check, train):
        one.add_argument("--out", required=True, type=Path, metavar="FOLDER",
                         help="folder for all results")
        one.add_argument("--data", type=Path, metavar="FOLDER", required=one is train,
                         help="folder with images")
        one.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto")
        one.add_argument("--threads", type=positive, help="CPU threads (default: all cores, 8 at "
                         "most)")
        one.add_argument("--tiny", action="store_true",
                         help="small sizes and few steps, to test this program itself")
    check.add_argument("--minutes", type=minutes, default=LIMIT,
                       help="time of all stages together (default %(default)s)")
    names = [stage.name for stage in STAGES]
    check.add_argument("--only", nargs="+", choices=names, default=names, metavar="STAGE",
                       help=f"only these: {', '.join(names)}")
    check.add_argument("--patience", type=positive, default=1, metavar="N",
                       help="give everything N times the time, for a slow machine")
    train.add_argument("--options", type=mapping, default={}, metavar="JSON",
                       help='of the model: \'{"width": 64}\'')
    train.add_argument("--set", dest="recipe", type=mapping, default={}, metavar="JSON",
                       help='fields of the recipe: \'{"batch": 64, "precision": "no"}\'')
    train.add_argument("--compile", action="store_true", help="use torch.compile")
    train.add_argument("--graph", action="store_true", help="replay the network as a CUDA graph")
    train.add_argument("--channels-last", action="store_true", help="use torch's NHWC layout")
    train.add_argument("--stop-after", type=minutes, metavar="M",
                       help="stop after M minutes with exit code 3; the same command continues")
    train.add_argument("--state", type=Path, metavar="FILE",
                       help="continue from this state, which an earlier --out holds")
    arguments = parser.parse_args(words)
    for name in ("data", "state"):
        path = getattr(arguments, name, None)
        if path is not None and not path.exists():
            parser.error(f"--{name} {path}: it does not exist")
    if arguments.data is not None and not arguments.data.is_dir():
        parser.error(f"--data {arguments.data}: not a folder")
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
        if not os.access(arguments.out, os.W_OK):
            raise OSError(0, "it is not writable")
    except OSError as error:
        parser.error(f"--out {arguments.out}: {error.strerror}")
    return arguments


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes above 0")
    return value


def mapping(text: str) -> dict:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object, as {{\"a\": 1}}")
    return value


def main(words: list[str] | None = None) -> int:
    if sys.version_info < LEAST:
        say(f"irbench needs Python {'.'.join(map(str, LEAST))} or newer; this is "
            f"{sys.version.split()[0]} ({sys.executable}). Name another one: PYTHON=python3.12 "
            "benchmarks/gpu.sh ...")
        return 2
    arguments = arguments_of(words)
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cores = os.cpu_count() or 1
    settings = {**vars(arguments), "out": str(arguments.out.resolve()), "cores": cores,
                "threads": arguments.threads or min(8, cores), "began": time.time(),
                "data": arguments.data and str(arguments.data.resolve())}
    if arguments.command == "check":
        scale = arguments.patience
        stages = [(stage, scale * stage.seconds) for stage in STAGES
                  if stage.name in arguments.only]
        allowed = scale * arguments.minutes - RESERVE / 60
    else:
        settings["state"] = arguments.state and str(arguments.state.resolve())
        # it ends in time by itself; this limit is for one that hangs
        allowed = (min(arguments.minutes, arguments.stop_after or arguments.minutes)
                   + (10 if arguments.tiny else 0.5))
        stages = [(TRAIN, 60 * allowed)]
    before = signal.signal(signal.SIGTERM, stop), signal.signal(signal.SIGINT, stop)
    try:
        summary = run_all(stages, allowed, settings)
    except Interrupted:  # between two stages
        return 130
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(number, handler)
    say(f"\n{table(summary)}\n\n{settings['out']}/summary.json has everything.")
    print(json.dumps(summary, default=str))
    return exit_code(summary)


def stop(*_: object) -> None:
    raise Interrupted


if __name__ == "__main__":
    sys.exit(main())
