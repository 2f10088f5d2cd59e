"""The training loop: deterministic for a seed, resumable at any moment, one record at the end.

With a budget in steps, the result on one machine has the same bytes, however often the training was
killed or stopped, and however its data are loaded. The number of processes that share a batch
changes the result only by rounding: of float32 with ``adam`` and ``adamw`` (weights within 1e-6
after a dozen steps), of bfloat16 with ``muon``, because torch's Muon orthogonalises in bfloat16
(1e-3 seen after 20 steps). ``accelerate`` handles devices, processes and precision.

Writes, at the paths of ``irbench.core.run_folder``: the last weights and those of the best
validation (none without validation); the record, the curve and, while it runs, the state.

Try: ``irbench train --protocol sr-x2 --model compacter``
"""

from __future__ import annotations

import contextlib
import glob
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from irbench.catalog.model import Checkpoint, teacher_of
from irbench.catalog.recipes import in_phase
from irbench.core import digests, machine, messages, records, run_folder
from irbench.core.errors import Paused, Unavailable
from irbench.imaging.degrade import seed_of
from irbench.jobs.result import Result, record_of, with_plugin_files, write
from irbench.jobs.training import curve, data, losses, teacher, validate
from irbench.plan import Job, Plan
from irbench.weights import first, loading

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor, nn

    from irbench.jobs.training.state import State


