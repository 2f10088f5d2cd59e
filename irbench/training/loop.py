"""The training loop: deterministic for a seed, resumable at any moment, one record at the end.

State (weights, optimiser, step, time spent, loss curve) is saved every ``save_every`` steps to a
file that is moved into place, so that a killed training continues from the last one with the same
command. On one machine with a budget in steps the result is the same bytes either way.

Writes: ``checkpoints/<protocol>/<model>.safetensors`` and, while it runs,
``training/<protocol>/<model>.state``.

Try: ``irbench train --protocol sr-x2 --model compacter``
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

from irbench import checkpoints, datasets, progress, records
from irbench.degrade import seed_of
from irbench.errors import Unavailable
from irbench.plan import Job, Plan
from irbench.training import losses
from irbench.training.data import Patches


def run(plan: Plan, job: Job, *, device: str = "cpu", threads: int = 1) -> dict:
    """Train a model for a protocol and return the training's record.

    Args:
        plan: the run.
        job: the training.
        device: ``cpu`` or ``cuda``.
        threads: CPU threads for torch.

    Raises:
        Unavailable: the training images are not here, or the loss is not a number any more.
        UserError: recipe and images do not fit.
    """
    import torch

    torch.set_num_threads(threads)
    phases = records.Phases()
    protocol = plan.protocols[job.key["protocol"]]
    model, recipe = job.model, job.model["training"]
    with phases("load"):
        batches = _patches(plan, job)
        torch.manual_seed(seed_of(job.spec["seed"], protocol.id, model["name"]))
        network = checkpoints.build(model, protocol, tuple(plan.config["plugins"]))
    state = _State(network.to(device).train(), recipe, job.fingerprint,
                   job.record.with_suffix(".state"))
    with phases("train"):
        _train(state, recipe, batches, device, job.title)
    path = Path("checkpoints", protocol.id, f"{model['name']}.safetensors")
    with phases("write"):
        digest = checkpoints.save(
            plan.folder / path, network.state_dict(), model, protocol, steps=state.step,
            recipe=recipe, datasets=job.spec["datasets"], training=job.fingerprint)
    record = records.make(
        "training", job.key, job.spec, resolved={"checkpoint": digest}, threads=threads,
        seconds={**phases.seconds, "train": state.seconds},
        result={"steps": state.step, "seconds": round(state.seconds, 2),
                "images_seen": state.step * recipe["batch"],
                "parameters": sum(p.numel() for p in network.parameters()),
                "final_loss": _final_loss(state.curve),
                "checkpoint": {"file": path.as_posix(), "sha256": digest},
                "curve": state.curve, "device": device,
                "device_name": _device_name(device)})
    # the record is written before the state goes: dying in between costs nothing
    records.write_json(job.record, record)
    state.path.unlink(missing_ok=True)
    return record


class _State:
    """All that a training is at some step, and its file."""

    def __init__(self, network, recipe: dict, fingerprint: str, path: Path) -> None:
        import torch

        self.network, self.path, self.fingerprint = network, path, fingerprint
        self.optimiser = torch.optim.AdamW(
            network.parameters(), lr=recipe["lr"], betas=tuple(recipe["betas"]),
            weight_decay=recipe["weight_decay"])
        self.step, self.seconds, self.curve = 0, 0.0, []
        if path.exists():
            self._resume()

    def save(self) -> None:
        import torch

        with records.atomic_path(self.path) as temporary:
            torch.save({"fingerprint": self.fingerprint, "step": self.step,
                        "seconds": self.seconds, "curve": self.curve,
                        "network": self.network.state_dict(),
                        "optimiser": self.optimiser.state_dict()}, temporary)

    def _resume(self) -> None:
        import torch

        try:
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever a damaged file makes torch raise
            progress.say(f"{self.path}: not readable ({type(error).__name__}); starting over")
            return
        if saved["fingerprint"] != self.fingerprint:
            progress.say(f"{self.path}: from another recipe, data or code; starting over")
            return
        self.network.load_state_dict(saved["network"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.step, self.seconds, self.curve = saved["step"], saved["seconds"], saved["curve"]
        progress.say(f"{self.path}: continuing after step {self.step}")


def _train(state: _State, recipe: dict, batches: Patches, device: str, title: str) -> None:
    import torch

    loss_of = losses.make(recipe)
    total = recipe["steps"]
    begun = time.perf_counter() - state.seconds
    sums: list[float] = []
    budget = _budget(state, recipe)
    for _ in (progress.track(budget, title, total, state.step) if total else
              progress.track_seconds(budget, title, recipe["seconds"])):
        share = state.step / total if total else state.seconds / recipe["seconds"]
        lr = learning_rate(recipe, share)
        for group in state.optimiser.param_groups:
            group["lr"] = lr
        # what a model draws at random (k, dropout) also depends on the step alone
        torch.manual_seed(seed_of(batches.seed, title, state.step))
        inputs, targets = (torch.from_numpy(part).to(device) for part in batches(state.step))
        loss = loss_of(state.network(inputs), targets)
        value = loss.item()
        if not math.isfinite(value):
            raise Unavailable(f"{title}: the loss is {value} at step {state.step}. Lower `lr`, "
                              f"set `grad_clip`, or start over (delete {state.path}).")
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if recipe["grad_clip"] is not None:
            torch.nn.utils.clip_grad_norm_(state.network.parameters(), recipe["grad_clip"])
        state.optimiser.step()
        state.step += 1
        state.seconds = time.perf_counter() - begun
        sums.append(value)
        if state.step % _stride(recipe) == 0 or state.step == total:
            state.curve.append({"step": state.step, "loss": sum(sums) / len(sums), "lr": lr,
                                "seconds": round(state.seconds, 2)})
            sums = []
        # only where the curve has a point: a resumed training has lost no part of an average
        if state.step % recipe["save_every"] == 0 and not sums:
            state.save()
    if sums:
        state.curve.append({"step": state.step, "loss": sum(sums) / len(sums), "lr": lr,
                            "seconds": round(state.seconds, 2)})
    state.save()


def _stride(recipe: dict) -> int:
    """Steps per point of the loss curve: a divisor of save_every, near 1/50 of the budget."""
    wanted = max(1, (recipe["steps"] or 500) // 50)
    return max(d for d in range(1, recipe["save_every"] + 1)
               if recipe["save_every"] % d == 0 and d <= wanted)


def _final_loss(curve: list[dict]) -> float:
    """Mean loss over the last tenth of the curve: a single batch says little."""
    last = curve[-max(1, len(curve) // 10):]
    return sum(point["loss"] for point in last) / len(last)


def _budget(state: _State, recipe: dict) -> Iterator[float]:
    """Yield what is spent until nothing is left: steps or seconds, earlier ones included."""
    if recipe["steps"] is not None:
        while state.step < recipe["steps"]:
            yield state.step
    else:
        while state.seconds < recipe["seconds"]:
            yield state.seconds


def learning_rate(recipe: dict, share: float) -> float:
    """Return the learning rate after ``share`` (0 to 1) of the budget: linear warm-up, cosine."""
    warmup = recipe["warmup"]
    if share < warmup:
        # never zero: the first step counts too
        return recipe["lr"] * max(share / warmup, 0.01)
    fall = (min(share, 1.0) - warmup) / max(1 - warmup, 1e-9)
    return recipe["lr"] * 0.5 * (1 + math.cos(math.pi * fall))


def _patches(plan: Plan, job: Job) -> Patches:
    protocol = plan.protocols[job.key["protocol"]]
    images, names = [], []
    for name in job.spec["model"]["training"]["data"]:
        data = datasets.obtain(plan.entry(name), Path(plan.config["data_root"]))
        if protocol.paired:
            for item, target in data.pairs():
                images.append((item.load(), target.load()))
                names.append(f"{name}/{item.name}")
            continue
        for item in data.role("hr"):
            images.append(item.load())
            names.append(f"{name}/{item.name}")
    return Patches(images, names, protocol, job.spec["model"]["training"], job.spec["seed"])


def _device_name(device: str) -> str:
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    return records.provenance()["hardware"]["cpu"]
