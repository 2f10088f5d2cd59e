"""Profile a model: its cost under a protocol.

Reads   the file of a third party's model; a model in memory is measured as it is, others with
        random weights.
Writes  nothing. ``irbench.jobs.profiling.profile`` documents the method.

Try: ``irbench profile --protocol sr-x2 --model bicubic``
"""

from __future__ import annotations

from pathlib import Path

from irbench.core import messages, records
from irbench.jobs.result import USUAL, Result, RunSettings
from irbench.models import interface
from irbench.plan import Job, Plan
from irbench.weights import loading


def load() -> None:
    """Import torch and what else every profile needs; nothing is computed."""
    import irbench.jobs.profiling.profile  # noqa: F401


def run(plan: Plan, job: Job, settings: RunSettings = USUAL) -> Result:
    """Measure a model; its ``result`` is that of ``irbench.jobs.profiling.profile.profile``.

    ``settings.module`` is the network of a model in memory, ``settings.source`` its Python file.

    Raises:
        Unavailable: a third party's weights are missing, memory runs out, or there is no compiler.
        UserError: the model cannot run with its inference options.
    """
    from irbench.inference import guard  # imports torch
    from irbench.inference.seeding import seeded
    from irbench.jobs.profiling import profile

    protocol = plan.protocols[job.key["protocol"]]
    phases = records.Phases()
    model, plugins = job.model, tuple(plan.config["plugins"])
    resolved = {}
    if settings.module is not None:
        network = guard.guard(settings.module, model.name, scale=protocol.scale,
                              channels=protocol.channels, plugin=settings.source)
    elif model.external:  # the file determines its architecture
        network, digest = loading.ready(model, protocol, plan.folder,
                                        Path(plan.config["data_root"]), plugins)
        resolved = loading.resolved(network, digest)
    else:
        with seeded(0):  # what a plugin draws for its fresh weights
            network = loading.build(model, protocol, plugins)
    with phases("measure"):
        result = profile.profile(
            network, channels=protocol.channels, device=settings.device, threads=settings.threads,
            inference=model.inference, wait_quiet=settings.wait_quiet, **job.spec["profile"])
    if chosen := result.get("attention"):
        messages.say(f"attention {chosen['implementation']}: {chosen['reason']}")
    if facts := interface.diagnosis_in_words(network, result["dictionary"]):
        messages.say(f"{facts} ({result['dictionary_of']})")
    return Result(result, resolved=resolved, seconds=phases.seconds, threads=settings.threads)