def run(plan: Plan, job: Job, *, device: str = "cpu", threads: int = 1,
        max_minutes: float | None = None, tensorboard: bool = False, compile: bool = False,
        channels_last: bool = False, graph: bool = False,
        keep_state: bool = False) -> Result | None:
    """Train a model and write its record; returns None in any process but the first.

    The caller holds the job's lock.

    Args:
        plan: the run's plan.
        job: the training.
        device: ``cpu`` or ``cuda``.
        threads: CPU threads for torch, in each process.
        max_minutes: stop cleanly after this wall time; the same command continues.
        tensorboard: also write TensorBoard's files, to ``tensorboard/`` of the run.
        compile: run the network through torch.compile. Like the device, this and the next change
            the speed, and the weights by rounding (and by other random numbers, if the network
            draws some in training).
        channels_last: keep weights and images in torch's NHWC layout.
        graph: replay the network's passes as CUDA graphs (``irbench.jobs.training.graph``).
        keep_state: keep the last state until somebody has seen the record (``training.forget``).

    Raises:
        Paused: stopped by ``max_minutes`` or a signal; the state is saved.
        Unavailable: the training images are missing, training stopped on a NaN or a loss spike, or
            there is no compiler.
        Superseded: the plan of the run no longer asks for this training.
        UserError: recipe and images do not fit together, or ``graph`` does not fit the training.
    """
    import torch

    from irbench.inference.prepare import check_compiler
    from irbench.inference.seeding import seed_all
    from irbench.jobs.training import engine as engines
    from irbench.jobs.training import graph as graphs
    from irbench.jobs.training.state import State, weights

    if compile:
        check_compiler(device)
    layout = torch.channels_last if channels_last else torch.preserve_format
    begun = time.monotonic()
    phases = records.Phases()
    protocol, model = plan.scopes["/".join(job.key.values())], job.model
    engine = engines.start(device, model.training, threads)
    if graph:
        graphs.check(model.training, device, engine.num_processes, compile)
    place = _Place(plan, job, protocol)
    if engine.is_main_process:
        place.tidy()
    with phases("load"):
        with engine.main_process_first():   # one process makes files, the others use them
            patches = data.load(plan, job, protocol)
        seed_all(seed_of(job.spec["seed"], protocol.id, model.name))
        network = loading.build(model, protocol, tuple(plan.config["plugins"])).train()
        with engine.main_process_first():
            place.begin(network)
        network = network.to(engine.device, memory_format=layout)
        state = State(network, model.training, job.fingerprint, place.state)
        state.scaler = engine.scaler
        state.resume()
        state.goes_on_with(device, engine.num_processes, threads)
        if engine.is_main_process:
            place.mend_best(state)
        engines.check_together(engine, state)
        validator = validate.Validator(patches, protocol)
    limit = math.inf if max_minutes is None else begun + 60 * max_minutes
    board = place.board if tensorboard and engine.is_main_process else None
    with engines.gentle_end() as asked:
        def stop() -> bool:
            return asked() or time.monotonic() > limit

        if model.training.teacher:
            with phases("teacher"), engine.main_process_first():
                teacher.teach(patches, plan, job, device, stop)
        loader = engines.loader(engine, state, patches, pinned=not graph)
        with curve.Board(board, state.step) as board, contextlib.closing(loader):
            # no name here for the prepared network, which must be gone when the processes part
            _train(_prepared(engine, state.network, compile, graph), state,
                   (tuple(t.to(engine.device, non_blocking=True, memory_format=layout)
                          for t in part) for part in loader),
                   patches, validator, engine, place, board, stop)
    engines.part(engine)
    if not engine.is_main_process:
        return None
    phases.seconds["train"] = state.seconds
    with phases("write"):
        plan.check_asked(job)
        digest = place.save(weights(state), state.step)
        best = place.best_of(state)
        if best is None:  # an existing file belongs to an older training
            place.best.unlink(missing_ok=True)
            if state.best:
                messages.say(f"{job.title}: the weights of its best validation, after step "
                             f"{state.best['step']}, were removed or changed meanwhile; the "
                             "record has the last ones alone. To have both, delete the record and "
                             "train again.")
        curve.write_csv(place.csv, state)
    waiting = state.waited / state.seconds if state.seconds else 0.0
    messages.say(f"{job.title}: {state.step} steps in "
                 f"{messages.duration_in_words(state.seconds)}, "
                 f"{waiting:.1%} of the time waiting for data")
    found = with_plugin_files(Result(resolved={"checkpoint": digest, "made_on": state.made_on},
                   threads=threads, seconds=phases.seconds, result={
            "steps": state.step, "seconds": round(state.seconds, 2),
            "images_seen": state.images,
            "images": {"training": len(patches.images), "held_out": len(patches.held_out)},
            "parameters": sum(p.numel() for p in network.parameters()),
            "final_loss": curve.final_loss(state.curve),
            "checkpoint": {"file": place.name(place.last), "sha256": digest},
            "best": best, "curve": state.curve,
            "validation": state.validation, "validation_on": validator.about,
            "waiting": round(waiting, 4), "processes": engine.num_processes,
            "device": device, "device_name": _device_name(device), **place.sources}), plan, job)
    write(job, record_of(job, found))
    state.finish(keep_state)    # after the record, so that nothing is lost in between
    return found


