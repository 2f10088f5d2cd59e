"""The paths of a config: each is relative to the config's file, wherever the command runs.

The schema marks the keys that hold paths (``"format": "path"``, or ``path-template`` if the value
may hold names in braces). ``resolve`` rewrites their values to paths that are valid in the current
folder. Two kinds of config are read as they are, relative to the current folder: those that come
with irbench (``workflow/configs``), and the one that a run keeps in ``results/RUN/config.json``,
whose paths are resolved already.

Reads and writes nothing.

Try: ``python -c "from irbench.plan import config; print(config.load('config.yaml')['data_root'])"``
"""

from __future__ import annotations

import os
from pathlib import Path

from irbench.core.files import expanded
from irbench.core.run_folder import RunFolder
from irbench.plan import shipped

PATH, TEMPLATE = "path", "path-template"
BUNDLED = "bundled"     # a checkpoint that is not a path
BRACES = str.maketrans({"{": "{{", "}": "}}"})


def resolve(value: object, schema: dict, config: str | Path) -> object:
    """Return a config with its paths relative to the current folder, or absolute.

    Args:
        value: what the file holds, unchecked; parts of a wrong type are returned as they are.
        schema: the schema of a config.
        config: the path of its file.
    """
    folder = base_of(config)
    return value if not folder else _resolved(value, schema, schema.get("$defs", {}), folder)


def base_of(config: str | Path) -> str:
    """Return the folder that a config's paths are relative to; "" for the current one.

    A folder below the current one is given relative to it, so that what depends on a path does not
    change when all files are moved together.
    """
    path = expanded(config)
    if shipped.is_ours(path):
        return ""
    folder = RunFolder.working_folder(path) or path.absolute().parent
    folder, here = Path(os.path.normpath(folder)), Path.cwd()
    if folder == here:
        return ""
    return str(folder.relative_to(here) if here in folder.parents else folder)


def _resolved(value: object, schema: dict, shared: dict, folder: str) -> object:
    schema = shared[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    if "oneOf" in schema:       # of which one takes text, and one a mapping or list
        kind = {str: "string", dict: "object", list: "array"}.get(type(value))
        schema = next((one for one in schema["oneOf"] if one.get("type") == kind), {})
    if isinstance(value, dict):
        others = schema.get("additionalProperties")
        return {key: _resolved(one, known, shared, folder) if isinstance(
            known := schema.get("properties", {}).get(key, others), dict) else one
            for key, one in value.items()}
    if isinstance(value, list) and "items" in schema:
        return [_resolved(one, schema["items"], shared, folder) for one in value]
    if isinstance(value, str) and schema.get("format") in (PATH, TEMPLATE):
        return _placed(value, folder, schema["format"])
    return value


def _placed(text: str, folder: str, kind: str) -> str:
    """Put a folder before a relative path; a URL, ``bundled`` and ``~`` stay as they are."""
    if not text or "://" in text or text.startswith("~") or Path(text).is_absolute() or (
            kind == TEMPLATE and text == BUNDLED):
        return text
    return str(Path(folder.translate(BRACES) if kind == TEMPLATE else folder) / text)
