"""The benchmark of one part of models: the attention implementations.

Reads and writes nothing; a table goes to stderr. ``irbench.jobs.profiling.attention`` documents the
method.

Try: ``irbench bench attention --n 64 --k 16 32 --samples 3``
"""

from __future__ import annotations

import sys

from irbench.core import records
from irbench.jobs.result import USUAL, Result, RunSettings
from irbench.plan import Job, Plan


def run(plan: Plan, job: Job, settings: RunSettings = USUAL) -> Result:
    """Run the benchmark of the config's section; see ``measure`` for the ``result``."""
    phases = records.Phases()
    with phases("measure"):
        result = measure(job.spec["bench"], settings)
    return Result(result, seconds=phases.seconds, threads=settings.threads)


def measure(sizes: dict, settings: RunSettings) -> dict:
    """Measure, print the table on stderr, return the result of ``profiling.attention.run``.

    ``sizes`` is a complete section ``attention_bench`` of a config.
    """
    from irbench.jobs.profiling import attention  # imports torch

    result = attention.run(**sizes, device=settings.device, threads=settings.threads,
                           wait_quiet=settings.wait_quiet)
    print(attention.table(result), file=sys.stderr)
    return result
