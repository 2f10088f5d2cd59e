"""Python files of users that hold a literal table: models (``CARDS``) and metrics (``METRICS``).

The table is read from the source text, so that planning a run imports none of these files. Reads
the files; writes nothing.

The digest of a job's code covers a file and what its import statements name beside it
(``irbench.core.code``). What else its code uses is known only when it runs: modules found through
``sys.path`` or by a computed name, and the files that it opens. While such code runs (``noting``)
they are noted, and the job's record holds them with their digests (``used``), so that a later
change is noticed (``changed``).

    noted       files that Python opens for reading, in this thread: modules, open(), np.load,
                torch.load; also a file that is not there, because it may come. Files that a
                compiled library opens by itself (safetensors, cv2, h5py): those with a suffix of
                ``UNHEARD`` whose name is a text in the code, beside it or in a folder named so.
    not noted   installed packages, Python itself, the system's files and caches; environment
                variables, the list of a folder, whether a file exists, the network, other programs

Try: ``python -c "from pathlib import Path; from irbench.core import plugin_files;
print(plugin_files.table(Path('my_model.py'), 'CARDS', 'plugin'))"``
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from types import CodeType, ModuleType

from irbench.core import code, digests, files
from irbench.core.errors import UserError, in_words

# what a record's ``resolved`` calls the files that plugins used
NOTED = "plugin_files"
# of files that are read by compiled libraries, which Python does not hear of
UNHEARD = (".safetensors", ".h5", ".hdf5", ".so", ".onnx", ".bin", ".png", ".jpg", ".jpeg", ".bmp",
           ".tif", ".tiff", ".webp", ".exr", ".hdr")
# folders of the system; of caches and settings of programs, by their names
SYSTEM = tuple(map(Path, ("/proc", "/sys", "/dev", "/etc", "/run", "/usr/lib", "/usr/share",
                          "/lib", "/lib64")))
CACHES = {".triton", ".config", "matplotlib", "fontconfig"}
# audit event -> which of its arguments is a file; an import names one for a compiled module only
HEARD = {"open": 0, "import": 1, "ctypes.dlopen": 0, "os.rename": 1}
LIBRARIES = (code.ROOT, *(Path(sysconfig.get_path(name)) for name in (
    "stdlib", "platstdlib", "purelib", "platlib")))

# the plugin whose code runs now, in this thread
_running: ContextVar[Path | None] = ContextVar("plugin", default=None)
# plugin -> path of each file that its code opened -> whether the file was there
_opened: dict[Path, dict[str, bool]] = {}
# plugin -> each file that it used -> the file's digest when that was first known
_seen: dict[Path, dict[Path, str | None]] = {}
# files that plugins' code writes itself, such as a cache: how they are in the end is what counts
_written: set[Path] = set()


def table(path: Path, name: str, kind: str, about: str = "") -> dict[object, dict]:
    """Return the table of a file, a literal dict of dicts, without importing the file.

    Args:
        path: the Python file.
        name: the name that the file gives the table.
        kind: what the file is, for messages: ``plugin``.
        about: a sentence on the table, for the message that a file has none.

    Raises:
        UserError: the file cannot be read or parsed, or has no such table, or one that is no
            literal, of another form, or with a key twice.
    """
    where = f"{kind} {path}"
    valid = f"Give the path of a Python file that holds {name}."
    try:
        text = files.read_text(path)
    except OSError as error:
        raise UserError(f"{where}: {error.strerror}. {valid}") from None
    except ValueError as error:
        raise UserError(f"{where}: {error}. {valid}") from None
    try:
        tree = ast.parse(text, str(path))
    except SyntaxError as error:
        place = f"line {error.lineno}: " if error.lineno else ""
        raise UserError(f"{where}: {place}{error.msg}.") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{where}: Python cannot parse it ({error}). {valid}") from None
    for node in tree.body:
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        if any(isinstance(one, ast.Name) and one.id == name for one in targets):
            return _literal(where, name, node.value)
    raise UserError(f"{where}: no {name} found. {valid} {about}".rstrip())


def _literal(where: str, name: str, node: ast.expr | None) -> dict[object, dict]:
    try:
        found = ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        raise UserError(f"{where}: {name} must be a literal (no names, no calls), so that "
                        "it can be read without importing the file.") from None
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise UserError(f"{where}: {name} must be a dict of dicts: a name -> its fields.")
    if len(found) < len(node.keys):
        names = [ast.literal_eval(key) for key in node.keys]
        twice = sorted({one for one in names if names.count(one) > 1}, key=str)
        raise UserError(f"{where}: {name} holds {', '.join(map(repr, twice))} twice. "
                        "Rename one of them.")
    return found


class _Source(importlib.machinery.SourceFileLoader):
    """Compiles the source each time: a cached file counts for every source of its size and second.
    """

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


class _Beside(importlib.abc.MetaPathFinder):
    """Finds what a plugin's code imports: first beside the plugin, as ``python FILE`` does.

    Only the modules that the import statements of the plugin's files name are looked for there, so
    that a file of the user's hides no module from other code. They, and all others that are not
    installed, are compiled from their source.
    """

    def find_spec(self, fullname: str, path: Sequence[str] | None = None,
                  target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        if (plugin := _running.get()) is None:
            return None
        first, places = fullname.partition(".")[0], path
        if path is None and first in {label.partition(".")[0] for label in _own(plugin)}:
            places = [str(folder) for folder in dict.fromkeys((plugin.parent, code.top(plugin)))]
            places += sys.path
        spec = importlib.machinery.PathFinder.find_spec(fullname, places, target)
        if (spec is not None and type(spec.loader) is importlib.machinery.SourceFileLoader
                and spec.origin and not _elsewhere(Path(spec.origin))):
            spec.loader = _Source(spec.loader.name, spec.loader.path)
        return spec


def _own(plugin: Path) -> dict[str, Path]:
    """Return the modules beside a plugin that its import statements name, and their files."""
    try:
        return {label: path for label, path in code.closure([plugin], {}, code.ROOT).files.items()
                if path != plugin and not _elsewhere(path)}
    except OSError:
        return {}


def load(path: Path, kind: str) -> ModuleType:
    """Import a file and return its module; it is imported again if it or a file it used changed.

    Raises UserError if the import fails, or ends the program (``sys.exit``).
    """
    try:
        text = files.read_text(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{kind} {path}: {getattr(error, 'strerror', None) or error}.") from None
    # files in two folders may share a name, and a file may change while a program runs
    digest = hashlib.sha256(f"{path}\n{text}".encode()).hexdigest()
    name = f"irbench_{path.stem}_{digest[:12]}"
    if any(_digest(file) != known for file, known in _seen.get(path, {}).items()
           if file not in _written):
        _forget(path)
        sys.modules.pop(name, None)
    if name not in sys.modules:
        importlib.invalidate_caches()
        spec = importlib.util.spec_from_file_location(name, path, loader=_Source(name, str(path)))
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            _check_beside(path, kind)
            with noting(path):
                spec.loader.exec_module(module)
            used([path], whole=True)    # as of now: an edit while it runs must be noticed
        except (KeyboardInterrupt, UserError):
            del sys.modules[name]
            raise
        except BaseException as error:
            del sys.modules[name]
            raise UserError(f"{kind} {path}: importing it failed: {in_words(error)}. "
                            f"Try: python {path}") from error
    return sys.modules[name]


def _check_beside(plugin: Path, kind: str) -> None:
    """Raise UserError if a name that a plugin imports stands for another file in this process."""
    for label, path in _own(plugin).items():
        file = getattr(sys.modules.get(label), "__file__", None)
        if isinstance(file, str) and Path(file).resolve() != path.resolve():
            raise UserError(f"{kind} {plugin}: it imports {label} ({path}), but {label} is {file} "
                            "in this process already, and Python has one module of a name. Rename "
                            "the file.")


def _forget(plugin: Path) -> None:
    """Make the next import of a plugin import the modules beside it anew, as they are now."""
    files_of = _seen.pop(plugin)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name != "__main__" and isinstance(file, str) and Path(file) in files_of:
            del sys.modules[name]
    for file in files_of:
        if file.suffix == ".py":
            with contextlib.suppress(OSError, NotImplementedError):
                Path(importlib.util.cache_from_source(file)).unlink()


# -- the files that their code uses --------------------------------------------------------------

@contextlib.contextmanager
def noting(plugin: Path | None) -> Iterator[None]:
    """Note the files that a plugin's code uses while a ``with`` block runs it; None: nothing.

    ``plugin`` is its path as ``load`` gets it.
    """
    if plugin is not None:
        _listen()
    before = _running.set(plugin)
    try:
        yield
    finally:
        _running.reset(before)


@functools.cache    # a hook can be added once and never be removed
def _listen() -> None:
    sys.addaudithook(_hear)
    sys.meta_path.insert(0, _Beside())


def _hear(event: str, arguments: tuple) -> None:
    """Note a file that is about to be opened for reading; an audit hook must never fail."""
    if event not in HEARD or (plugin := _running.get()) is None:
        return
    path, flags = arguments[HEARD[event]], arguments[2] if event == "open" else 0
    flags |= os.O_WRONLY if event == "os.rename" else 0
    if event == "ctypes.dlopen" and "/" not in str(path):    # searched for by the system
        return
    if isinstance(path, str | bytes):
        with contextlib.suppress(OSError, ValueError):  # such as a current folder that is gone
            path = os.path.abspath(os.fsdecode(path))  # noqa: PTH100, of the folder of this moment
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                _written.add(Path(path))
            if not flags & (os.O_WRONLY | os.O_CREAT):
                noted = _opened.setdefault(plugin, {})
                noted.setdefault(path, os.path.exists(path))  # noqa: PTH110, which takes any text


def recall(plugin: Path, resolved: dict) -> None:
    """Count files that a plugin used in an earlier process, as ``used`` told them in a record."""
    noted = _opened.setdefault(plugin, {})
    for one in resolved.get(NOTED, ()):
        noted.setdefault(os.path.abspath(one["file"]), one["sha256"] is not None)  # noqa: PTH100


def used(plugins: Iterable[Path], whole: bool = False) -> list[dict]:
    """Return the files that plugins have used so far, beyond what the digest of their code covers.

    Args:
        plugins: their paths, as ``load`` gets them.
        whole: whether no digest covers the plugins themselves, so that all their files count.

    Returns:
        For each file, sorted: ``file``, relative to the current folder if that is near, and
        ``sha256``: of its bytes, of Python code without prose; None if it was looked for in vain.
        It is the digest of when the file was first known to be used: what was computed with a file
        must not pass for that of a later edit.
    """
    found: dict[Path, str | None] = {}
    for plugin in plugins:
        try:
            covered = code.closure([plugin], {}, code.ROOT)
        except FileNotFoundError:
            continue
        own = {path for path in covered.files.values() if not _elsewhere(path)}
        beyond = _noted(plugin, covered.packages)
        beyond |= {file for path in own | beyond if path.suffix == ".py"
                   for file in _named_in(path)}
        seen = _seen.setdefault(plugin, {})
        for path in own | beyond:
            if seen.get(path) is None or path in _written:
                seen[path] = _digest(path)
            if whole or path not in own:
                found[path] = seen[path]
    return sorted(({"file": _name(path), "sha256": sha256} for path, sha256 in found.items()),
                  key=lambda one: one["file"])


def changed(resolved: dict) -> list[str]:
    """Return the files that a record's plugins used and that differ now; [] if none does."""
    noted = resolved.get(NOTED)
    return [str(one["file"]) for one in noted if isinstance(one, dict) and "file" in one
            and _digest(Path(str(one["file"]))) != one.get("sha256")
            ] if isinstance(noted, list) else []


