"""A config becomes typed jobs."""

from irbench.plan.build import Job, Plan, build, load

__all__ = ["Job", "Plan", "build", "load"]
