"""Can the tests fail? Change one expression of a module at a time, and run the tests that cover it.

A change (mutant) that no test notices survives: either a test is missing, or the change has no
effect that matters. docs/testing.md lists the survivors of the second kind with their reasons; any
other survivor makes the exit code 1.

The module is changed in memory, in a forked process: no file is written. Constants of a module are
changed as well, such as thresholds; docs/testing.md says why no other tool is used.

Try: ``python benchmarks/mutation.py statistics --sample 20``
     ``python benchmarks/mutation.py``        # all modules: hours
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import functools
import importlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REASONS = ROOT / "docs" / "testing.md"
# name -> the module, and the fast tests that cover it
MODULES = {
    "statistics": "core/statistics.py core/test_statistics.py",
    "records": "core/records.py core/test_records.py",
    "protocols": "catalog/protocols.py catalog/test_protocols.py",
    "metrics": "imaging/metrics.py imaging/test_metrics.py",
    "degrade": "imaging/degrade.py imaging/test_degrade.py",
    "leaks": "data/leaks.py data/test_leaks.py",
    "gate": "compare/gate.py compare/test_gate.py compare/test_planted.py",
    "ranking": "report/facts/ranking.py report/test_ranking.py",
    "plan.compose": "plan/compose.py plan/test_planning.py plan/test_plan_variants.py",
    "plan.config": "plan/config.py plan/test_config.py",
    "plan.contents": "plan/contents.py plan/test_planning.py",
    "plan.file": "plan/file.py plan/test_file.py",
    "plan.job": "plan/job.py plan/test_planning.py plan/test_config.py",
    "plan.models": "plan/models.py plan/test_plan_variants.py plan/test_plan_trainings.py",
    "plan.sources": "plan/sources.py plan/test_sources.py",
    "plan.trained_on": "plan/trained_on.py plan/test_trained_on.py",
    "plan.variants": "plan/variants.py plan/test_plan_variants.py",
}
# imported before the forks
HEAVY = ("numpy", "scipy.stats", "scipy.ndimage", "PIL.Image", "cv2", "yaml", "jsonschema",
         "hypothesis.strategies", "pytest", "requests", "pooch", "skimage.metrics", "tabulate")
COMPARED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
            ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot,
            ast.IsNot: ast.Is}
COMPUTED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
            ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd,
            ast.BitAnd: ast.BitOr, ast.BitXor: ast.BitAnd}


def replacements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the changed copies of a node, none if it is of no kind that is changed."""
    match node:
        case ast.Compare(left, [operator, *more], right):
            yield ast.Compare(left, [COMPARED[type(operator)](), *more], right)
        case ast.BinOp(left, operator, right) if type(operator) in COMPUTED:
            yield ast.BinOp(left, COMPUTED[type(operator)](), right)
        case ast.BoolOp(operator, values):
            yield ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
        case ast.UnaryOp(ast.Not() | ast.USub(), operand):
            yield operand
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(int(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(float(value)):
            yield ast.Constant(value * 2 + (value == 0))
        case ast.Return(value) if value is not None and not isinstance(value, ast.Constant):
            yield ast.Return(ast.Constant(None))
        case ast.Raise() | ast.AugAssign():
            yield ast.Pass()
        case ast.Continue():
            yield ast.Break()


def mutants(source: str) -> Iterator[tuple[str, ast.Module]]:
    """Yield (what is changed, the changed module) for every place of a source.

    Messages (f-strings, the arguments of ``raise``), annotations and docstrings are left alone.
    """
    tree = ast.parse(source)

    def visit(parent: ast.AST, where: str) -> Iterator[tuple[str, ast.Module]]:
        for field, value in ast.iter_fields(parent):
            if field in ("annotation", "returns") or isinstance(parent, ast.Raise):
                continue
            places = value if isinstance(value, list) else [value]
            for i, node in enumerate(places):
                if not isinstance(node, ast.AST) or isinstance(node, ast.JoinedStr):
                    continue
                put = (functools.partial(value.__setitem__, i) if places is value
                       else functools.partial(setattr, parent, field))
                # a constant says little without what it stands in
                shown = parent if isinstance(node, ast.Constant) else node
                before = short(shown)
                for new in replacements(node):
                    put(ast.fix_missing_locations(ast.copy_location(new, node)))
                    after = short(shown if shown is parent else new)
                    yield f"{where}: {before} -> {after}".lstrip(": "), tree
                    put(node)
                named = isinstance(node, (ast.FunctionDef, ast.ClassDef))
                yield from visit(node, f"{where}.{node.name}".lstrip(".") if named else where)

    yield from visit(tree, "")


def short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 90 else f"{text[:60]} ... {text[-25:]}"


def survives(path: Path, tree: ast.Module, tests: list[str], seconds: float) -> bool:
    """Run the tests in a forked process with a changed module; False if one fails or hangs."""
    child = os.fork()
    if not child:
        signal.alarm(int(seconds))      # ends the process
        _run(path, tree, tests)
    return os.waitpid(child, 0)[1] == 0


def _run(path: Path, tree: ast.Module, tests: list[str]) -> None:
    """Import the changed module instead of its file; leave the process with pytest's code."""
    usual, code = SourceFileLoader.get_code, 1

    def get_code(self: SourceFileLoader, name: str) -> object:
        return compile(tree, path, "exec") if Path(self.path) == path else usual(self, name)

    with contextlib.suppress(BaseException), tempfile.TemporaryDirectory() as folder:
        SourceFileLoader.get_code = get_code
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = folder
        code = importlib.import_module("pytest").main([
            "-xq", "-n0", "-p", "no:cacheprovider", "--hypothesis-seed=0", f"--basetemp={folder}/t",
            *(f"tests/{test}" for test in tests)])
    os._exit(int(code))


def main() -> int:
    """Print one line per survivor and per module; return 1 if one has no reason in the docs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(MODULES)}")
    parser.add_argument("--sample", type=int, help="so many mutants of each module, by chance")
    parser.add_argument("--only", nargs="+", default=[""], help="mutants that contain one of these")
    arguments = parser.parse_args()
    if unknown := set(arguments.modules) - set(MODULES):
        parser.error(f"{', '.join(unknown)}: valid are {', '.join(MODULES)}")
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    for name in HEAVY:
        importlib.import_module(name)
    # an entry that ends in ... stands for all mutants that begin so
    reasons = re.findall(r"`([a-z_.]+: [^`]+)`", REASONS.read_text(encoding="utf-8"))
    result, new = {}, 0
    for name in arguments.modules or MODULES:
        file, *tests = MODULES[name].split()
        path = ROOT / "irbench" / file
        source = path.read_text(encoding="utf-8")
        start = time.monotonic()
        if not survives(path, ast.parse(source), tests, 600):
            parser.error(f"{name}: its tests fail unchanged: {' '.join(tests)}")
        limit = 10 + 5 * (time.monotonic() - start)
        texts = [text for text, _ in mutants(source)]
        chosen = [i for i, text in enumerate(texts) if any(part in text for part in arguments.only)]
        if arguments.sample:
            chosen = random.Random(0).sample(chosen, min(arguments.sample, len(chosen)))
        lived = []
        for i, (text, tree) in enumerate(mutants(source)):
            if i not in chosen or not survives(path, tree, tests, limit):
                continue
            known = any(f"{name}: {text}" == r or (
                r.endswith("...") and f"{name}: {text}".startswith(r[:-3])) for r in reasons)
            lived.append(text)
            new += not known
            print(f"{'known   ' if known else 'SURVIVES'} {name}: {text}", flush=True)
        print(f"{name}: {len(chosen)} of {len(texts)} mutants tried, {len(lived)} survive",
              file=sys.stderr, flush=True)
        result[name] = {"mutants": len(texts), "tried": len(chosen), "survive": lived}
    print(json.dumps(result))
    return int(new > 0)


if __name__ == "__main__":
    sys.exit(main())