def _noted(plugin: Path, names: frozenset[str]) -> set[Path]:
    """Return the files that a plugin's code opened, and those of modules that it imports.

    A module that another plugin imported before is not opened again: what that one used counts.
    """
    imported = {Path(file) for name, module in list(sys.modules.items())
                if name.partition(".")[0] in names
                and isinstance(file := getattr(module, "__file__", None), str)
                and Path(file).is_absolute()}
    opened = dict(_opened.get(plugin, {}))
    for other, noted in list(_opened.items()):
        if imported & {_source(name) for name in noted}:
            opened |= {name: there for name, there in noted.items() if _source(name) != other}
    # what was there and is gone was temporary; what was not there and is not may still come
    return {path for path in (*imported, *(
        _source(name) for name, there in opened.items()
        if Path(name).is_file() or not (there or Path(name).exists())))
        if not _elsewhere(path)}


def _source(name: str) -> Path:
    """Return a file, of compiled Python code that of its source."""
    with contextlib.suppress(ValueError):
        if name.endswith(".pyc"):
            return Path(importlib.util.source_from_cache(name))
    return Path(name)


def _elsewhere(path: Path) -> bool:
    """Whether a file is of an installed package, the system or a cache."""
    parts = set(path.parts)
    return (bool(parts & (code.INSTALLED | CACHES))
            or any(part.startswith("torchinductor") for part in parts)
            or any(path.is_relative_to(folder) for folder in (*LIBRARIES, *SYSTEM)))


