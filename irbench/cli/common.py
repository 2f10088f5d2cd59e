"""Code that several verbs share: options, running a job, and the catalogs.

A verb is one module with ``NAME``, ``HELP``, ``add_options(parser)`` and ``run(arguments) -> exit
code``; ``irbench.cli`` lists them.

Try: ``irbench eval --help``
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from irbench import plan as plans
from irbench.catalog import peers, protocols, recipes
from irbench.core import messages
from irbench.core.errors import Paused, Superseded, UserError, refusal, unknown
from irbench.core.run_folder import RESULTS, RunFolder, runs
from irbench.data import sets
from irbench.inference import devices
from irbench.jobs import run as jobs
from irbench.jobs import supervise, verify
from irbench.jobs.result import RunSettings
from irbench.models import registry
from irbench.plan import Job, Plan, scoring
from irbench.plan import config as configs
from irbench.plan import file as plan_file
from irbench.report import collect
from irbench.report.run import Run

CONFIG = configs.DEFAULT
PATIENCE = 300.0    # seconds
Do = Callable[..., dict | None]     # as ``jobs.do``
SUMMARY = ("mean", "count", "steps", "final_loss", "parameters", "macs")


# -- options -----------------------------------------------------------------------------------

def add_config(parser: argparse.ArgumentParser, help: str = "default: %(default)s") -> None:
    """Add the option that names the config; the default is in the current folder."""
    parser.add_argument("--config", default=CONFIG, help=help)


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the run of a job: a config, or the plan made from it."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--config", default=CONFIG, help="default: %(default)s")
    add_plan(group)


def add_config_or_run(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a run whose results are shown: a config, or the run itself."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--config", default=CONFIG, help="default: %(default)s")
    group.add_argument("--run", metavar="RUN",
                       help="a run by its name or folder, as results/photos")


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Add the option that names a run's plan, which the workflow writes when the run starts."""
    parser.add_argument("--plan", metavar="FILE", help="results/RUN/plan.json, which the workflow "
                        "writes: run a job of it without planning the run")


def add_log(parser: argparse.ArgumentParser) -> None:
    """Add the option for a copy of all messages."""
    parser.add_argument("--log", help="also write messages to this file")


