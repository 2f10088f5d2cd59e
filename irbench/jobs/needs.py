"""What a job needs of the machine that runs it: the memory that a scheduler is asked for.

A rough upper bound, from the size of the largest image and the kind of network. If it is too low,
a network runs in tiles (``irbench.inference.budget``), or the job is killed and asks for more the
next time.

Reads the headers of images that are here, or the sizes that the catalog states; writes nothing.

Try: ``python -c "from irbench import plan; from irbench.jobs import needs
p = plan.load('config.yaml'); print(needs.memory(p, next(iter(p.cells.values()))))"``
"""

from __future__ import annotations

from irbench.data import sizes
from irbench.models import registry
from irbench.plan import Job, Plan

# MB (10^6 bytes) of a job without images: Python with torch; a training's images are decoded once
# and read from files, so that its need hardly depends on their number
BASE = {"data": 1000, "leaks": 4000, "training": 8000, "cell": 3000, "profile": 8000, "bench": 8000}
# bytes for each pixel of the largest image: SwinIR in float32 takes 2,600 on the CPU; reading,
# degrading and scoring a colour image takes up to 27 (benchmarks/README.md)
LEARNED, PLAIN = 3000, 40
UNKNOWN = 4_000_000     # pixels: 2K photographs, for a set whose sizes are not known
MOST = 4                # times that a need grows after failures


def memory(plan: Plan, job: Job, failures: int = 0) -> int:
    """Return the memory that a job needs, in MB.

    Args:
        plan: the run.
        job: one of its jobs.
        failures: how often it has failed, perhaps for lack of memory: each time it gets more.
    """
    need = BASE[job.kind]
    if job.kind == "cell":
        pixels = sizes.largest(plan.entry(job.key["dataset"]), plan.config["data_root"]) or UNKNOWN
        need += pixels * (LEARNED if _has_network(plan, job) else PLAIN) // 10**6
    return need * min(1 + failures, MOST)


def _has_network(plan: Plan, job: Job) -> bool:
    model = job.model
    return not model.given and (
        model.external or registry.get(model.arch, tuple(plan.config["plugins"])).learned)
