"""One profile: what a model costs under a protocol, with random or its own weights, as a result.

Reads   the file of a third party's model; other models are measured with fresh weights.
Writes  nothing. How it is measured: ``irbench.jobs.profiling.profile``.

Try: ``irbench profile --protocol sr-x2 --model bicubic``
"""

from __future__ import annotations

from pathlib import Path

from irbench.core import messages, records
from irbench.jobs.result import USUAL, Result, RunSettings
from irbench.models import interface
from irbench.plan import Job, Plan
from irbench.weights import loading


def run(plan: Plan, job: Job, settings: RunSettings = USUAL) -> Result:
    """Measure a model; its ``result`` is that of ``irbench.jobs.profiling.profile.profile``.

    Raises:
        Unavailable: a third party's weights are not here, memory runs out, or there is nothing to
            compile with.
        UserError: the model cannot run as its inference options say.
    """
    from irbench.inference.seeding import seeded  # imports torch
    from irbench.jobs.profiling import profile

    protocol = plan.protocols[job.key["protocol"]]
    phases = records.Phases()
    model, plugins = job.model, tuple(plan.config["plugins"])
    resolved = {}
    if model.external:  # what it is stands in its file
        network, digest = loading.ready(model, protocol, plan.folder,
                                        Path(plan.config["data_root"]), plugins)
        resolved = loading.resolved(network, digest)
    else:
        with seeded(0):  # what a plugin draws for its fresh weights
            network = loading.build(model, protocol, plugins)
    with phases("measure"):
        result = profile.profile(
            network, channels=protocol.channels, device=settings.device, threads=settings.threads,
            inference=model.inference, **job.spec["profile"])
    if chosen := result.get("attention"):
        messages.say(f"attention {chosen['implementation']}: {chosen['reason']}")
    if said := interface.diagnosis_in_words(network, result["dictionary"]):
        messages.say(f"{said} ({result['dictionary_of']})")
    return Result(result, resolved=resolved, seconds=phases.seconds, threads=settings.threads)