def add_data_root(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the folder of all data."""
    parser.add_argument("--data-root", metavar="FOLDER",
                        help="folder of the data; default: the config's, or data")


def add_protocol(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the protocol of a job."""
    parser.add_argument("--protocol", required=True, help="e.g. sr-x2, or sr-x2@1")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the model of a job."""
    parser.add_argument("--model", required=True, help="a name under `models` in the config")


def add_job(parser: argparse.ArgumentParser, *, device: bool = True,
            several: bool = False) -> None:
    """Add the options of every job (see ``run_jobs``).

    Args:
        parser: of the verb.
        device: whether the job computes.
        several: whether the verb may do several jobs, each with a log of its own.
    """
    parser.add_argument("--on-failure", choices=["stop", "record"], default="stop",
                        help="if there is no result: stop with exit code 2 (default), or "
                             "write a record with the reason and continue, as the workflow does")
    parser.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)
    if several:
        parser.add_argument("--log", nargs="+", default=[], metavar="FILE",
                            help="also write messages to this file; one for each cell")
    else:
        add_log(parser)
    if device:
        # of the workflow: whether it starts a job again that was paused or killed
        parser.add_argument("--resubmit", type=int, choices=(0, 1), default=0,
                            help=argparse.SUPPRESS)
        add_device(parser, "default: the config's")
        parser.add_argument("--threads", type=positive, default=1, help="CPU threads (default 1)")


def add_wait_quiet(parser: argparse.ArgumentParser) -> None:
    """Add the option of a job that measures time: how long it may wait for a quiet machine."""
    parser.add_argument("--wait-quiet", type=seconds, nargs="?", const=PATIENCE, metavar="SECONDS",
                        help="while other processes keep the machine busy, wait or measure again, "
                             f"for so long at most (without a number: {PATIENCE:g}; 0: never). "
                             "Default: the config's wait_quiet, or 0")


def seconds(text: str) -> float:
    """Parse an option's value as a number of seconds of at least 0."""
    return _duration(text, "seconds")


def add_device(parser: argparse.ArgumentParser, default: str = "default: auto") -> None:
    """Add the option that names the device; whether it is there is checked before the work."""
    parser.add_argument("--device", type=_device, metavar="DEVICE",
                        help="auto, cpu, cuda, cuda:1 (a GPU by its number, from 0) or mps; "
                             f"{default}")


def _device(text: str) -> str:
    try:
        return devices.check_name(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(text: str) -> int:
    """Parse an option's value as a whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def minutes(text: str) -> float:
    """Parse an option's value as a number of minutes of at least 0."""
    return _duration(text, "minutes")


def _duration(text: str, unit: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a non-negative number of {unit}")
    return value


# -- jobs --------------------------------------------------------------------------------------

def settings(arguments: argparse.Namespace, plan: Plan, **more: object) -> RunSettings:
    """Return the settings of a job that computes; ``more`` are settings of its kind."""
    asked = getattr(arguments, "wait_quiet", None)      # only of jobs that measure time
    more["wait_quiet"] = plan.config.get("wait_quiet", 0) if asked is None else asked
    return RunSettings(device=arguments.device or plan.config["device"],
                       threads=arguments.threads, progress=True, **more)


def load_plan(arguments: argparse.Namespace) -> Plan:
    """Return the run's plan: read from the given file, or planned from the config."""
    return plans.read(arguments.plan) if arguments.plan else plans.load(arguments.config)


def config_of(given: str) -> tuple[Path, RunFolder | None]:
    """Return the config file that is named, or that of the run that is named, and its folder.

    Raises UserError for a name that is neither.
    """
    path = Path(given)
    if path.is_file() or given == CONFIG:
        return path, None
    for folder in (RunFolder(path), RunFolder.of_run(given)):
        if folder.config.is_file():
            return folder.config, folder
    if path.suffix in (".yaml", ".yml", ".json"):
        raise UserError(f"config {given}: no such file.")
    raise unknown("run", given, [one.path.name for one in runs() if one.config.is_file()],
                  str(RESULTS))


def collected(given: str) -> Run:
    """Return the records of a config or a run as the report reads them.

    A run's folder may lie anywhere. The titles of sets that the run does not use are known, too.
    """
    config, folder = config_of(given)
    planned = plans.load(config)
    spec = planned.report_spec
    titles = {name: {"title": entry.title} for name, entry in planned.known.items()}
    return collect.collect(folder.path if folder else planned.folder,
                                    spec | {"datasets": titles | spec["datasets"]})


def settled(arguments: argparse.Namespace, plan: Plan, job: Job) -> Job:
    """Return a job; if its plan was read from a file, its spec is updated."""
    return plan_file.settled(plan, job) if arguments.plan else job


def run_jobs(arguments: argparse.Namespace, plan: Plan, chosen: Sequence[Job],
             how: RunSettings | None = None, do: Do | None = None) -> int:
    """Run jobs one after another, write their records, print a summary; return the exit code.

    With ``--on-failure record`` jobs that compute run in a separate process (``jobs.supervise``),
    and exit code 3 asks for another attempt, if the workflow makes one (``--resubmit``).

    Args:
        arguments: of the command line; see ``add_job``.
        plan: the run.
        chosen: its jobs, all of one kind.
        how: how to run them; None for the config's device and one thread.
        do: runs one of them; None: ``jobs.do``.
    """
    logs = [arguments.log] if isinstance(arguments.log, str) else arguments.log or []
    if logs and len(logs) != len(chosen):
        raise UserError(f"--log: {len(logs)} files for {len(chosen)} jobs. Give one file for each.")

    def work() -> int:
        first, begin = supervise.child()
        written = []
        for number in range(first, len(chosen)):
            begin(number)
            messages.log_to(logs[number] if logs else None)
            with _superseded(len(chosen) > 1):
                job = settled(arguments, plan, chosen[number])
                written.append((job, (do or jobs.do)(plan, job, how,
                                                     on_failure=arguments.on_failure)))
        begin(len(chosen))
        _print_summary([(job, record) for job, record in written if record])
        paused = any(record and record["status"] == "paused" for _, record in written)
        return supervise.AGAIN if paused and getattr(arguments, "resubmit", 0) else 0

    if (arguments.on_failure == "record" and not arguments.supervised
            and jobs.KINDS[chosen[0].kind].computes):
        return supervise.supervise(plan, chosen, lambda: answer(work), arguments.argv, logs=logs,
                                   resubmit=bool(arguments.resubmit))
    return work()


def run_job(arguments: argparse.Namespace, plan: Plan, job: Job,
            how: RunSettings | None = None, do: Do | None = None) -> int:
    """Run one job; see ``run_jobs``."""
    return run_jobs(arguments, plan, [job], how, do)


@contextlib.contextmanager
def _superseded(several: bool) -> Iterator[None]:
    """Go on with the next of several jobs if the plan no longer asks for one."""
    try:
        yield
    except Superseded as error:
        if not several:
            raise
        messages.say(str(error))


def _print_summary(written: list[tuple[Job, dict]]) -> None:
    """Print one JSON document; a job whose record another process wrote is left out."""
    found = []
    for job, record in written:
        result = record["result"] or {}
        found.append({
            "record": str(job.record), "status": record["status"], "reason": record["reason"],
            **{name: result[name] for name in SUMMARY if name in result}})
    if found:
        print(json.dumps(found[0] if len(found) == 1 else {"records": found}))


def answer(call: Callable[[], int | None]) -> int:
    """Call a function; return its exit code, or that of an error, which is printed for people."""
    try:
        code = call() or 0
        sys.stdout.flush()      # a full disk shows here, not when Python has ended
        return code
    except Paused as error:
        print(f"irbench: {error}", file=sys.stderr)
        return 3
    except UserError as error:
        print(f"irbench: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # the reader of our output has closed the pipe (| head): nobody reads a message
        sys.stderr.close()
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"irbench: {where}{refusal(error)}", file=sys.stderr)
        if error.filename is None:      # of stdout, which Python would try to write again
            with contextlib.suppress(OSError):
                sys.stdout.close()
        return 2
    except KeyboardInterrupt:
        print("irbench: interrupted; the same command continues", file=sys.stderr)
        return 130


def count_states(found: Iterable[verify.RecordState]) -> dict[str, int]:
    """Return how many records are in each state, those that are in none left out."""
    states = [one.state for one in found]
    return {state: states.count(state) for state in (*verify.TO_DO, verify.ALTERED, verify.CURRENT)
            if state in states}


# -- the catalogs ------------------------------------------------------------------------------

def has_config(arguments: argparse.Namespace) -> bool:
    """Return whether there is a config; the default one is optional, a named one must exist."""
    return arguments.config != CONFIG or Path(CONFIG).is_file()


def everything(config: str | None) -> dict[str, dict]:
    """Return models, peers, protocols, datasets, recipes and metrics; a config may add some."""
    loaded = configs.load(config) if config else {"catalog_paths": [], "plugins": []}
    if config:
        scoring.resolve(loaded["metrics"], loaded["metric_plugins"], f"config {config}")
    catalogs, plugins = tuple(loaded["catalog_paths"]), tuple(loaded["plugins"])
    return {"models": registry.cards(plugins), "peers": peers.catalog(catalogs),
            "protocols": protocols.catalog(catalogs), "datasets": sets.catalog(catalogs),
            "recipes": recipes.catalog(catalogs), "metrics": scoring.listed()}


def catalog_of(arguments: argparse.Namespace) -> tuple[dict, Path, list[str]]:
    """Return the catalog of datasets, the folder of all data and the config's sets.

    The config is optional.
    """
    if has_config(arguments):
        config = configs.load(arguments.config)
    else:
        config = {"catalog_paths": [], "data_root": "data", "cells": [], "models": {}}
    root = Path(getattr(arguments, "data_root", None) or config["data_root"])
    known = sets.catalog(config["catalog_paths"], root)
    used = [name for group in config["cells"] for name in (*group["datasets"],
                                                           *_trained(config, group))]
    return known, root, list(dict.fromkeys(used))


def _trained(config: dict, group: dict) -> Iterable[str]:
    """Yield the training sets of the models in a group of cells; recipes may choose them.

    Unlike planning, this does not read the sets, so that a broken set can be checked.
    """
    protocol = None
    for name in group["models"]:
        entry = config["models"].get(name) or {}
        if entry.get("training"):
            protocol = protocol or protocols.get(group["protocol"],
                                                 tuple(config["catalog_paths"]))
            recipe = recipes.resolve(entry["training"], f"models.{name}.training",
                                     recipes.catalog(config["catalog_paths"]))
            yield from recipes.for_model(recipe, entry.get("arch", name), protocol).data


def entries(known: dict, names: Iterable[str]) -> list:
    """Return the entries of datasets with these names. Raises UserError for an unknown one."""
    for name in names:
        if name not in known:
            raise unknown("dataset", name, known)
    return [known[name] for name in names]
