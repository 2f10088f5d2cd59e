"""The training loop: deterministic for a seed, resumable at any moment, one record at the end.

With a budget in steps the result on one machine is the same bytes however often the training was
killed or stopped, and whatever loads the data; more processes that share the batch change it by
rounding only. Devices, processes and precision are ``accelerate``'s.

Writes: ``checkpoints/<scope>/<model>.safetensors`` (the last weights) and ``.best.safetensors``
(those of the best validation); ``training/<scope>/<model>.json`` (the record), ``.csv`` (the curve)
and, while it runs, ``.state``.

Try: ``irbench train --protocol sr-x2 --model compacter``
"""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from irbench import checkpoints, progress, records
from irbench.degrade import seed_of
from irbench.errors import Paused, Unavailable, UserError
from irbench.plan import Job, Plan
from irbench.training import curve, data, losses, validate
from irbench.training.recipe import at, learning_rate


def run(plan: Plan, job: Job, *, device: str = "cpu", threads: int = 1,
        max_minutes: float | None = None, tensorboard: bool = False) -> dict:
    """Train a model and return the training's record.

    Args:
        plan: the run.
        job: the training.
        device: ``cpu`` or ``cuda``.
        threads: CPU threads for torch, in each process.
        max_minutes: stop cleanly after this wall time; the same command goes on.
        tensorboard: also write TensorBoard's files, to ``tensorboard/`` of the run.

    Raises:
        Paused: stopped by ``max_minutes`` or a signal; the state is saved.
        Unavailable: the training images are not here, or the loss is no number or has jumped.
        UserError: recipe and images do not fit.
    """
    import torch

    from irbench.training.state import State, weights

    begun = time.monotonic()
    torch.set_num_threads(threads)
    phases = records.Phases()
    protocol, model = plan.scopes[job.key["protocol"]], job.model
    recipe = model["training"]
    engine = _engine(device, recipe)
    with phases("load"):
        with engine.main_process_first():   # one process decodes, the others find it done
            patches = data.load(plan, job, protocol)
        torch.manual_seed(seed_of(job.spec["seed"], protocol.id, model["name"]))
        network = checkpoints.build(model, protocol, tuple(plan.config["plugins"]))
        state = State(network.to(engine.device), recipe, job.fingerprint,
                      job.record.with_suffix(".state"))
        state.scaler = engine.scaler
        state.resume()
        validator = validate.Validator(patches, protocol)
    place = _Place(plan, job, protocol)
    limit = None if max_minutes is None else begun + 60 * max_minutes
    with _gentle_end() as asked, curve.Board(place.board if tensorboard else None) as board:
        _train(state, patches, validator, engine, place, board,
               lambda: asked() or (limit is not None and time.monotonic() > limit), job.title)
    if not engine.is_main_process:
        return {}
    phases.seconds["train"] = state.seconds
    with phases("write"):
        digest = place.save(weights(state), state.step)
        curve.write_csv(job.record.with_suffix(".csv"), state)
    record = records.make(
        "training", job.key, job.spec, resolved={"checkpoint": digest}, threads=threads,
        seconds=phases.seconds, result={
            "steps": state.step, "seconds": round(state.seconds, 2),
            "images_seen": _images_seen(recipe, state.step),
            "images": {"training": len(patches.images), "held_out": len(patches.held_out)},
            "parameters": sum(p.numel() for p in network.parameters()),
            "final_loss": curve.final_loss(state.curve),
            "checkpoint": {"file": place.last.as_posix(), "sha256": digest},
            "best": _best(plan.folder, place, state), "curve": state.curve,
            "validation": state.validation, "validation_on": validator.about,
            "waiting": round(state.waited / state.seconds, 4) if state.seconds else None,
            "processes": engine.num_processes, "device": device,
            "device_name": _device_name(device)})
    # the record is written before the state goes: dying in between costs nothing
    records.write_json(job.record, record)
    state.discard()
    return record


