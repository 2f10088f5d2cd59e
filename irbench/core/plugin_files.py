"""Python files of users that hold a literal table: models (``CARDS``) and metrics (``METRICS``).

The table is read from the source text, so that planning a run imports none of these files. Reads
the files; writes nothing.

Try: ``python -c "from pathlib import Path; from irbench.core import plugin_files;
print(plugin_files.table(Path('my_model.py'), 'CARDS', 'plugin'))"``
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from irbench.core import files
from irbench.core.errors import UserError, in_words


def table(path: Path, name: str, kind: str) -> dict[object, dict]:
    """Return the table of a file, a literal dict of dicts, without importing the file.

    Args:
        path: the Python file.
        name: the name that the file gives the table.
        kind: what the file is, for messages: ``plugin``.

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
    raise UserError(f"{where}: no {name} found. {valid}")


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


def load(path: Path, kind: str) -> ModuleType:
    """Import a file and return its module; an unchanged file is imported once.

    Raises UserError if the import fails, or ends the program (``sys.exit``).
    """
    try:
        text = files.read_text(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{kind} {path}: {getattr(error, 'strerror', None) or error}.") from None
    # files in two folders may share a name, and a file may change while a program runs
    digest = hashlib.sha256(f"{path}\n{text}".encode()).hexdigest()
    name = f"irbench_{path.stem}_{digest[:12]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except KeyboardInterrupt:
            del sys.modules[name]
            raise
        except BaseException as error:
            del sys.modules[name]
            raise UserError(f"{kind} {path}: importing it failed: {in_words(error)}. "
                            f"Try: python {path}") from error
    return sys.modules[name]
