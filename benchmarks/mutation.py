"""Can the tests fail? Change one expression of a module at a time, and run the tests that cover it.

A change (mutant) that no test notices survives: either a test is missing, or the change has no
effect that matters. docs/testing.md lists the survivors of the second kind with their reasons; any
other survivor makes the exit code 1.

No file is written, and a mutant costs a fraction of a second:

1. A process imports the tests and forks for each of them, to learn which lines it runs. Run in
   turn, they must pass with the unchanged module.
2. A mutant inside a function is put into the function in another fork. Only the tests that run its
   line are run there, the shortest first, until one fails.
3. A mutant in a line that runs on import (a constant, a default) needs a process that imports the
   changed module: a fork with everything loaded but irbench.

A mutant that uses far more time than its tests usually need is stopped and counts as killed.
Constants of a module are changed as well, such as thresholds; docs/testing.md says why no other
tool is used.

Try: ``python benchmarks/mutation.py statistics --sample 20``
     ``python benchmarks/mutation.py``        # all modules: half an hour of CPU time, or more
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib
import itertools
import json
import os
import random
import re
import resource
import signal
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path

import hypothesis
import pytest
from mutants import Mutant, Places, functions, mutants

ROOT = Path(__file__).resolve().parents[1]
REASONS = ROOT / "docs" / "testing.md"
# name -> the module, and the tests whose runs are looked at; those that never enter it cost nothing
MODULES = {
    "metrics": "imaging/metrics.py imaging/test_metrics.py imaging/test_scores_exact.py "
               "core/test_metrics.py plan/test_scoring.py",
    "core.metrics": "core/metrics.py core/test_metric_rows.py core/test_metrics.py "
                    "plan/test_scoring.py",
    "gate": "compare/gate.py compare/test_gate.py compare/test_planted.py compare/test_formats.py",
    "records": "core/records.py core/test_records.py core/test_run_folder.py plan/test_scoring.py",
    "plan.compose": "plan/compose.py plan/test_planning.py plan/test_plan_variants.py "
                    "plan/test_plan_trainings.py plan/test_datasets_plan.py plan/test_config.py "
                    "plan/test_costs.py plan/test_trained_on.py plan/test_seeds.py",
    "plan.config": "plan/config.py plan/test_config.py plan/test_planning.py "
                   "plan/test_trained_on.py",
    "plan.contents": "plan/contents.py plan/test_planning.py plan/test_datasets_plan.py",
    "plan.external": "plan/external.py plan/test_checkpoint_entries.py plan/test_plan_trainings.py "
                     "catalog/test_peers.py data/test_outputs.py",
    "plan.file": "plan/file.py plan/test_file.py jobs/test_run.py jobs/test_verify.py",
    "plan.job": "plan/job.py plan/test_config.py plan/test_plan_trainings.py "
                "catalog/test_model.py",
    "plan.models": "plan/models.py plan/test_plan_variants.py plan/test_plan_trainings.py "
                   "plan/test_checkpoint_entries.py plan/test_config.py data/test_outputs.py "
                   "plan/test_seeds.py plan/test_costs.py",
    "plan.scoring": "plan/scoring.py plan/test_scoring.py core/test_metrics.py",
    "plan.single": "plan/single.py plan/test_single.py",
    "plan.sources": "plan/sources.py plan/test_sources.py plan/test_config.py",
    "plan.training_inputs": "plan/training_inputs.py plan/test_training_inputs.py",
    "plan.trained_on": "plan/trained_on.py plan/test_trained_on.py",
    "plan.variants": "plan/variants.py plan/test_plan_variants.py",
    "jobs.verify": "jobs/verify.py jobs/test_verify.py jobs/test_plugin_files.py",
    "statistics": "core/statistics.py core/test_statistics.py",
    "protocols": "catalog/protocols.py catalog/test_protocols.py",
    "degradations": "catalog/degradations.py catalog/test_protocols.py",
    "ranking": "report/facts/ranking.py report/test_ranking.py",
    "degrade": "imaging/degrade.py imaging/test_degrade.py",
    "leaks": "data/leaks.py data/test_leaks.py",
}
# imported before the forks
HEAVY = ("numpy", "scipy.stats", "scipy.ndimage", "PIL.Image", "cv2", "yaml", "jsonschema", "torch",
         "hypothesis.strategies", "pytest", "requests", "pooch", "skimage.metrics", "tabulate")
SAID = os.dup(2)    # where progress goes, also from forks


# -- forks ---------------------------------------------------------------------------------------

def forked(call: Callable[[], object], cpu: float) -> object:
    """Return what a function returns in a forked process; None if it raises, hangs or is killed.

    Args:
        call: returns what JSON can hold, but not None.
        cpu: seconds of CPU time that it may take. It may sleep for ten minutes, and longer where
            other processes use the machine.
    """
    result, to = os.pipe()
    child = os.fork()
    if not child:
        try:
            signal.alarm(int(600 + 100 * cpu))
            resource.setrlimit(resource.RLIMIT_CPU, (int(cpu) + 1, int(cpu) + 1))
            returned = json.dumps(call())
            with os.fdopen(to, "w", encoding="utf-8") as file:
                file.write(returned)
        finally:
            os._exit(0)
    os.close(to)
    with os.fdopen(result, encoding="utf-8") as file:
        text = file.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else None


class Takeover:
    """A plugin that does something else with the collected tests than to run them once."""

    def __init__(self, work: Callable[[list[pytest.Item]], object]) -> None:
        self.work, self.returned, self.failed = work, None, False

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if not session.testsfailed:     # every file could be imported
            self.returned = self.work(session.items)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed |= report.failed

    def failing(self, items: list[pytest.Item]) -> str:
        """Run tests in this process until one fails; return its name, "" if none does."""
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failed:
                return item.nodeid
        return ""


def collected(tests: list[str], folder: str, work: Callable[..., object]) -> object:
    """Import test files and return ``work(the plugin, their tests)``; None if one has an error."""
    plugin = Takeover(lambda items: work(plugin, items))
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    # the last of these would search the memory for garbage, which takes longer than a test
    without = ("cacheprovider", "faulthandler", "unraisableexception")
    pytest.main(["-qs", "-n0", *(f"-pno:{name}" for name in without), f"--basetemp={folder}/t",
                 *(f"tests/{test}" for test in tests)], plugins=[plugin])
    return plugin.returned


class Lines:
    """Notes which lines of a module run between ``start`` and ``stop``."""

    def __init__(self, path: Path) -> None:
        self.path, self.seen = str(path), set()

    def start(self) -> None:
        threading.settrace(self._call)
        sys.settrace(self._call)

    def stop(self) -> list[int]:
        sys.settrace(None)
        threading.settrace(None)
        return sorted(self.seen)

    def _call(self, frame: types.FrameType, _event: str, _arg: object) -> object:
        return self._line if frame.f_code.co_filename == self.path else None

    def _line(self, frame: types.FrameType, _event: str, _arg: object) -> object:
        self.seen.add(frame.f_lineno)
        return self._line


# -- one module ----------------------------------------------------------------------------------

KILLED, STOPPED, SURVIVES, NOT_RUN = "killed", "stopped", "survives", "no test runs it"


class Module:
    """A module and the tests that may notice a change of it."""

    def __init__(self, name: str, folder: str, seconds: float) -> None:
        """Keep ``seconds``, the time for the tests of a mutant; what is left over is not run."""
        file, *self.tests = MODULES[name].split()
        self.path, self.folder, self.seconds = ROOT / "irbench" / file, folder, seconds
        self.runs: dict[str, tuple[float, list[int]]] = {}
        self.killers: list[str] = []        # tests that noticed a mutant, the last one last
        self.source = self.path.read_text(encoding="utf-8")

    def inside(self, chosen: set[int]) -> dict:
        """Try the mutants inside functions, in forks of a process that has imported the tests.

        Returns ``runs``, test -> [seconds, lines of the module that it runs], the quickest first,
        and ``outcomes``, mutant -> outcome; None stands for one that needs a fresh process.
        """
        tracer = Lines(self.path)

        def work(plugin: Takeover, items: list[pytest.Item]) -> dict:
            imported = tracer.stop()
            places = functions(self.path)
            by_name = {item.nodeid: item for item in items}
            # what irbench reads once in a process, forks have read
            plugin.failing(list({item.path: item for item in items}.values()))
            plugin.failed = False
            _forget(self.path)
            gc.freeze()
            self.measure(plugin, by_name)
            self.control(plugin, by_name)
            say(f"{len(self.runs)} of {len(items)} tests run lines of {self.path.name}, in "
                f"{sum(seconds for seconds, _ in self.runs.values()):.1f} s")
            outcomes = {}
            for i, mutant in enumerate(mutants(self.source)):
                if i in chosen:
                    fitting = [name for name, (_, lines) in self.runs.items()
                               if mutant.meets(lines)]
                    outcomes[i] = (None if mutant.meets(imported) else NOT_RUN if not fitting
                                   else self._put(plugin, mutant, places,
                                                  [by_name[name] for name in fitting]))
                    _say_survives(mutant, outcomes[i])
            return {"runs": self.runs, "outcomes": outcomes}

        tracer.start()
        return collected(self.tests, self.folder, work)

    def measure(self, plugin: Takeover, items: dict[str, pytest.Item]) -> None:
        """Learn how long each test takes and which lines of the module it runs."""
        def run(item: pytest.Item) -> tuple[float, list[int]] | None:
            tracer, start = Lines(self.path), time.process_time()
            tracer.start()
            failed = plugin.failing([item])
            lines = tracer.stop()
            return None if failed else (time.process_time() - start, lines)

        for name, item in items.items():
            found = forked(functools.partial(run, item), self.seconds)
            if not found:
                say(f"left out, since it fails unchanged, or takes over {self.seconds:g} s: {name}")
            elif found[1]:
                self.runs[name] = found
        self.runs = dict(sorted(self.runs.items(), key=lambda run: run[1][0]))

    def control(self, plugin: Takeover, items: dict[str, pytest.Item]) -> None:
        """Leave out tests that fail with the unchanged module if they run after the others."""
        def run() -> str:
            return plugin.failing(self._sorted([items[name] for name in self.runs]))

        while (failing := forked(run, 60 + 5 * self.seconds)) != "":
            if failing is None:
                raise RuntimeError(f"the tests of {self.path.name} hang if they run in turn")
            say(f"left out, since it fails after other tests: {failing}")
            del self.runs[failing]

    def _put(self, plugin: Takeover, mutant: Mutant, places: Places,
             items: list[pytest.Item]) -> str | None:
        """Run the tests with the functions of a mutant; None if it cannot be put in place."""
        changed, chosen = mutant.changed(self.path, places), self._sorted(items)
        if not changed:
            return None

        def run() -> str:
            for function, code in changed:
                function.__code__ = code
            return plugin.failing(chosen)

        return self._outcome(run, sum(self.runs[item.nodeid][0] for item in chosen))

    def afresh(self, mutant: Mutant) -> str:
        """Run the tests with a mutant that is imported in place of the module's file."""
        usual = SourceFileLoader.get_code

        def get_code(loader: SourceFileLoader, name: str) -> object:
            return (compile(mutant.tree, self.path, "exec") if Path(loader.path) == self.path
                    else usual(loader, name))

        def work(plugin: Takeover, items: list[pytest.Item]) -> str:
            wanted = [item for item in items if item.nodeid in self.runs]
            # a test is missing if a change of a constant has taken it away
            return ("missing" if len(wanted) < len(self.runs)
                    else plugin.failing(self._sorted(wanted)))

        def run() -> object:
            SourceFileLoader.get_code = get_code
            found = collected(self.tests, self.folder, work)
            return "not collected" if found is None else found

        return self._outcome(run, min(self.seconds, sum(runs[0] for runs in self.runs.values())))

    def _sorted(self, items: list[pytest.Item]) -> list[pytest.Item]:
        """Return the quickest tests that fit into the time; those that failed last come first."""
        items = sorted(items, key=lambda item: list(self.runs).index(item.nodeid))
        taken = itertools.accumulate(self.runs[item.nodeid][0] for item in items)
        items = [item for item, spent in zip(items, taken, strict=True) if spent < self.seconds]
        return sorted(items, key=lambda item: (
            -self.killers.index(item.nodeid) if item.nodeid in self.killers else 1))

    def _outcome(self, run: Callable[[], str], usual: float) -> str:
        """Return SURVIVES if no test fails, KILLED if one does, STOPPED if they take far longer."""
        failing = forked(run, 5 + 3 * usual)
        if failing in self.runs:
            self.killers = [*(one for one in self.killers if one != failing), failing]
        return STOPPED if failing is None else KILLED if failing else SURVIVES


