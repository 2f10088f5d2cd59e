"""``irbench run``: the whole pipeline of a config, from an installed package or a checkout.

It runs Snakemake with the rules that come with irbench: sets, trainings, cells, profiles, report.
The records decide what is done; the same command continues after an interruption.

Interrupted by Ctrl-C or SIGTERM, it says what is kept and ends with exit code 130 or 143.

Reads   a config file, or one that comes with irbench, by its name.
Writes  ``results/RUN`` in the current folder; sets go to ``data``.

Try: ``irbench run config.yaml --cores 4 --dry-run``
     ``irbench run config.yaml --profile slurm``
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from irbench import plan as plans
from irbench.catalog import reader
from irbench.cli import common
from irbench.core import machine
from irbench.core.errors import UserError, unknown
from irbench.core.run_folder import RunFolder
from irbench.jobs import life, verify
from irbench.plan import config as configs
from irbench.plan import shipped

NAME = "run"
HELP = "run the whole pipeline of a config: sets, trainings, cells, profiles and report"
DEFAULT = "default"
ON_GPU = ("training", "cell", "profile", "bench")   # jobs that ask for a GPU
OWN_EXECUTORS = ("local", "dryrun", "touch")    # of Snakemake, without a package


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    common.add_config_word(parser, "run_config", default=None, help="a config file, or the name of "
                           "one that comes with irbench, such as benchmark or paper; default: "
                           f"{common.CONFIG}, or without one the default run of irbench")
    parser.add_argument("--cores", type=_cores, metavar="N",
                        help="CPU cores to use; default: all")
    parser.add_argument("--profile", metavar="FOLDER",
                        help="a profile of Snakemake, a folder with config.yaml, for example for a "
                             "cluster; or the name of one that comes with irbench: "
                             f"{', '.join(shipped.PROFILES)}")
    parser.add_argument("--dry-run", action="store_true", help="only print what would run")
    parser.add_argument("--snakemake", default="", metavar="OPTIONS",
                        help="more options of Snakemake, in quotes, such as "
                             "--snakemake='--set-resources train:max_minutes=50'")


def _cores(text: str) -> str:
    return text if text == "all" else str(common.positive(text))


def run(arguments: argparse.Namespace) -> int:
    """Run the pipeline; return the exit code."""
    config = _config(arguments.run_config)
    folder = RunFolder.of_run(configs.load(config)["run"])      # a mistake is one message, now
    code, came = _snakemake(config, arguments)
    if code and came:
        print(f"irbench: interrupted. {_kept(folder)} Run the same command again; it continues.",
              file=sys.stderr)
        return 128 + came   # as a shell says it: 130 for Ctrl-C, 143 for SIGTERM
    if code == 0 and arguments.dry_run:
        name = shlex.quote(str(config))
        print(f"irbench: nothing was run. irbench status {name} says what would run, and why; "
              f"irbench plan {name} lists the jobs.", file=sys.stderr)
    elif code == 0:
        _warn_of_cpu(folder)
        print(json.dumps(_summary(folder)))
    return code if code in (0, 2, 130) else 1


def _config(given: str | None) -> Path:
    """Return the config file that is meant."""
    known = shipped.configs()
    if given is None and not Path(common.CONFIG).is_file():
        print(f"irbench: there is no {common.CONFIG} here, so this runs the config that comes with "
              "irbench. `irbench init` writes one of your own.", file=sys.stderr)
        given = DEFAULT
    path = Path(common.CONFIG if given is None else given)
    if path.is_file() or path.suffix or len(path.parts) > 1:
        return path
    if given not in known:
        raise unknown("config", given, known)
    return known[given]


def _snakemake(config: Path, arguments: argparse.Namespace) -> tuple[int, int | None]:
    """Run Snakemake in the current folder; return what ``life.wait`` does."""
    home = shipped.home()
    profile = _profile(arguments.profile, config)
    # a profile for a cluster says how many jobs there may be; cores would limit each of them
    cores = arguments.cores or (None if arguments.profile else "all")
    try:
        more = shlex.split(arguments.snakemake)
    except ValueError as error:
        raise UserError(f"--snakemake {arguments.snakemake!r}: {error}. Close the quotes."
                        ) from None
    command = [sys.executable, "-m", "snakemake", "--snakefile", home / shipped.SNAKEFILE,
               "--configfile", config, *(["--cores", cores] if cores else []), *profile,
               *_dry(arguments.dry_run, more), *more]
    process = subprocess.Popen(list(map(str, command)), env={
        **os.environ, **life.environment(), "PATH": _path()})
    return life.wait(process.wait, process.terminate)


def _dry(asked: bool, more: list[str]) -> list[str]:
    """Return Snakemake's options for a dry run: counts, without a page for each job."""
    quiet = any(re.match(r"-q|--quiet", one) for one in more)
    return (["--dry-run"] + ["--quiet", "rules", "reason", "host"] * (not quiet)) if asked else []


