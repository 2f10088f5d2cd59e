"""How many CPU threads a job that measures time takes, if nobody says it.

Latencies with different numbers of threads do not compare. A measurement that is made again by hand
has the threads that its run was measured with, so that it does not drop out of plots and ratios.

Reads the run's records; writes nothing.

Try: ``python -c "from irbench import plan; from irbench.jobs import threads
planned = plan.load('config.yaml')
print(threads.usual(planned, next(iter(planned.profiles.values()))))"``
"""

from __future__ import annotations

from collections import Counter

from irbench.core import machine
from irbench.core.run_folder import RunFolder
from irbench.plan import Job, Plan


def usual(plan: Plan, job: Job) -> tuple[int, str]:
    """Return the threads that a measurement takes, and why, as the end of a sentence.

    They are those of the record that it replaces; without one, the most common of the run's other
    profiles; otherwise all cores, as the workflow takes. Records of other machines do not count.
    """
    if count := _measured_with(job):
        return count, "as in the record that it replaces"
    if known := of_others(plan, job):
        count, times = known.most_common(1)[0]
        return count, (f"as in {times} of the {known.total()} other profiles of the run" if
                       known.total() > 1 else "as in the other profile of the run")
    return machine.usable_cores(), ("all cores, as in the workflow, since no record of the run on "
                                    "this kind of machine says otherwise")


def of_others(plan: Plan, job: Job, but: str | None = None) -> Counter[int]:
    """Return threads -> how many of the run's other profiles on this kind of machine have them.

    ``but``: a device whose profiles do not count.
    """
    found = (_measured_with(one, but) for one in plan.profiles.values()
             if one.record != job.record)
    return Counter(count for count in found if count)


def differing(plan: Plan, job: Job, given: int, device: str) -> str:
    """Return a warning if most of the run's other profiles have other threads, else "".

    A GPU's latency does not depend on them.

    Args:
        plan: the run.
        job: the measurement.
        given: its threads.
        device: its device, as it was asked for.
    """
    if job.kind != "profile" or device.startswith("cuda"):
        return ""
    known = of_others(plan, job, but="cuda")
    count, times = known.most_common(1)[0] if known else (given, 0)
    if count == given:
        return ""
    others = (f"{times} of the run's {known.total()} other profiles" if known.total() > 1 else
              "the run's other profile")
    return (f"{in_words(given)}, but {others} on this kind of machine: {in_words(count)}. Such "
            "latencies do not compare: plots and ratios keep them apart. Omit --threads to measure "
            "alike.")


def in_words(count: int) -> str:
    """Return a number of threads with its noun."""
    return f"{count} thread{'s' * (count != 1)}"


def _measured_with(job: Job, but: str | None = None) -> int | None:
    """Return the threads of a job's record; None without a result of this kind of machine."""
    record = RunFolder.of_record(job.record, job.kind).load(job.kind, job.key).record
    result = (record or {}).get("result") or {}
    if not result or (but and result.get("device") == but):
        return None
    hardware = (record["provenance"] or {}).get("hardware") or {}
    if (hardware.get("cpu"), hardware.get("cores")) != machine.processor():
        return None
    return result.get("threads")