def _forget(path: Path) -> None:
    """Empty the caches of a module and of all modules that import it, themselves or by others."""
    loaded = {name: module for name, module in sys.modules.items()
              if name.partition(".")[0] in ("irbench", "tests")}
    uses = {name: {getattr(value, "__name__" if isinstance(value, types.ModuleType)
                           else "__module__", None) for value in vars(module).values()}
            for name, module in loaded.items()}
    affected = {name for name, module in loaded.items() if module.__file__ == str(path)}
    while more := {name for name in uses if uses[name] & affected} - affected:
        affected |= more
    for name in affected:
        for value in [*vars(loaded[name]).values()]:
            if hasattr(value, "cache_clear"):
                value.cache_clear()


# -- the command ---------------------------------------------------------------------------------

def say(line: str) -> None:
    os.write(SAID, f"{line}\n".encode())


def _say_survives(mutant: Mutant, outcome: str | None) -> None:
    """Say it at once: the lines of a module are printed at its end, which may be far."""
    if outcome in (SURVIVES, NOT_RUN):
        say(f"{outcome}: {mutant.text}")


def tried(name: str, options: argparse.Namespace, folder: str) -> dict:
    """Try the mutants of a module; return their number and the texts of those that survive."""
    module = Module(name, folder, options.seconds)
    texts = [mutant.text for mutant in mutants(module.source)]
    chosen = [i for i, text in enumerate(texts) if any(part in text for part in options.only)]
    if options.sample:
        chosen = random.Random(0).sample(chosen, min(options.sample, len(chosen)))
    found = forked(lambda: module.inside(set(chosen)), 10**6)
    if found is None:
        raise SystemExit(f"{name}: its tests cannot be collected: {' '.join(module.tests)}")
    module.runs = found["runs"]
    outcomes = {int(i): outcome for i, outcome in found["outcomes"].items()}
    for i, mutant in enumerate(mutants(module.source)):
        if i in chosen and outcomes[i] is None:
            outcomes[i] = module.afresh(mutant)
            _say_survives(mutant, outcomes[i])
    return {"mutants": len(texts), "tried": len(chosen),
            "stopped": list(outcomes.values()).count(STOPPED),
            "survive": [texts[i] for i in sorted(chosen) if outcomes[i] in (SURVIVES, NOT_RUN)],
            "not_run": [texts[i] for i in sorted(chosen) if outcomes[i] == NOT_RUN]}