def _engine(device: str, recipe: dict):
    """Return accelerate's handle on devices, processes and precision."""
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    if recipe["precision"] == "fp16" and device == "cpu":
        raise UserError("precision fp16 trains on a GPU only. Use bf16 or no on a CPU.")
    engine = Accelerator(mixed_precision=recipe["precision"], cpu=device == "cpu",
                         kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)])
    parts = recipe["accumulate"] * engine.num_processes
    for now in (recipe, *(recipe["phases"] or ())):
        if now.get("batch", recipe["batch"]) % parts:
            raise UserError(f"a batch of {now['batch']} cannot be shared by {engine.num_processes} "
                            f"processes in {recipe['accumulate']} parts. Choose a `batch` that "
                            f"{parts} divides.")
    return engine


class _Place:
    """Where a training's weights go and what their headers say."""

    def __init__(self, plan: Plan, job: Job, protocol) -> None:
        folder, name = Path("checkpoints", protocol.id), job.model["name"]
        self.plan, self.job, self.protocol = plan, job, protocol
        self.last, self.best = folder / f"{name}.safetensors", folder / f"{name}.best.safetensors"
        self.board = plan.folder / "tensorboard" / protocol.id / name

    def save(self, weights: dict, steps: int, best: bool = False) -> str:
        """Write weights with a header in which nothing differs between two equal trainings."""
        spec = self.job.spec
        recipe = spec["model"]["training"]
        return checkpoints.save(
            self.plan.folder / (self.best if best else self.last), weights, self.job.model,
            self.protocol, steps=steps, recipe=recipe, levels=recipe["levels"],
            datasets=spec["datasets"], exclude=recipe["exclude"], training=self.job.fingerprint)


def _device_name(device: str) -> str:
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    return records.provenance()["hardware"]["cpu"]


def _best(folder: Path, place: _Place, state) -> dict | None:
    path = folder / place.best
    if not state.best or not path.exists():
        return None
    return {**state.best, "file": place.best.as_posix(), "sha256": records.file_digest(path)}


def _train(state, patches: data.Patches, validator: validate.Validator, engine, place: _Place,
           board: curve.Board, stop, title: str) -> None:
    """Take steps until the budget is spent."""
    import torch

    recipe = state.recipe
    loss_of = losses.make(recipe)
    # step by step, so that more optimisers and a resumed state need nothing of accelerate
    network = engine.prepare_model(state.network, evaluation_mode=False)
    steppers = [engine.prepare_optimizer(o) for o in state.optimisers]
    started = time.perf_counter() - state.seconds
    loader = _loader(state, patches, engine)
    budget = _budget(state, engine)
    for _ in (progress.track(budget, title, recipe["steps"], state.step) if recipe["steps"] else
              progress.track_seconds(budget, title, recipe["seconds"])):
        share = _share(state)
        lr = learning_rate(recipe, share)
        for optimiser in state.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = lr * group["share"]
        # what a model draws at random (k, dropout) also depends on the step alone
        torch.manual_seed(seed_of(patches.seed, title, state.step))
        total = torch.zeros((), device=engine.device)
        for part in range(recipe["accumulate"]):
            asked = time.perf_counter()
            inputs, targets = (t.to(engine.device, non_blocking=True) for t in next(loader))
            state.waited += time.perf_counter() - asked
            last = part == recipe["accumulate"] - 1
            with contextlib.nullcontext() if last else engine.no_sync(network):
                with engine.autocast():
                    restored = network(inputs)
                loss = loss_of(restored.float(), targets) / recipe["accumulate"]
                engine.backward(loss)
            total += loss.detach()
        value = engine.reduce(total, "mean").item()
        _check(value, state, patches, title)
        if recipe["grad_clip"] is not None:
            engine.clip_grad_norm_(network.parameters(), recipe["grad_clip"])
        for stepper in steppers:
            stepper.step()
            stepper.zero_grad()
        state.average()
        state.step += 1
        state.seconds = time.perf_counter() - started
        done = recipe["steps"] is not None and state.step == recipe["steps"]
        state.note(value, lr)
        board.add(state.step, {"loss": value, "learning rate": lr})
        every = recipe["validate_every"]
        if every and (state.step % every == 0 or done) and engine.is_main_process:
            _validate(state, validator, place, board)
            state.seconds = time.perf_counter() - started
        if engine.is_main_process and state.due():
            state.save()
        if not done and _agreed(stop(), engine):
            if engine.is_main_process:
                state.save()
                curve.write_csv(place.job.record.with_suffix(".csv"), state)
            of = f" of {recipe['steps']}" if recipe["steps"] else ""
            raise Paused(f"{title}: stopped after step {state.step}{of}; the state is saved, the "
                         "same command goes on.")
    if engine.is_main_process:
        state.close(learning_rate(recipe, _share(state)))
        state.save()


