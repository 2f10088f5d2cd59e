"""The command line: one verb a stage, the same commands the workflow's rules run.

The last line on stdout of a verb that does something is one JSON document; messages and progress
go to stderr. Exit codes: 0 done, 1 done but something is wrong (verify, check), 2 bad input, no
result, 3 nothing wrong, but not finished: not all could be compared (data leak, anchors), nothing
could (check, compare, history), or a training stopped as asked.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from pathlib import Path

from irbench import __version__
from irbench.cli import bench, compare, data, fidelity, history, train
from irbench.cli import checkpoints as cli_checkpoints
from irbench.core.errors import Paused, Unavailable, UserError


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(argv)
    arguments.argv = argv
    try:
        return arguments.call(arguments) or 0
    except Paused as error:
        print(f"irbench: {error}", file=sys.stderr)
        return 3
    except UserError as error:
        print(f"irbench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("irbench: interrupted; the same command continues", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader of our output has gone (| head): no one to tell
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="irbench", description="Benchmark image restoration and reproduce published figures.",
        epilog="Each verb has its own --help. The whole run: snakemake --cores all")
    parser.add_argument("--version", action="version", version=f"irbench {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def verb(name: str, call, text: str, *, config: bool = True) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.set_defaults(call=call)
        if config:
            sub.add_argument("--config", default="config.yaml", help="default: %(default)s")
        return sub

    data.add_options(verb("data", _data, "list, fetch and check datasets, look for leaks",
                              config=False), _job_options)
    for name, call, text in (("train", _train, "train one model for one protocol"),
                             ("eval", _eval, "evaluate one cell: model, dataset, protocol"),
                             ("profile", _profile, "measure parameters, MACs, latency, memory")):
        sub = verb(name, call, text)
        sub.add_argument("--protocol", required=True, help="e.g. sr-x2, or sr-x2@1")
        if name == "eval":
            sub.add_argument("--dataset", required=True)
            sub.add_argument("--keep-images", action="store_true", help="keep restored images")
        sub.add_argument("--model", required=True, help="a name under `models` in the config")
        if name == "train":
            train.add_options(sub, _positive)
        _job_options(sub)
    bench.add(verb, _job_options, _positive, _run)
    sub = verb("report", _report, "render tables, figures and report.html from the records")
    sub.add_argument("--differences", action="store_true",
                     help="show measured - published in the cells of tables, as the config's "
                          "report.differences does")
    sub.add_argument("--log", help="also write messages to this file")
    sub = verb("list", _list, "list models, peers, protocols, datasets and recipes", config=False)
    sub.add_argument("what", nargs="?",
                     choices=["models", "peers", "protocols", "datasets", "recipes"])
    sub.add_argument("--config", help="also list what this config adds")
    sub = verb("info", _info, "show all that is known of one model, peer, protocol, dataset, "
               "recipe, record or checkpoint", config=False)
    sub.add_argument("name", help="a name, or the path of a record or checkpoint")
    sub.add_argument("--config", help="also know what this config adds")
    verb("verify", _verify, "recheck that a run's results belong to its config, code and weights")
    fidelity.add(verb, _positive)
    compare.add(verb)
    history.add(verb)
    cli_checkpoints.add_options(verb("checkpoints", cli_checkpoints.run, "list, show, export and "
                                     "import weights", config=False))
    return parser


def _job_options(sub: argparse.ArgumentParser, device: bool = True) -> None:
    sub.add_argument("--on-failure", choices=["stop", "record"], default="stop",
                     help="when a result cannot be had: stop with exit code 2 (default), or "
                          "write a record with the reason and go on, as the workflow does")
    sub.add_argument("--attempt", type=int, default=0, help=argparse.SUPPRESS)
    sub.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)
    sub.add_argument("--log", help="also write messages to this file")
    if device:
        sub.add_argument("--device", choices=["auto", "cpu", "cuda"], help="default: the config's")
        sub.add_argument("--threads", type=_positive, default=1, help="CPU threads (default 1)")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


# -- jobs --------------------------------------------------------------------------------------

def _run(arguments, job, work) -> int:
    """Do a job and write its record; or, if asked to, a record that says why it could not be."""
    from irbench.core import messages, records
    from irbench.inference import allocator

    if arguments.on_failure == "record" and not arguments.supervised:
        return _supervise(arguments, job)
    allocator.keep()
    messages.log_to(arguments.log)
    messages.say(f"{job.title}: started")
    try:
        record = work()
    except Exception as error:
        expected = isinstance(error, UserError | OSError | MemoryError)
        reason = str(error) if expected and str(error) else f"{type(error).__name__}: {error}"
        if arguments.on_failure == "stop":
            raise (UserError(reason) if expected and not isinstance(error, UserError)
                   else error) from error
        if not expected:  # a defect of ours or of a model: one cell is lost, not the run
            messages.say(traceback.format_exc())
        status = "unavailable" if isinstance(error, Unavailable) else "failed"
        record = records.make(job.kind, job.key, job.spec, status=status, reason=reason)
        messages.say(f"{job.title}: {status}: {reason}")
    _write(arguments, job, record)
    return 0


def _supervise(arguments, job) -> int:
    """Do the job in a process of its own: one that is killed (by lack of memory, say) or crashes
    still leaves a record, and costs the run no other cell.

    A signal is the job's to answer: a training saves what it has.
    """
    import signal
    import subprocess

    from irbench.core import messages, records

    job.record.unlink(missing_ok=True)
    process = subprocess.Popen([sys.executable, "-m", "irbench", *arguments.argv, "--supervised"])
    # Ctrl-C reaches the job without help
    before = {number: signal.signal(number, handler) for number, handler in (
        (signal.SIGTERM, lambda *_: process.terminate()), (signal.SIGINT, signal.SIG_IGN))}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code == 130 or (code == 0 and job.record.exists()):
        return code
    ended = (f"was ended by signal {-code}{' (out of memory?)' if code == -9 else ''}"
             if code < 0 else f"ended with exit code {code}")
    reason = f"the process {ended} and left no result; see {arguments.log or 'its messages'}"
    messages.say(f"{job.title}: failed: {reason}")
    _write(arguments, job, records.make(job.kind, job.key, job.spec, status="failed",
                                        reason=reason))
    return 0


def _write(arguments, job, record: dict) -> None:
    """Store a record and print its summary; one that says nothing new leaves the old in place."""
    from irbench.core import messages
    from irbench.core.run_folder import RunFolder

    record["attempt"] = arguments.attempt
    folder = RunFolder.of_record(job.record, job.kind)
    old = folder.load(job.kind, job.key).record or {}
    if any(old.get(k) != record[k] for k in ("status", "reason", "spec", "resolved", "result",
                                             "attempt")):
        folder.write(record)
    summary = {"record": str(job.record), "status": record["status"], "reason": record["reason"]}
    result = record["result"] or {}
    summary |= {k: result[k] for k in ("mean", "count", "steps", "final_loss", "parameters", "macs")
                if k in result}
    if record["status"] == "ok":
        messages.say(f"{job.title}: done, {job.record}")
    print(json.dumps(summary))


def _device(arguments, plan) -> str:
    from irbench.core import messages
    from irbench.jobs.profiling import profile

    device, reason = profile.pick_device(arguments.device or plan.config["device"])
    messages.say(f"device {device}: {reason}")
    return device


def _data(arguments) -> int:
    arguments.supervised = True  # no process of its own: it computes nothing that could crash
    return data.run(arguments, _run)


def _train(arguments) -> int:
    return train.run(arguments, _run, _device)


def _eval(arguments) -> int:
    from irbench import plan
    from irbench.core import messages
    from irbench.jobs import evaluate

    run = plan.load(arguments.config)
    job = run.find("cell", protocol=arguments.protocol, dataset=arguments.dataset,
                   model=arguments.model)
    return _run(arguments, job, lambda: evaluate.run(
        run, job, device=_device(arguments, run), threads=arguments.threads,
        keep_images=arguments.keep_images or job.spec["keep_images"],
        progress=lambda items: messages.track(items, job.title, len(items))))


def _profile(arguments) -> int:
    from irbench import plan
    from irbench.core import messages, records
    from irbench.jobs.profiling import profile
    from irbench.weights import loading

    run = plan.load(arguments.config)
    job = run.find("profile", protocol=arguments.protocol, model=arguments.model)

    def measure() -> dict:
        protocol = run.protocols[job.key["protocol"]]
        settings = job.spec["profile"]
        device = _device(arguments, run)
        phases = records.Phases()
        model, plugins = job.model, tuple(run.config["plugins"])
        resolved = {}
        if model["arch"] == "external":  # what it is stands in its file
            network, digest = loading.ready(model, protocol, run.folder,
                                                Path(run.config["data_root"]), plugins)
            resolved = loading.resolved(network, digest)
        else:
            network = loading.build(model, protocol, plugins)
        with phases("measure"):
            result = profile.profile(
                network, channels=protocol.channels, device=device, threads=arguments.threads,
                inference=model["inference"], **settings)
        if chosen := result.get("attention"):
            messages.say(f"attention {chosen['implementation']}: {chosen['reason']}")
        if result.get("dictionary"):
            from irbench.models.attention import health

            messages.say(f"{health.in_words(result['dictionary'])} ({result['dictionary_of']})")
        return records.make("profile", job.key, job.spec, result=result, seconds=phases.seconds,
                            resolved=resolved, threads=arguments.threads)

    return _run(arguments, job, measure)


def _report(arguments) -> int:
    from irbench import plan, report
    from irbench.core import messages

    messages.log_to(arguments.log)
    run = plan.load(arguments.config)
    spec = run.report_spec | ({"differences": True} if arguments.differences else {})
    page = report.build(run.folder, spec, progress=messages.say)
    messages.say(f"report: {page}")
    print(json.dumps({"report": str(page)}))
    return 0


# -- looking things up -------------------------------------------------------------------------

def _known(config: str | None) -> dict[str, dict]:
    from irbench.catalog import peers, protocols, recipes
    from irbench.data import sets
    from irbench.models import registry
    from irbench.plan import config as configs

    loaded = configs.load(config) if config else {"catalog_paths": [], "plugins": []}
    catalogs, plugins = tuple(loaded["catalog_paths"]), tuple(loaded["plugins"])
    return {"models": registry.cards(plugins), "peers": peers.catalog(),
            "protocols": protocols.catalog(catalogs), "datasets": sets.catalog(catalogs),
            "recipes": recipes.catalog()}


def _list(arguments) -> int:
    known = _known(arguments.config)
    for group in [arguments.what] if arguments.what else known:
        print(f"{group}:")
        width = max(map(len, known[group]))
        for name, entry in known[group].items():
            title = entry["note"] if isinstance(entry, dict) else str(
                getattr(entry, "summary", entry.title))
            print(f"  {name:<{width}}  {title}")
    return 0


def _info(arguments) -> int:
    import dataclasses

    from irbench.core import records
    from irbench.core.errors import unknown
    from irbench.weights import loading

    path = Path(arguments.name)
    if path.is_file():
        found = records.read(path) if path.suffix == ".json" else loading.describe(path)
    else:
        known = _known(arguments.config)
        # a protocol may be named without its version
        names = {name.rpartition("@")[0]: name for name in known["protocols"]}
        wanted = names.get(arguments.name, arguments.name)
        found = next((group[wanted] for group in known.values() if wanted in group), None)
        if found is None:
            raise unknown("name", arguments.name, (n for g in known.values() for n in g))
        if dataclasses.is_dataclass(found):
            found = dataclasses.asdict(found)
    print(json.dumps(found, indent=1, default=str))
    return 0


def _verify(arguments) -> int:
    from irbench import plan
    from irbench.jobs import verify

    problems = verify.check(plan.load(arguments.config))
    for problem in problems:
        print(problem, file=sys.stderr)
    print(json.dumps({"problems": len(problems)}))
    return 1 if problems else 0