def main() -> int:
    """Print one line per survivor and per module; return 1 if one has no reason in the docs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(MODULES)}")
    parser.add_argument("--sample", type=int, help="so many mutants of each module, by chance")
    parser.add_argument("--seconds", type=float, default=60,
                        help="CPU time for the tests of a mutant, the quickest first (60)")
    parser.add_argument("--only", nargs="+", default=[""], help="mutants that contain one of these")
    arguments = parser.parse_args()
    if unknown := set(arguments.modules) - set(MODULES):
        parser.error(f"{', '.join(unknown)}: valid are {', '.join(MODULES)}")
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    # threads do not survive a fork, also those that a test asks for
    os.environ["OMP_NUM_THREADS"] = os.environ["OMP_THREAD_LIMIT"] = "1"
    for name in HEAVY:
        importlib.import_module(name)
    hypothesis.settings.register_profile(
        "mutation", database=None, deadline=None, derandomize=True, suppress_health_check=list(
            hypothesis.HealthCheck), phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate))
    hypothesis.settings.load_profile("mutation")
    gc.freeze()     # a fork shares the memory and searches none of it for garbage
    sys.modules["cv2"].setNumThreads(1)
    # an entry that ends in ... stands for all mutants that begin so
    reasons = re.findall(r"`([a-z_.]+: [^`]+)`", REASONS.read_text(encoding="utf-8"))
    result, new = {}, 0
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.modules or MODULES:
            result[name] = tried(name, arguments, folder)
            for text in result[name]["survive"]:
                entry = f"{name}: {text}"
                known = any(entry == r or (r.endswith("...") and entry.startswith(r[:-3]))
                            for r in reasons)
                new += not known
                print("known   " if known else "SURVIVES", entry,
                      f"({NOT_RUN})" * (text in result[name]["not_run"]), flush=True)
            seconds = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
            say("{}: {tried} of {mutants} mutants tried, {stopped} stopped, {} survive; {:.0f} s "
                "of CPU so far".format(name, len(result[name]["survive"]), seconds, **result[name]))
    print(json.dumps(result))
    return int(new > 0)


if __name__ == "__main__":
    sys.exit(main())