def _named_in(path: Path) -> list[Path]:
    """Return the files of a suffix of ``UNHEARD`` whose names are texts in a file of code."""
    try:
        texts = _texts(path, files.version_of(path))
        places = [path.parent, Path.cwd(), *(
            folder for text in texts if (folder := path.parent / text).is_dir())]
        return [file for text in texts if text.lower().endswith(UNHEARD)
                for place in places if (file := place / text).is_file()]
    except OSError:
        return []


@functools.cache
def _texts(path: Path, version: tuple[int, ...]) -> tuple[str, ...]:
    """Return the short texts in a file of code."""
    try:
        nodes = ast.walk(ast.parse(path.read_bytes()))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    return tuple(sorted({node.value for node in nodes if isinstance(node, ast.Constant)
                         and isinstance(node.value, str) and 0 < len(node.value) < 200
                         and "\0" not in node.value and "\n" not in node.value}))


def _digest(path: Path) -> str | None:
    """Return the digest of a file, None if there is none; a device, say, may have no end."""
    try:
        if not path.is_file():
            return None
        return code.of_file(path).digest if path.suffix == ".py" else digests.known_digest(path)
    except (OSError, ValueError):
        return None


def _name(path: Path) -> str:
    """Return a path relative to the current folder, unless they have only the root in common."""
    near = os.path.commonpath([path, Path.cwd()]) != path.anchor
    return Path(os.path.relpath(path) if near else path).as_posix()