def _validate(state, validator: validate.Validator, place: _Place, board: curve.Board) -> None:
    from irbench.training.state import weights

    psnr = validator(state.averaged)
    if psnr is None:
        return
    state.validation.append({"step": state.step, "psnr": round(psnr, 4),
                             "seconds": round(state.seconds, 2)})
    board.add(state.step, {"validation PSNR (dB)": psnr})
    progress.say(f"{place.job.title}: step {state.step}, validation {psnr:.2f} dB "
                 f"({validator.about['images']} images held out)")
    if state.best is None or psnr > state.best["psnr"]:
        state.best = {"step": state.step, "psnr": psnr}
        place.save(weights(state), state.step, best=True)


def _check(value: float, state, patches: data.Patches, title: str) -> None:
    """Stop before a step that would spoil the weights, naming all that is needed to look at it."""
    spiked = math.isfinite(value) and state.spiked(value)
    if math.isfinite(value) and not spiked:
        return
    batch = at(state.recipe, _share(state))["batch"]
    what = (f"is {value:.4g}, over {state.recipe['spike']:g} times the usual" if spiked
            else f"is {value}")
    kept = [str(p) for p in (state.path, state.previous) if p.exists()]
    raise Unavailable(
        f"{title}: the loss {what} at step {state.step}. Images of the batch: "
        f"{', '.join(patches.names(state.step, batch))}. "
        f"The last good state: {kept[0] if kept else 'none was saved yet'}. "
        "Lower `lr`, set `grad_clip`, or look at these images.")


# -- the budget ----------------------------------------------------------------------------------

def _share(state) -> float:
    """The share of the budget, 0 to 1, that is spent."""
    recipe = state.recipe
    return (state.step / recipe["steps"] if recipe["steps"] else
            min(1.0, state.seconds / recipe["seconds"]))


def _budget(state, engine) -> Iterator[float]:
    """Yield what is spent until nothing is left: steps or seconds, earlier ones included."""
    if state.recipe["steps"] is not None:
        while state.step < state.recipe["steps"]:
            yield state.step
    else:
        while not _agreed(state.seconds >= state.recipe["seconds"], engine):
            yield state.seconds


def _agreed(yes: bool, engine) -> bool:
    """What the first process says: clocks and signals of several differ."""
    if engine.num_processes == 1:
        return yes
    import torch
    from accelerate.utils import broadcast

    return bool(broadcast(torch.tensor([float(yes)], device=engine.device)).item())


def _images_seen(recipe: dict, steps: int) -> int | None:
    """Patches trained on, repeats counted; unknown where phases change the batch by the clock."""
    if not recipe["phases"]:
        return steps * recipe["batch"]
    if not recipe["steps"]:
        return None
    return sum(at(recipe, s / recipe["steps"])["batch"] for s in range(steps))


def _loader(state, patches: data.Patches, engine) -> Iterator:
    """Yield this process's parts of the batches from the state's step on, as float32 tensors."""
    from torch.utils.data import DataLoader

    class Dataset:
        def __getitem__(self, position: tuple[int, int, int]):
            return patches.sample(*position)

    def batches():
        step = state.step
        while True:
            share = step / state.recipe["steps"] if state.recipe["steps"] else _share(state)
            yield from data.positions(state.recipe, share, step, engine.process_index,
                                      engine.num_processes)
            step += 1

    workers = state.recipe["workers"]
    return iter(DataLoader(Dataset(), batch_sampler=batches(), num_workers=workers,
                           pin_memory=engine.device.type == "cuda",
                           persistent_workers=workers > 0))


@contextlib.contextmanager
def _gentle_end():
    """Let SIGTERM end the training after the step it is at; yield what says whether it came."""
    came = []
    try:
        before = signal.signal(signal.SIGTERM, lambda *_: came.append(True))
    except ValueError:  # not in the main thread: nobody to listen
        yield lambda: False
        return
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGTERM, before)
