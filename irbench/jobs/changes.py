"""What of a job changed since its record was made, in words: files by name, options by theirs.

Pure functions on specs, but for a network of the user's file, whose code is hashed. How two runs
differ is said by ``irbench.compare.inputs``, with both values.

Try: ``irbench status``
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from irbench.core import messages, records
from irbench.plan import Job, sources

CHECKPOINT = "checkpoint"


def in_words(job: Job, record: dict, plugins: tuple[str, ...]) -> str:
    """Return what differs between a record and its job, for a sentence: ``weights (tiny.pth)``.

    Args:
        job: the job as planned now.
        record: its record, which was made for another spec.
        plugins: the config's plugins.
    """
    then, found = record["spec"], []
    for part in sorted(name for name in job.spec if then.get(name) != job.spec[name]):
        if part == "model":
            found += _model(job, then.get(part) or {}, job.spec[part] or {})
        elif part == "code":
            found.append(_code(job, record, plugins))
        elif part.endswith(records.FILE_OF_METRIC):
            name = part.removesuffix(records.FILE_OF_METRIC)
            found.append(f"metric {name} (its code or weights)")
        else:
            found.append(part)
    return ", ".join(dict.fromkeys(found)) or "spec"


def lacking(job: Job) -> str:
    """Return that a job's weights or result images are not here and cannot be fetched, else ""."""
    source = job.model.checkpoint if job.model and job.kind == "cell" else None
    if not source or source.url or not source.path or source.kind == "trained" or (
            Path(source.path).exists()):
        return ""
    return f"{CHECKPOINT} {source.path}: no such file. Correct the path of models.{job.model.owner}"


def _model(job: Job, then: dict, now: dict) -> Iterator[str]:
    """Yield what changed of a model: its weights, by their file, and other fields by name."""
    names = []
    for name, *_ in records.different(then, now):
        if name != f"{CHECKPOINT}.sha256":
            names.append(name)
        elif source := job.model.checkpoint.path or job.model.checkpoint.url:
            yield f"{'result images' if job.model.given else 'weights'} ({source})"
        else:
            yield "weights"
    if names:
        yield f"model ({messages.some(names)})"


def _code(job: Job, record: dict, plugins: tuple[str, ...]) -> str:
    """Return whose code changed: the files of the user's network by name, if the record has them.
    """
    then = (record.get("provenance") or {}).get("code")
    now = sources.parts(job.kind, job.model, plugins) if then and job.model else None
    if not now:
        return "code (irbench's or a library's)"
    files = [name for name in {**then["files"], **now["files"]}
             if then["files"].get(name) != now["files"].get(name)]
    if not files or then["irbench"] != now["irbench"]:
        files.append("irbench's or a library's")
    return f"code ({messages.some(files)})"