class _Place:
    """The paths of a training's files, and the headers of its weights."""

    def __init__(self, plan: Plan, job: Job, protocol) -> None:
        run, name = plan.run_folder, job.model.name
        self.plan, self.job, self.protocol = plan, job, protocol
        self.last, self.best = (run.weights(protocol.id, name, best=best)
                                for best in (False, True))
        self.state, self.csv = (run.beside(job.key, suffix) for suffix in (
            run_folder.STATE, run_folder.CURVE))
        self.board = run.board(protocol.id, name)
        recipe = job.model.training
        self.datasets, self.exclude = job.spec["datasets"], recipe.exclude
        # facts about the teacher and the first weights, for the record and the headers
        self.sources = {} if not (model := teacher_of(recipe)) else {
            "teacher": teacher.facts(model, recipe.teacher["weight"])}

    def begin(self, network: nn.Module) -> None:
        """Put the weights that the training begins with into its network, if there are any.

        The weights of this training are then of the sets of both.
        """
        init = self.job.model.training.init
        if init:
            begun = first.begin(network, Checkpoint.from_dict(init), self.job.model.name,
                                Path(self.plan.config["data_root"]))
            named = {one["name"]: one["sha256"] for one in self.datasets}
            # a set of one name with other images cannot be told from this one
            same = all(named.get(one["name"], one.get("sha256")) == one.get("sha256")
                       for one in begun.datasets)
            self.sources["init"] = {**begun.facts, "data_known": begun.facts["data_known"] and same}
            left_out = first.joined(
                {name: self.exclude.get(name, ()) for name in sorted(named)},
                {one["name"]: begun.exclude.get(one["name"], ()) for one in begun.datasets})
            self.datasets = [*self.datasets, *(one for one in begun.datasets
                                               if one["name"] not in named)]
            self.exclude = {name: images for name, images in left_out.items() if images}

    def name(self, path: Path) -> str:
        """Return a file's path as in records: relative to the run folder."""
        return path.relative_to(self.plan.folder).as_posix()

    def tidy(self) -> None:
        """Remove the partial files of a process that was killed; this one holds the job's lock."""
        for path in (self.state, self.csv, self.last, self.best):
            for begun in path.parent.glob(f".{glob.escape(path.name)}.*{path.suffix}"):
                begun.unlink(missing_ok=True)

    def keep(self, state: State) -> None:
        """Write the state and the curve so far."""
        state.save()
        curve.write_csv(self.csv, state)

    def save(self, weights: dict, steps: int, best: bool = False) -> str:
        """Write weights with a header that is the same for two equal trainings."""
        recipe = self.job.model.training
        return loading.save(
            self.best if best else self.last, weights, self.job.model, self.protocol,
            steps=steps, recipe=self.job.spec["model"]["training"], levels=recipe.levels,
            datasets=self.datasets, exclude=self.exclude,
            training=self.job.fingerprint, **self.sources)

    def mend_best(self, state: State) -> None:
        """Write the weights of the best validation again if they are gone and the state has them.
        """
        from irbench.jobs.training.state import weights

        if state.best and state.best["step"] == state.step and self.best_of(state) is None:
            state.best["sha256"] = self.save(weights(state), state.step, best=True)

    def best_of(self, state: State) -> dict | None:
        """Return the best validation and its file; None if there is none."""
        # if rounding differs from run to run, a killed one may have left a different file
        if not state.best or not self.best.exists() or (
                digests.file_digest(self.best) != state.best["sha256"]):
            return None
        return {**state.best, "file": self.name(self.best)}


def _device_name(device: str) -> str:
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    return machine.provenance()["hardware"]["cpu"]


def _prepared(engine: Accelerator, network: nn.Module, compile: bool,
              graph: bool) -> Callable[[Tensor], Tensor]:
    """Return a network whose processes share gradients, in the recipe's precision.

    The optimisers stay torch's own, so that several of them and a resumed state need no accelerate.
    """
    import torch

    from irbench.jobs.training import graph as graphs

    prepared = engine.prepare_model(network)
    if compile:
        return torch.compile(prepared)
    return graphs.Replayed(prepared) if graph else prepared


