"""The settings and results of all kinds of jobs, and how a result becomes a record.

Every kind has ``run(plan, job, settings) -> Result`` (``irbench.jobs.run``). Only this module
creates records; ``write`` stores them.

Try: ``python -c "from irbench.jobs.result import failure; print(failure(OSError('disk full')))"``
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from irbench.core import files, plugin_files, records
from irbench.core.errors import Paused, Unavailable, UserError, in_words
from irbench.core.files import expanded
from irbench.core.run_folder import RunFolder, partials_of
from irbench.jobs.cells.parts import Part
from irbench.plan import Job, Plan, sources

if TYPE_CHECKING:
    from torch import nn

STATUS_OF = ((Paused, "paused"), (Unavailable, "unavailable"))     # any other error: failed
DECISIVE = ("status", "reason", "spec", "resolved", "result", "attempt")


@dataclass(frozen=True)
class RunSettings:
    """How a job runs. This is not part of its spec; a kind ignores settings that it does not need.

    Attributes:
        device: ``cpu``, ``cuda`` or ``mps``; ``irbench.jobs.run`` takes every name of
            ``irbench.inference.devices``.
        threads: CPU threads for torch, in each process.
        progress: whether a cell shows its progress.
        keep_images: whether a cell keeps restored images even if the config does not request it.
        limit: how many images of its set a cell restores; None for all. The result has another
            spec, so that it never counts as the set's.
        part: the part of its images that a cell restores, for a later job that takes them over
            (``irbench.jobs.parts``); None for all.
        module: the network of a cell's or a profile's model that is in memory only (``MODULE``); it
            is moved, cast and guarded in place.
        source: the Python file that ``module`` was made from; None if there is none.
        max_minutes: wall time after which a training stops cleanly; None for no limit.
        tensorboard: whether a training also writes TensorBoard's files.
        compile: whether a training runs its network through torch.compile.
        channels_last: whether a training keeps weights and images in torch's NHWC layout.
        graph: whether a training replays its network's passes as CUDA graphs.
        keep_state: whether a training keeps its last state until its record has been seen.
        workers: threads of a cell that load and score images beside the one that runs the network;
            None for what suits the device (``workers_beside``).
        continues: whether a cell keeps what is done in a file beside its record, and goes on there.
        wait_quiet: seconds that a profile or benchmark may wait for a quiet machine.
        load: how a cell gets its network; None loads it (``irbench.jobs.evaluate.load_network``).
    """

    device: str = "cpu"
    threads: int = 1
    progress: bool = False
    keep_images: bool = False
    limit: int | None = None
    part: Part | None = None
    module: nn.Module | None = None
    source: Path | None = None
    max_minutes: float | None = None
    tensorboard: bool = False
    compile: bool = False
    channels_last: bool = False
    graph: bool = False
    keep_state: bool = False
    workers: int | None = None
    continues: bool = False
    wait_quiet: float = 0.0
    load: Callable[..., tuple[nn.Module, dict]] | None = None

    def workers_beside(self, device: str, network: bool = True) -> int:
        """Return how many threads load and score images beside the one that runs the network.

        On a GPU, as many as the job has cores. On the CPU none: a network takes all cores there,
        and its memory is measured by that of the process (``irbench.inference.budget``). Without a
        network, one less than the job has cores.
        """
        if self.workers is not None:
            return self.workers
        return self.threads - 1 if not network else 0 if device == "cpu" else self.threads

    def keeps(self, requested: bool) -> bool:
        """Return whether a cell writes its images; those of a part of a set would replace a run's.

        ``requested``: whether the config requests it.
        """
        return self.limit is None and (self.keep_images or requested)


USUAL = RunSettings()


@dataclass(frozen=True)
class Result:
    """The result of a job. See ``irbench.core.records.make`` for the content of a record.

    Attributes:
        result: the outcome; its form depends on the kind. None unless the status is ``ok``.
        resolved: inputs that became known only at run time (digests of weights).
        seconds: wall time per phase.
        threads: CPU threads used; None if they do not matter.
        status: ``ok``, ``unavailable``, ``failed`` or ``paused``.
        reason: why there is no result, one sentence for people.
        spec: the job's spec, completed while the job ran; None if it is unchanged.
        code: digests of the parts of its code (``irbench.plan.sources.parts``).
    """

    result: dict | None = None
    resolved: dict = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    threads: int | None = None
    status: str = "ok"
    reason: str | None = None
    spec: dict | None = None
    code: dict | None = None


def expected(error: BaseException) -> bool:
    """Return whether an error comes from the input or the machine; any other is a bug."""
    return isinstance(error, UserError | OSError | MemoryError)


def failure(error: BaseException) -> Result:
    """Return the result of a job that ended with this error."""
    reason = (str(error) if expected(error) else "") or (
        f"{type(error).__name__}: {error}" if isinstance(error, Exception) else
        f"the model's code ended the job: {in_words(error)}")
    status = next((status for kind, status in STATUS_OF if isinstance(error, kind)), "failed")
    return Result(status=status, reason=reason)


def with_plugin_files(found: Result, plan: Plan, job: Job,
                      source: Path | None = None) -> Result:
    """Return a result with the files in ``resolved`` that plugins used and its spec does not cover.

    ``source`` is that of the settings.
    """
    noted = [one for path, whole in plugins_of(plan, job, source)
             for one in plugin_files.used([path], whole)]
    found = replace(found, code=_parts(plan, job))
    return replace(found, resolved={**found.resolved, plugin_files.NOTED: noted}
                   ) if noted else found


def _parts(plan: Plan, job: Job) -> dict | None:
    """Return the digests of the parts of a job's code, for whoever asks later what changed.

    None if a file was edited since the job was planned: they would be of other code.
    """
    plugins = tuple(plan.config["plugins"])
    if job.model is None or job.kind not in sources.ENTRIES:
        return None
    parts = sources.parts(job.kind, job.model, plugins)
    same = parts and sources.digest(job.kind, job.model, plugins) == job.spec.get("code")
    return parts if same else None


def plugins_of(plan: Plan, job: Job, source: Path | None = None) -> list[tuple[Path, bool]]:
    """Return the users' Python files that a job runs, and whether its spec says nothing of them."""
    plugins = tuple(plan.config["plugins"])
    own = source or (sources.own_module(job.model, plugins) if job.model else None)
    found = [(own, own == source)] if isinstance(own, Path) else []
    if job.kind == "cell":
        found += [(expanded(one).resolve(), False)
                  for one in plan.config.get("metric_plugins", ())]
    return found


def record_of(job: Job, found: Result, attempt: int = 0) -> dict:
    """Return the record of a job.

    Args:
        job: the job.
        found: its result.
        attempt: the number of earlier failed attempts.

    Raises:
        UserError: a record cannot hold the result, for example because of a NaN.
    """
    return records.make(
        job.kind, job.key, job.spec if found.spec is None else found.spec, status=found.status,
        reason=found.reason, resolved=found.resolved, result=found.result, seconds=found.seconds,
        attempt=attempt, threads=found.threads, code=found.code)


def write(job: Job, record: dict) -> None:
    """Store a job's record; an equivalent old record is left in place."""
    folder = RunFolder.of_record(job.record, job.kind)
    old = folder.load(job.kind, job.key).record or {}
    if any(old.get(name) != record[name] for name in DECISIVE):
        files.set_folder_aside(job.record)
        folder.write(record)
    if record["status"] == "ok":
        forget_partials(job)


def forget_partials(job: Job) -> None:
    """Remove the files of finished images of a cell, and of its parts, whose record is stored."""
    for path in partials_of(job.record) if job.kind == "cell" else ():
        path.unlink(missing_ok=True)
