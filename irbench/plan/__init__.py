"""A config becomes typed jobs."""

from irbench.plan.build import RESULTS, Job, Plan, build, load

__all__ = ["RESULTS", "Job", "Plan", "build", "load"]
