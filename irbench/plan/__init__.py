"""A config becomes typed jobs."""

from irbench.plan.build import Plan, build, load
from irbench.plan.job import Job

__all__ = ["Job", "Plan", "build", "load"]
