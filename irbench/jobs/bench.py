"""One benchmark of a part of models, apart from any model: that of the attention implementations.

Reads and writes nothing; the table for people goes to stderr. How it is measured:
``irbench.jobs.profiling.attention``.

Try: ``irbench bench attention --n 64 --k 16 32 --samples 3``
"""

from __future__ import annotations

import sys

from irbench.core import records
from irbench.jobs.result import USUAL, Result, RunSettings
from irbench.plan import Job, Plan


def run(plan: Plan, job: Job, settings: RunSettings = USUAL) -> Result:
    """Measure what the config's section asks for; see ``measure`` for the ``result``."""
    phases = records.Phases()
    with phases("measure"):
        result = measure(job.spec["bench"], settings)
    return Result(result, seconds=phases.seconds, threads=settings.threads)


def measure(sizes: dict, settings: RunSettings) -> dict:
    """Measure, print the table on stderr and return ``irbench.jobs.profiling.attention.run``'s.

    ``sizes`` is a whole section ``attention_bench`` of a config.
    """
    from irbench.jobs.profiling import attention  # imports torch

    result = attention.run(**sizes, device=settings.device, threads=settings.threads)
    print(attention.table(result), file=sys.stderr)
    return result
