"""The jobs of a plan that measure cost: profiles, also of reference networks, and benchmarks.

What a forward pass costs follows from architecture, options and inference, not from the weights.
Models of a run that differ in their weights only share one profile (``Plan.costs``).

Reads the registry; writes nothing.

Try: ``python -c "from irbench import plan; print(*plan.load('config.yaml').profiles)"``
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from irbench.catalog.model import Model
from irbench.catalog.protocols import Protocol
from irbench.core import digests
from irbench.core.errors import UserError
from irbench.models import registry
from irbench.plan import job as jobs
from irbench.plan import models as model_entries
from irbench.plan import sources

if TYPE_CHECKING:
    from irbench.plan.compose import Plan

# what a model is called: no part of its cost
NAMES = ("name", "title", "note", "in_paper", "published_as")


def add_profile(plan: Plan, model: Model, protocol: Protocol) -> None:
    """Add the profile of a model under a protocol, or note the profile that it shares."""
    # references do not affect the results of other models
    settings = {k: v for k, v in plan.config["profile"].items() if k != "references"}
    profiled = model_entries.profiled(model)
    name = f"{protocol.id}/{model.name}"
    what = digests.fingerprint([protocol.id, {k: v for k, v in profiled.items() if k not in NAMES}])
    shared = plan.profiled.setdefault(what, name)
    if shared != name:
        plan.costs[name] = shared
        return
    jobs.add(plan.profiles, plan.run_folder, "profile",
             {"protocol": protocol.id, "model": model.name}, {
                 "protocol": protocol.definition(), "model": profiled, "profile": settings,
                 "device": plan.config["device"],
                 "code": sources.digest("profile", model, tuple(plan.config["plugins"]))}, model)


def add_references(plan: Plan, where: str) -> None:
    """Profile each reference for every profiled protocol that it supports."""
    plugins = tuple(plan.config["plugins"])
    found = model_entries.references(where, plan.config["profile"]["references"], plan.models,
                                     plugins)
    profiled = list(dict.fromkeys(job.key["protocol"] for job in plan.profiles.values()))
    for name, model in found.items():
        card = registry.get(model.arch, plugins)
        able = [p for p in map(plan.protocols.get, profiled) if card.can(p.task, p.level, p.scale)]
        if not able:
            raise UserError(f"{where}: {name} supports none of the profiled protocols of this "
                            f"run ({', '.join(profiled) or 'there are none'}); it supports "
                            f"{', '.join(card.tasks)}. Remove it.")
        for protocol in able:
            add_profile(plan, model, protocol)
        plan.models[name] = model
        plan.references.append(name)


def add_benches(plan: Plan) -> None:
    """Add the attention benchmark if the config asks for it."""
    settings = plan.config["attention_bench"]
    if settings:
        jobs.add(plan.benches, plan.run_folder, "bench", {"bench": "attention"}, {
            "bench": settings, "device": plan.config["device"], "code": sources.stage("bench")})