def _profile(given: str | None, config: Path) -> list[str | Path]:
    """Return Snakemake's option for a profile. Raises UserError if there is none of that name."""
    home = shipped.home()
    if given is None:   # one of the folder's own comes first; Snakemake finds it
        return [] if shipped.PROFILE.is_dir() else ["--workflow-profile", home / shipped.PROFILE]
    for folder in (Path(given), home / shipped.PROFILE.parent / given):
        if (folder / "config.yaml").is_file():
            if (folder / "config.yaml").resolve() == config.resolve():
                raise UserError(f"--profile {given}: its config.yaml is the config of the run, not "
                                "Snakemake's options. Name another folder, or omit --profile.")
            _require_executor(given, folder / "config.yaml")
            return ["--workflow-profile", folder]
    raise UserError(f"--profile {given}: no folder with a config.yaml there. Profiles that come "
                    f"with irbench: {', '.join(shipped.PROFILES)} (copy "
                    f"{home / shipped.PROFILE.parent / shipped.PROFILES[-1]} to change it).")


def _require_executor(given: str, path: Path) -> None:
    """Raise UserError if a profile's executor is a package of Snakemake that is not installed."""
    with contextlib.suppress(ValueError, ImportError):  # Snakemake says what is wrong with it
        options = reader.parse(path)
        name = options.get("executor") if isinstance(options, dict) else None
        if isinstance(name, str) and name not in OWN_EXECUTORS and not importlib.util.find_spec(
                f"snakemake_executor_plugin_{name.replace('-', '_')}"):
            raise UserError(
                f"--profile {given}: {path} has the executor {name}, whose package is not "
                f"installed. pip install 'snakemake-executor-plugin-{name}'; those for slurm and "
                "kubernetes also come with irbench's extra, 'irbench-restoration[cluster]'.")


def _path() -> str:
    """Return a PATH on which the rules find the command ``irbench`` of this Python.

    Raises UserError if there is none.
    """
    own = [str(Path(sys.executable).parent), sysconfig.get_path("scripts")]
    if Path(sys.argv[0]).stem == "irbench":
        own.insert(0, str(Path(sys.argv[0]).absolute().parent))
    path = os.pathsep.join([*dict.fromkeys(own), os.environ.get("PATH", os.defpath)])
    if not shutil.which("irbench", path=path):
        raise UserError("the command irbench is not on the PATH, but the workflow's rules need it. "
                        f"Install irbench for this Python ({sys.executable}), or add the folder of "
                        "the command to the PATH.")
    return path


def _summary(folder: RunFolder) -> dict:
    """Return what there is of a run now: a dry run, say, made none of it.

    ``report`` is null unless the report is made from the present records.
    """
    jobs = report = None
    with contextlib.suppress(UserError):
        jobs = _states(folder)
        if verify.find_report(plans.load(folder.config)).state == verify.CURRENT:
            report = str(folder.report)
    jobs = jobs or []
    return {"run": folder.path.name, "report": report, "jobs": len(jobs),
            "without_result": sum(state != verify.CURRENT for state in jobs)}


def _warn_of_cpu(folder: RunFolder) -> None:
    """Say so if jobs were given a GPU that torch could not use; they ran on the CPU."""
    with contextlib.suppress(UserError):
        plan = plans.read(folder.plan)
        if plan.config["device"] != "auto":
            return
        records = [folder.load(job.kind, job.key).record for job in plan.jobs()
                   if job.kind in ON_GPU]
        names = ["/".join(one["key"].values()) for one in records
                 if one and machine.gpu_unused(one["provenance"])]
        if names:
            print(f"irbench: {len(names)} {'results' if len(names) > 1 else 'result'} came from "
                  "the CPU, though the job was given a GPU: torch cannot use it. First: "
                  f"{names[0]}. Run `irbench info machine` where the job ran. `device: cpu` in the "
                  "config asks for no GPU, `device: cuda` makes such jobs fail.", file=sys.stderr)


def _kept(folder: RunFolder) -> str:
    """Return what an interrupted run leaves to the next one, in words."""
    try:
        jobs = len(plans.read(folder.plan).jobs())
        done = _states(folder).count(verify.CURRENT)
    except UserError:
        return "Nothing was begun."
    report = ", the earlier report" * folder.report.is_file()
    return (f"Kept in {folder.path}: the results of {done} of {jobs} jobs, the saved states of "
            f"trainings{report}.")


def _states(folder: RunFolder) -> list[str]:
    """Return the state of each record of a run's jobs; missing ones are left out."""
    plan = plans.read(folder.plan)
    known = verify.Records(plan)
    return [known.find(job).state for job in plan.jobs() if not known.stored(job).missing]
