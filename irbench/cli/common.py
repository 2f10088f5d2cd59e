"""Code that several verbs share: options, running a job, and the catalogs.

A verb is one module with ``NAME``, ``HELP``, ``add_options(parser)`` and ``run(arguments) -> exit
code``; ``irbench.cli`` lists them.

Try: ``irbench eval --help``
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from pathlib import Path

from irbench import plan as plans
from irbench.catalog import protocols, reader, recipes
from irbench.cli import output
from irbench.core.errors import UserError, unknown
from irbench.core.run_folder import RESULTS, RunFolder, runs
from irbench.data import sets
from irbench.inference import devices
from irbench.jobs import verify
from irbench.jobs.result import RunSettings
from irbench.plan import Plan, shipped
from irbench.plan import config as configs
from irbench.report import collect
from irbench.report.run import Run

CONFIG = configs.DEFAULT
PATIENCE = 300.0    # seconds
LARGEST = 10**9     # of a whole number in an option
MOST_WORKERS = 1024
LOGS = (".log", ".txt", "")     # suffixes of files with messages


# -- options -----------------------------------------------------------------------------------

def add_config(parser: argparse.ArgumentParser, help: str = "default: %(default)s") -> None:
    """Add the option that names the config; the default is in the current folder."""
    parser.add_argument("--config", default=CONFIG, help=help)


def add_config_word(parser: argparse.ArgumentParser, dest: str = "config",
                    metavar: str = "CONFIG", default: str | None = CONFIG,
                    help: str = f"a config file (default: {CONFIG})"
                    ) -> argparse._MutuallyExclusiveGroup:
    """Add the config as a word, and as the option that other verbs have; return their group."""
    parser.set_defaults(**{dest: default})
    group = parser.add_mutually_exclusive_group()
    group.add_argument(dest, nargs="?", metavar=metavar, default=argparse.SUPPRESS, help=help)
    group.add_argument("--config", dest=dest, metavar="CONFIG", default=argparse.SUPPRESS,
                       help="the same")
    return group


def add_config_or_run_word(parser: argparse.ArgumentParser) -> None:
    """Add the word ``run``, for ``config_of``, of a verb that looks at what a run has and needs."""
    add_config_word(parser, "run", "CONFIG|RUN", help="a config file, the name of one that comes "
                    "with irbench, or a run by its name or folder, with the config that it last "
                    f"had (default: {CONFIG})")


def add_run(parser: argparse.ArgumentParser, *, word: bool = False) -> None:
    """Add the options that name the run of a job: a config, or the plan made from it.

    ``word``: the config may also be a word without an option.
    """
    if word:
        group = add_config_word(parser)
    else:
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
    output.add_file(parser, "--log", "also write messages to this file", LOGS)


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


def add_model_options(parser: argparse.ArgumentParser,
                      help: str = "arguments of the network, with values as in YAML, such as "
                      "width=48; in a config: `options`") -> None:
    """Add the option for what a config has under ``options`` of a model; see ``options_of``."""
    parser.add_argument("--options", nargs="+", default=[], metavar="NAME=VALUE", help=help)


def options_of(given: list[str]) -> dict:
    """Return the options of a model from texts NAME=VALUE, with values as in YAML.

    Raises UserError for another form, a value that is not valid YAML, or a name given twice.
    """
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise UserError(f"--options {text}: give NAME=VALUE, such as width=48.")
        if name in found:
            raise UserError(f"--options {text}: {name} is given twice. Omit one of them.")
        try:
            found[name] = reader.parse_text(value)
        except ValueError as error:
            raise UserError(f"--options {text}: {error}.") from None
    return found


def add_job(parser: argparse.ArgumentParser, *, device: bool = True,
            several: bool = False, threads: str = "") -> None:
    """Add the options of every job (see ``run_jobs``).

    Args:
        parser: of the verb.
        device: whether the job computes.
        several: whether the verb may do several jobs, each with a log of its own.
        threads: what the number of threads is if none is given, which is None then; "": 1.
    """
    parser.add_argument("--on-failure", choices=["stop", "record"], default="stop",
                        help="if there is no result: stop with exit code 2 (default), or "
                             "write a record with the reason and continue, as the workflow does")
    parser.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)
    if several:
        output.add_file(parser, "--log", "also write messages to this file; one for each job",
                        LOGS, nargs="+", default=[])
    else:
        add_log(parser)
    if device:
        # of the workflow: whether it starts a job again that was paused or killed
        parser.add_argument("--resubmit", type=int, choices=(0, 1), default=0,
                            help=argparse.SUPPRESS)
        add_device(parser, "default: the config's")
        parser.add_argument("--threads", type=workers, default=None if threads else 1,
                            help=f"CPU threads (default: {threads or 1})")


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
    """Parse an option's value as a whole number of at least 1, and at most ``LARGEST``."""
    return _whole(text, LARGEST)


def workers(text: str) -> int:
    """Parse an option's value as a number of threads or processes, 1 to ``MOST_WORKERS``."""
    return _whole(text, MOST_WORKERS)


def _whole(text: str, largest: int) -> int:
    # digits of other scripts and superscripts count as digits in Python
    if not re.fullmatch("[0-9]{1,18}", text) or not 1 <= int(text) <= largest:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {largest}")
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
                       threads=arguments.threads or 1, progress=True, **more)


def load_plan(arguments: argparse.Namespace) -> Plan:
    """Return the run's plan: read from the given file, or planned from the config."""
    return plans.read(arguments.plan) if arguments.plan else plans.load(arguments.config)


def config_of(given: str) -> tuple[Path, RunFolder | None]:
    """Return the config file that is named, or that of the run that is named, and its folder.

    A run comes before a config of the same name that comes with irbench.

    Raises UserError for a name that is none of these.
    """
    path = Path(given)
    if path.is_file() or given == CONFIG:
        return path, None
    for folder in (RunFolder(path), RunFolder.of_run(given)):
        if folder.config.is_file():
            return folder.config, folder
    known = shipped.configs()
    if given in known:
        return _from_here(known[given]), None
    if path.suffix in (".yaml", ".yml", ".json"):
        raise UserError(f"config {given}: no such file.")
    raise unknown("run or config", given, [
        *(one.path.name for one in runs() if one.config.is_file()), *known], str(RESULTS))


def _from_here(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def plan_of(given: str) -> Plan:
    """Return the plan of the config or run that is named.

    Raises UserError as ``config_of``, and for a run's folder that is not where this plan's records
    lie: a copy, or one that was moved.
    """
    config, folder = config_of(given)
    planned = plans.load(config)
    check_place(planned, folder, given)
    return planned


def check_place(planned: Plan, folder: RunFolder | None, given: str) -> None:
    """Raise UserError if a run was named by a folder that is not where its records lie."""
    if folder and folder.path.resolve() != planned.folder.resolve():
        raise UserError(f"run {given}: its config makes the run {planned.config['run']!r}, whose "
                        f"records lie in {planned.folder} as seen from here. A copy, or a folder "
                        "that was moved, has no state of its own: move it back, or ask where the "
                        "run was made.")


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


def state_line(one: verify.RecordState | verify.ReportState) -> str:
    """Return the state of a job or a report and what is to be said of it, as one line."""
    return f"{one.state:11} {one}"


def count_states(found: Iterable[verify.RecordState | verify.ReportState]) -> dict[str, int]:
    """Return how many records are in each state; states that none is in are left out."""
    states = [one.state for one in found]
    return {state: states.count(state) for state in (*verify.TO_DO, verify.ALTERED, verify.CURRENT)
            if state in states}


# -- the catalogs ------------------------------------------------------------------------------

def has_config(arguments: argparse.Namespace) -> bool:
    """Return whether there is a config; the default one is optional, a named one must exist."""
    return arguments.config != CONFIG or Path(CONFIG).is_file()


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
