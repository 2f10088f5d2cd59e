"""The changes that ``mutation.py`` tries, one expression at a time, in the syntax tree of a module.

Reads and writes nothing.

Try: ``python -c "import mutants; print(*(one.text for one in mutants.mutants('a = b < 1')))"`` in
benchmarks/
"""

from __future__ import annotations

import ast
import functools
import gc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType

Places = dict[tuple[str, int], list[FunctionType]]      # name and first line -> functions

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


@dataclass(frozen=True)
class Mutant:
    """A changed module: what is changed, its code, and the lines of the changed statement."""

    text: str
    tree: ast.Module
    lines: tuple[int, int]

    def meets(self, lines: Iterable[int]) -> bool:
        """Whether one of the lines is among those of the changed statement."""
        return any(self.lines[0] <= line <= self.lines[1] for line in lines)

    def changed(self, path: Path, places: Places) -> list[tuple[FunctionType, CodeType]]:
        """Return the functions that the change is in, with their new code.

        [] if it cannot be put into functions: on a line with two functions of one name, or where
        the change takes away a variable of the function around it.
        """
        codes = list(_codes(compile(self.tree, path, "exec")))
        new = {_place(code): code for code in codes}
        found = [(f, new[place]) for place, known in places.items() for f in known
                 if place in new and f.__code__ != new[place]]
        fits = len(new) == len(codes) and all(
            f.__code__.co_freevars == code.co_freevars for f, code in found)
        return found if fits else []


def functions(path: Path) -> Places:
    """Return the functions of a module that are in memory, by name and first line."""
    places: Places = {}
    for f in gc.get_objects():
        if isinstance(f, FunctionType) and f.__code__.co_filename == str(path):
            places.setdefault(_place(f.__code__), []).append(f)
    return places


def _place(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _codes(code: CodeType) -> Iterator[CodeType]:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield inner
            yield from _codes(inner)


def mutants(source: str) -> Iterator[Mutant]:
    """Yield a changed module for every place of a source; it is valid until the next one.

    Messages (f-strings, the arguments of ``raise``), annotations and docstrings are left alone.
    """
    tree = ast.parse(source)

    def visit(parent: ast.AST, where: str, lines: tuple[int, int] | None) -> Iterator[Mutant]:
        for field, value in ast.iter_fields(parent):
            if field in ("annotation", "returns") or isinstance(parent, ast.Raise):
                continue
            places = value if isinstance(value, list) else [value]
            for i, node in enumerate(places):
                if not isinstance(node, ast.AST) or isinstance(node, ast.JoinedStr):
                    continue
                put = (functools.partial(value.__setitem__, i) if places is value
                       else functools.partial(setattr, parent, field))
                # the lines of a simple statement, or of one expression in the head of another
                mine = lines or ((node.lineno, node.end_lineno) if hasattr(node, "lineno")
                                 and not hasattr(node, "body") else None)
                # a constant says little without what it stands in
                shown = parent if isinstance(node, ast.Constant) else node
                before = short(shown)
                for new in replacements(node):
                    put(ast.fix_missing_locations(ast.copy_location(new, node)))
                    after = short(shown if shown is parent else new)
                    change = (f"{before} -> {after}" if before != after
                            else f"{short(node)} -> {short(new)} in {before}")
                    yield Mutant(f"{where}: {change}".lstrip(": "), tree,
                                 mine or (node.lineno, node.end_lineno))
                    put(node)
                named = isinstance(node, (ast.FunctionDef, ast.ClassDef))
                yield from visit(node, f"{where}.{node.name}".lstrip(".") if named else where,
                                 mine)

    yield from visit(tree, "", None)


def short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 90 else f"{text[:60]} ... {text[-25:]}"
