"""Digests of Python code that ignore prose: edits to comments or layout do not change a digest.

The digest of a file is the digest of its syntax tree without comments, docstrings, annotations,
type-only imports and layout. The digest of a job covers the files that Python would run for it: its
entry modules and everything in the package that they import, at the head of a file or inside a
function. Files are parsed, never imported. What a file contributes is kept on disk
(``digest_cache``), since each process of a run asks for it, and parsing takes seconds.

What is followed, and what is not:
    import a.b, from a import b     the file of b if b is a module, and the ``__init__`` of a
    import_module("a.b")            the same, and with f"a.{x}" every module of the package a
    find_spec("a")                  the same: the caller looks for the module in order to use it
    import_module(x)                not followed, because the name is not known
    a file outside the package      its imports of files that lie beside it, or in its own package
    other packages                  named in ``Closure.packages``; their code is not read

Try: ``python -c "from irbench.plan import sources; print(*sources.closure('cell').modules)"``
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from irbench.core import digest_cache, digests
from irbench.core.files import read_bytes, version_of

ROOT = Path(__file__).parents[1]  # of the package
# Decorators that read annotations at run time (tl.constexpr), so that these count as code.
READ_ANNOTATIONS = {"jit", "script", "register", "custom_op", "triton_op"}
# Annotations that change what a dataclass makes of a field.
KINDS_OF_FIELD = {"ClassVar", "InitVar", "KW_ONLY"}
DROPPED = {"annotation", "returns", "type_comment", "type_params", "ctx", "kind"}
INSTALLED = {"site-packages", "dist-packages"}  # folders where neighbouring files are unrelated


@dataclass(frozen=True)
class Module:
    """What one file contributes.

    Attributes:
        digest: SHA-256 (hex) of its syntax tree without prose.
        imports: (level, module, name or None) of each import, as in ``ast.ImportFrom``.
        below: packages from which any module may be imported, by a name built at run time.
    """

    digest: str
    imports: tuple[tuple[int, str, str | None], ...] = ()
    below: tuple[str, ...] = ()


@dataclass(frozen=True)
class Closure:
    """The code that entry points run.

    Attributes:
        modules: name -> digest, sorted by name.
        files: name -> path, sorted by name.
        packages: the top-level names of other packages that these modules import.
    """

    modules: dict[str, str]
    files: dict[str, Path]
    packages: frozenset[str]

    @property
    def digest(self) -> str:
        """The SHA-256 (hex) over the names and digests of all modules."""
        return digests.fingerprint(self.modules)

    def __or__(self, other: Closure) -> Closure:
        """Return the code of both."""
        return Closure(dict(sorted({**self.modules, **other.modules}.items())),
                       dict(sorted({**self.files, **other.files}.items())),
                       self.packages | other.packages)


# -- one file ----------------------------------------------------------------------------------

def of_text(text: str | bytes) -> Module:
    """Digest Python source. Text that is not valid Python is digested as bytes."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        data = text.encode() if isinstance(text, str) else text
        return Module(hashlib.sha256(data).hexdigest())
    form = _Form()
    form.statements(tree.body, "module")
    digest = hashlib.sha256("".join(form.out).encode()).hexdigest()
    return Module(digest, tuple(dict.fromkeys(form.imports)), tuple(dict.fromkeys(form.below)))


def of_file(path: Path) -> Module:
    """Digest a file of Python source; it is read again only when its size or a time changed."""
    return _of_file(path, version_of(path))


@functools.cache
def _of_file(path: Path, version: tuple[int, ...]) -> Module:
    text = read_bytes(path)

    def parsed() -> str:
        module = of_text(text)
        return json.dumps([module.digest, module.imports, module.below])

    digest, imports, below = json.loads(digest_cache.answer(
        hashlib.sha256(_parser() + text).hexdigest(), parsed))
    return Module(digest, tuple(map(tuple, imports)), tuple(below))


@functools.cache
def _parser() -> bytes:
    """Return what the form of a text depends on besides the text: this file, and Python."""
    return hashlib.sha256(read_bytes(Path(__file__)) + sys.version.encode()).digest()