def _train(network: Callable[[Tensor], Tensor], state: State, batches: Iterator,
           patches: data.Patches, validator: validate.Validator, engine: Accelerator,
           place: _Place, board: curve.Board, stop: Callable[[], bool]) -> None:
    """Take steps until the budget is spent; ``batches`` are parts of batches on the device."""
    import torch

    from irbench.inference.seeding import seed_all
    from irbench.jobs.training import engine as engines

    recipe, title, main = state.recipe, place.job.title, engine.is_main_process
    loss_of = losses.make(recipe)
    started = time.perf_counter() - state.seconds
    for _ in _reported(state, title):
        lr = state.set_rate()
        # random numbers inside the model (k, dropout) also depend on the step alone
        seed_all(seed_of(patches.seed, title, state.step))
        loss = _backward(network, loss_of, batches, state, engine)
        loss, norm = torch.stack([engine.reduce(loss, "mean"), state.clip()]).tolist()
        _check(loss, norm, state, patches, title)
        state.update()
        state.seconds, stopping = engines.agreed(engine, time.perf_counter() - started, stop())
        state.note(loss, lr)
        board.add(state.step, {"loss": loss, "learning rate": lr})
        every, ended = recipe.validate_every, state.share >= 1
        if main and every and (ended or state.step % every == 0):
            _validate(state, validator, place, board)
        if main and not ended and (stopping or state.due()):
            place.keep(state)
        if stopping and not ended:
            engine.wait_for_everyone()
            goal = f" of {recipe.steps}" if recipe.steps else ""
            raise Paused(f"{title}: stopped after step {state.step}{goal}; the state is saved, the "
                         "same command continues.")
    if main and state.kept != state.step:
        state.seconds = time.perf_counter() - started
        place.keep(state)


def _backward(network, loss_of, batches: Iterator, state: State, engine: Accelerator) -> Tensor:
    """Compute the gradients of a batch, part by part; return this process's mean loss."""
    import torch

    parts = state.recipe.accumulate
    total = torch.zeros((), device=engine.device)
    for part in range(parts):
        asked = time.perf_counter()
        inputs, *targets = next(batches)
        state.waited += time.perf_counter() - asked
        last = part == parts - 1
        with contextlib.nullcontext() if last else engine.no_sync(network):
            loss = loss_of(network(inputs).float(), *targets) / parts
            engine.backward(loss)
        total += loss.detach()
    return total


def _reported(state: State, title: str) -> Iterator[float]:
    """Yield until the budget is spent, including earlier runs, and show the progress."""
    def until_spent() -> Iterator[float]:
        while state.share < 1:
            yield state.seconds

    steps = state.recipe.steps
    return (messages.track(until_spent(), title, steps, state.step) if steps else
            messages.track_seconds(until_spent(), title, state.recipe.seconds))


def _validate(state: State, validator: validate.Validator, place: _Place,
              board: curve.Board) -> None:
    """Add a point to the validation's curve; keep the weights if they are the best so far."""
    from irbench.jobs.training.state import weights

    psnr = validator(state.averaged)
    if psnr is None:
        return
    state.validation.append({"step": state.step, "psnr": round(psnr, 4),
                             "seconds": round(state.seconds, 2)})
    board.add(state.step, {"validation PSNR (dB)": psnr})
    count = validator.about["images"]
    messages.say(f"{place.job.title}: step {state.step}, validation {psnr:.2f} dB "
                 f"({count} image{'s' * (count != 1)} held out)")
    if state.best is None or psnr > state.best["psnr"]:
        digest = place.save(weights(state), state.step, best=True)
        state.best = {"step": state.step, "psnr": psnr, "sha256": digest}


def _check(loss: float, norm: float, state: State, patches: data.Patches, title: str) -> None:
    """Stop before a step that would spoil the weights; the message helps to find the cause."""
    if not math.isfinite(loss):
        what = f"the loss is {loss}"
    elif state.spiked(loss):
        what = f"the loss is {loss:.4g}, over {state.recipe.spike:g} times the usual,"
    elif not math.isfinite(norm) and not state.scaler:  # fp16 overflows at times, by design
        what = f"the loss is {loss:.4g}, but the norm of its gradients is {norm}"
    else:
        return
    batch = in_phase(state.recipe, state.share).batch
    kept = ("none was saved yet" if state.kept is None else
            f"{state.path} (after step {state.kept})")
    raise Unavailable(
        f"{title}: {what} at step {state.step}. Images of the batch: "
        f"{', '.join(patches.names(state.step, batch))}. The last saved state: {kept}. "
        "Check these images, or lower `lr` or `grad_clip`: a changed recipe starts over, the same "
        "one would stop here again.")
