"""Catalog files of irbench and of users: YAML with the sections that ``SECTIONS`` names.

irbench's own files lie in ``catalog/``, one per section. A config's ``catalog_paths`` names
folders, which hold ``datasets.yaml``, ``protocols.yaml``, ..., or files, which may hold any
sections.

Try: ``python -c "from irbench.catalog import reader; print(reader.files('protocols', []))"``
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Collection, Iterable
from pathlib import Path

import yaml

from irbench.core import files as stored
from irbench.core.errors import UserError, unknown
from irbench.core.files import expanded

LARGEST = 16 * 2**20    # bytes of a YAML file
BUILTIN = Path(__file__).parent
SECTIONS = ("datasets", "protocols", "peers", "recipes", "published")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """A YAML loader in which a duplicate key is an error; YAML itself uses the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            # `<<: *name` copies another entry's keys, which may be overridden
            if key.tag != "tag:yaml.org,2002:merge" and str(key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} is defined twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def parse(path: str | Path) -> object:
    """Read a YAML (or JSON) file without duplicate keys.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a folder, not text, not valid YAML, or not plain data (see
            ``core.files.check_plain``); the message names the line or the place.
    """
    return parse_text(stored.read_text(path, LARGEST))


def parse_text(text: str) -> object:
    """Return the plain data of a YAML text. Raises ValueError as ``parse``."""
    # each caller has objects of its own, which it may change
    return pickle.loads(_pickled(text))


@functools.lru_cache(64)    # one process reads the same catalogs many times, at 20 ms each
def _pickled(text: str) -> bytes:
    try:
        _check_size(text)
        value = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"not valid YAML: {line}{error.problem}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        # of PyYAML itself, for scalars with a tag that does not fit: !!int x, !!timestamp y
        raise ValueError(f"not valid YAML: {error}") from None
    stored.check_plain(value)
    return pickle.dumps(value)


def _check_size(text: str) -> None:
    """Raise ValueError for a text that would make too many or too deeply nested objects.

    Aliases make a small text large: ten lists, each of ten times the one before, are 10**10 values.
    """
    depth, aliases = 0, False
    for count, event in enumerate(yaml.parse(text, _Loader)):
        aliases = aliases or isinstance(event, yaml.AliasEvent)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > stored.DEEPEST:
            raise ValueError(f"line {event.start_mark.line + 1}: nested deeper than "
                             f"{stored.DEEPEST} levels")
        if count > stored.MOST:
            raise ValueError(f"more than {stored.MOST:,} values")
    if aliases:
        _check_aliases(yaml.compose(text, _Loader))


def _check_aliases(root: yaml.Node) -> None:
    """Raise ValueError if aliases stand for too much, or for a part of themselves."""
    sizes: dict[int, int | None] = {}       # None: the node is being looked at

    # an alias stands for something above it, which is measured by then: no deeper than the text
    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = None
            inner = (node.value if isinstance(node, yaml.SequenceNode)
                     else (one for pair in node.value for one in pair)
                     if isinstance(node, yaml.MappingNode) else ())
            sizes[id(node)] = 1 + sum(map(size, inner))
        found = sizes[id(node)]
        if found is None:
            raise ValueError(f"line {node.start_mark.line + 1}: an alias stands for a part of "
                             "itself")
        if found > stored.MOST:
            raise ValueError(f"its aliases stand for more than {stored.MOST:,} values")
        return found

    size(root)


def files(name: str, catalog_paths: Iterable[str | Path] = ()) -> list[Path]:
    """Return the files that may hold a section: irbench's own, then the users'.

    Raises:
        UserError: a path that does not exist.
    """
    return [BUILTIN / f"{name}.yaml", *files_of_users(name, catalog_paths)]


def files_of_users(name: str, catalog_paths: Iterable[str | Path]) -> list[Path]:
    """Return the users' files that may hold a section. Raises UserError as ``files``."""
    found = []
    for given in catalog_paths:
        path = expanded(given).resolve()
        if path.is_dir():
            # a folder need not hold every section, but the folder itself must exist
            found += [path / f"{name}.yaml"] if (path / f"{name}.yaml").is_file() else []
        elif path.is_file():
            found.append(path)
        else:
            raise UserError(f"catalog_paths: {given}: no such file or folder. Give a folder that "
                            f"holds {name}.yaml, or a YAML file.")
    return found


def sections(path: Path, valid: Collection[str], kind: str) -> dict:
    """Return the content of a YAML file that is a mapping with known keys.

    Args:
        path: the file.
        valid: the keys it may have.
        kind: what the file should be, in words, for messages.

    Raises:
        UserError: not readable, not YAML, a duplicate key, or an unknown section.
    """
    try:
        content = parse(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {getattr(error, 'strerror', None) or error}. Give a YAML file "
                        f"with any of the sections {', '.join(valid)}.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not {kind}. Valid: a mapping with any of the sections "
                        f"{', '.join(valid)}.")
    for key in content:
        if key not in valid:
            raise unknown("section", key, valid, str(path))
    return content


def section(path: Path, name: str) -> dict:
    """Return one section of a catalog file, {} if it has none. Raises UserError as ``sections``."""
    entries = sections(path, SECTIONS, "a catalog").get(name) or {}
    if not isinstance(entries, dict):
        raise UserError(f"{path}: section '{name}': valid is a mapping from names to entries.")
    return entries


def listed(path: Path, name: str) -> list:
    """Return a section that is a list, [] if there is none. Raises UserError as ``sections``."""
    entries = sections(path, SECTIONS, "a catalog").get(name) or []
    if not isinstance(entries, list):
        raise UserError(f"{path}: section '{name}': valid is a list of rows.")
    return entries


def taken(path: Path, kind: str, name: str, other: Path) -> UserError:
    """Return the error for a name that two catalog files define."""
    where = (f"twice in {path}" if other == path else "already by irbench itself"
             if other.parent == BUILTIN else f"already by {other}")
    return UserError(f"{path}: the {kind} {name!r} is defined {where}. Rename one of them.")


def check_keys(where: str, entry: object, needed: set[str],
               more: Collection[str] = frozenset()) -> None:
    """Raise UserError unless a mapping has the needed keys, and no others than those and ``more``.
    """
    have = set(entry) if isinstance(entry, dict) else set()
    if not isinstance(entry, dict) or not needed <= have <= needed | set(more):
        missing, extra = needed - have, have - needed - set(more)
        raise UserError(
            f"{where}: "
            + "; ".join(filter(None, [
                f"missing {', '.join(sorted(missing))}" if missing else "",
                f"unknown {', '.join(sorted(map(str, extra)))}" if extra else ""]))
            + f". Needed: {', '.join(sorted(needed))}"
            + (f"; optional: {', '.join(sorted(more))}." if more else "."))