class _Form:
    """Writes the canonical form of a tree, the same for every version of Python.

    Empty fields are left out, because newer versions of Python add fields that are usually empty.
    """

    def __init__(self) -> None:
        self.out: list[str] = []
        self.imports: list[tuple[int, str, str | None]] = []
        self.below: list[str] = []

    def statements(self, body: list[ast.stmt], scope: str) -> None:
        """Write the statements that do something. ``scope``: module, class or function."""
        self.out.append("[")
        for node in _effective(body):
            if isinstance(node, ast.AnnAssign):
                self._annotated(node, scope)
            else:
                self.node(node, scope)
        self.out.append("]")

    def node(self, node: ast.AST, scope: str) -> None:
        """Write a node and all below it."""
        if isinstance(node, ast.Constant):
            # ascii, because the output of repr depends on the Unicode tables of a Python version
            value = node.value
            text = hex(value) if type(value) is int else ascii(value)
            self.out.append(f"<{type(value).__name__} {text}>")
            return
        if isinstance(node, ast.Import):
            self.imports += [(0, alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            self.imports += [(node.level, node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Call):
            self._dynamic(node)
        inner = ("class" if isinstance(node, ast.ClassDef) else "function"
                 if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else scope)
        self.out.append(f"({type(node).__name__}")
        for field in node._fields:
            value = getattr(node, field, None)
            if field in DROPPED or value is None or value == []:
                continue
            self.out.append(f" {field}=")
            self._value(value, inner)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self._read_annotations(node)
        self.out.append(")")

    def _value(self, value: object, scope: str) -> None:
        if isinstance(value, ast.AST):
            self.node(value, scope)
        elif isinstance(value, list) and isinstance(value[0], ast.stmt):
            self.statements(value, scope)
        elif isinstance(value, list):
            self.out.append("[")
            for one in value:
                self._value(one, scope)
                self.out.append(",")
            self.out.append("]")
        else:
            self.out.append(ascii(value))

    def _annotated(self, node: ast.AnnAssign, scope: str) -> None:
        """Write ``x: int = 1`` as ``x = 1``; in a class, write it as the field that it declares."""
        if scope == "class":
            kinds = sorted(KINDS_OF_FIELD & _names(node.annotation))
            self.out.append(f"(Field {' '.join(kinds)} ")
        elif node.value:
            self.node(ast.Assign(targets=[node.target], value=node.value), scope)
            return
        else:  # the annotation makes the name a local variable
            self.out.append("(Declare ")
        self.node(node.target, scope)
        if node.value:
            self.node(node.value, scope)
        self.out.append(")")

    def _read_annotations(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if any(READ_ANNOTATIONS & _names(decorator) for decorator in node.decorator_list):
            arguments = [one for one in ast.walk(node.args) if isinstance(one, ast.arg)]
            for annotation in [*(one.annotation for one in arguments), node.returns]:
                self._value(annotation, "function")

    def _dynamic(self, node: ast.Call) -> None:
        """Note a module that is imported, or searched for, by a string."""
        called = getattr(node.func, "attr", getattr(node.func, "id", None))
        if called not in ("import_module", "find_spec", "__import__") or not node.args:
            return
        name = node.args[0]
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            absolute = name.value.lstrip(".")
            self.imports.append((len(name.value) - len(absolute), absolute, None))
        elif isinstance(name, ast.JoinedStr):
            self.below += [one.value.rpartition(".")[0] for one in name.values[:1]
                           if isinstance(one, ast.Constant) and "." in one.value]


def _effective(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements without docstrings, ``pass`` and code for type checkers only."""
    for node in body:
        if isinstance(node, ast.Pass) or (isinstance(node, ast.Expr)
                                          and isinstance(node.value, ast.Constant)):
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            continue
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name | ast.Attribute) and (
                "TYPE_CHECKING" in (getattr(node.test, "id", ""), getattr(node.test, "attr", ""))):
            yield from _effective(node.orelse)
            continue
        yield node


def _names(node: ast.AST) -> set[str]:
    return {getattr(one, "id", getattr(one, "attr", "")) for one in ast.walk(node)}


def of_modules(*names: str) -> str:
    """Return one SHA-256 (hex) over the named modules of irbench, without what they import."""
    return digests.fingerprint({name: of_file(_needed(name, ROOT)[-1].path).digest
                                for name in names})


# -- what it imports ---------------------------------------------------------------------------

@dataclass(frozen=True)
class _Source:
    """A file that runs: its module name, and the folder from which its own imports are resolved."""

    label: str
    path: Path
    home: Path | None = None    # None: the file is part of the package


def closure(entries: Iterable[str | Path], outside: Collection[str] = (), root: Path = ROOT,
            texts: Mapping[Path, str] | None = None) -> Closure:
    """Return the code that entry points run.

    Args:
        entries: names of modules of the package, or paths of files outside it.
        outside: modules that are not followed when something imports them: by name, or as
            ``package.*`` a package and all below it. An entry counts even if it is one of these.
        root: the package's folder, named as the package is. Its files are listed once a process.
        texts: source texts to use instead of some files of the package.

    Raises:
        FileNotFoundError: an entry does not exist.
    """
    texts = texts or {}
    waiting: list[_Source] = []
    for entry in entries:
        if isinstance(entry, Path):
            waiting.append(_outside_file(entry, top(entry)))
        else:
            *packages, own = _needed(entry, root)
            waiting += [own, *(one for one in packages if not _is_in(one.label, outside))]
    found: dict[str, tuple[Path, Module]] = {}
    strangers: set[str] = set()
    while waiting:
        source = waiting.pop()
        if source.label in found:
            continue
        module = (of_text(texts[source.path]) if source.path in texts else of_file(source.path))
        found[source.label] = source.path, module
        for names in _imported(module, source, root):
            run = next(filter(None, (_run_by(name, source, root) for name in names)), [])
            if not run:
                strangers.add(names[-1].partition(".")[0])
            elif not _is_in(run[-1].label, outside):
                waiting += [one for one in run if not _is_in(one.label, outside)]
    ordered = sorted(found.items())
    return Closure({label: module.digest for label, (_, module) in ordered},
                   {label: path for label, (path, _) in ordered}, frozenset(strangers))


def _is_in(label: str, outside: Collection[str]) -> bool:
    parts = label.split(".")
    return label in outside or any(f"{'.'.join(parts[:i])}.*" in outside
                                   for i in range(1, len(parts) + 1))


def _imported(module: Module, source: _Source, root: Path) -> Iterator[list[str]]:
    """Yield for each import the names it may mean: for ``from a import b``, a.b or else a."""
    package = source.label.split(".")
    if source.path.name != "__init__.py":
        package.pop()
    for level, name, member in module.imports:
        parts = package[:len(package) - level + 1] if level else []
        parts = [*parts, name] if name else parts
        wanted = [".".join(one) for one in ([*parts, member] if member else [], parts) if one]
        if wanted:
            yield wanted
    for name in module.below:
        yield from ([label] for label in _files(root) if label.rpartition(".")[0] == name)


def _run_by(name: str, importer: _Source, root: Path) -> list[_Source]:
    """Return the files that run on import, packages first; [] for a module that lies elsewhere."""
    first = name.partition(".")[0]
    if first == root.name:
        return _inside(name, root)
    if importer.home is None:
        return []
    own = importer.label.partition(".")[0]
    for place in (importer.path.parent, importer.home):
        if (place.name not in INSTALLED or first == own) and (run := _beside(place, name)):
            return [_outside_file(path, importer.home) for path in run]
    return []


@functools.cache
def _files(root: Path) -> dict[str, Path]:
    """Return every module of a package by name."""
    return {_label(path, root.parent): path for path in sorted(root.rglob("*.py"))}


def _inside(name: str, root: Path) -> list[_Source]:
    known, parts = _files(root), name.split(".")
    if name not in known:
        return []
    labels = (".".join(parts[:i]) for i in range(1, len(parts) + 1))
    return [_Source(label, known[label]) for label in labels if label in known]


def _needed(name: str, root: Path) -> list[_Source]:
    run = _inside(name, root)
    if not run:
        raise FileNotFoundError(f"{root}: no module {name}")
    return run


def _beside(place: Path, name: str) -> list[Path]:
    """Return the files that importing a module of a folder runs."""
    *packages, last = name.split(".")
    run = []
    for package in packages:
        place /= package
        if (init := place / "__init__.py").is_file():
            run.append(init)
    for file in (place / last / "__init__.py", place / f"{last}.py"):
        if file.is_file():
            return [*run, file]
    return []


def _outside_file(path: Path, home: Path) -> _Source:
    return _Source(_label(path, home), path, home)


def _label(path: Path, home: Path) -> str:
    """Return a file's module name, which does not depend on where its folder lies."""
    parts = path.relative_to(home).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def top(path: Path) -> Path:
    """Return the folder that holds a file, or the outermost package that the file is in."""
    folder = path.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder
