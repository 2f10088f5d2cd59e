"""The engine of a training: accelerate's devices, processes and precision; data loading; stopping.

Try: ``python -c "from irbench.jobs.training import engine; help(engine.start)"``
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import signal
from collections.abc import Callable, Iterator

import torch

# here, because torch loads it later, and then its default arguments keep the processes' group
import torch.distributed.nn.functional
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.utils.data import DataLoader

from irbench.catalog.recipes import Recipe
from irbench.core.errors import UserError
from irbench.jobs.training import data, processes
from irbench.jobs.training.state import State


def start(device: str, recipe: Recipe, threads: int) -> Accelerator:
    """Return accelerate's handle on devices, processes and precision.

    Raises:
        UserError: the precision needs a GPU, or the processes cannot share a batch evenly.
    """
    if recipe.precision == "fp16" and device == "cpu":
        raise UserError("precision fp16 trains on a GPU only. Use bf16 or no on a CPU.")
    # accelerate keeps the precision of the first training for the whole process
    AcceleratorState._reset_state()
    engine = Accelerator(mixed_precision=recipe.precision, cpu=device == "cpu")
    if processes.started():
        atexit.register(part, engine)   # for a pause or an error, once nothing holds the network
    torch.set_num_threads(threads)  # because accelerate sets its own number
    parts = recipe.accumulate * engine.num_processes
    for batch in recipe.batches:
        if batch % parts:
            raise UserError(f"a batch of {batch} cannot be shared by {engine.num_processes} "
                            f"processes in {recipe.accumulate} parts. Choose a `batch` that "
                            f"{parts} divides.")
    return engine


def part(engine: Accelerator) -> None:
    """Leave the other processes; nothing happens in a training of one, or the second time.

    gloo's threads hold the tensors of an operation for a moment after it has ended. If the
    interpreter ends in that moment, they abort the process (SIGABRT, exit code 134). So the group
    must be gone before, and what would keep it alive before that: then its threads have ended, too.
    """
    engine.free_memory()    # the engine keeps each network that it has prepared
    gc.collect()            # it collects before it lets them go
    engine.end_training()


def check_together(engine: Accelerator, state: State) -> None:
    """Raise UserError unless all processes continue from the same step."""
    steps = engine.gather(torch.tensor([state.step], device=engine.device)).tolist()
    if len(set(steps)) > 1:
        raise UserError(f"{state.path}: the processes found states of different steps, "
                        f"{', '.join(map(str, steps))}. Put the results where all of them see the "
                        "same files.")


def agreed(engine: Accelerator, seconds: float, stop: bool) -> tuple[float, bool]:
    """Return the first process's seconds, and whether any process was asked to stop.

    Clocks and signals differ among processes, but the learning rate (for a budget in seconds) and
    the end of the training must be the same in all of them.
    """
    if engine.num_processes == 1:
        return seconds, stop
    own = torch.tensor([seconds if engine.is_main_process else 0.0, float(stop)],
                        dtype=torch.float32 if engine.device.type == "mps" else torch.float64,
                        device=engine.device)
    seconds, asked = engine.reduce(own, "sum").tolist()
    return seconds, asked > 0


# -- the data ------------------------------------------------------------------------------------

class _Samples:
    """Samples by (step, index, patch)."""

    def __init__(self, patches: data.Patches) -> None:
        self.patches = patches

    def __getitem__(self, position: tuple[int, int, int]):
        return self.patches.sample(*position)


def loader(engine: Accelerator, state: State, patches: data.Patches,
           pinned: bool = True) -> Iterator:
    """Yield this process's parts of the batches from the state's step on, until it is closed.

    Each is float32 tensors: inputs (B, C, h, w), targets (B, C, H, W), and with a teacher its
    images of the targets' shape. Closing it ends the processes that prepare data.

    ``pinned``: whether batches for a GPU are put into pinned memory. A thread does it, and no other
    thread may allocate while CUDA graphs are captured.
    """
    def batches():
        step, recipe = state.step, state.recipe
        while True:
            # a budget in seconds is checked when a batch is requested, up to some batches ahead
            share = step / recipe.steps if recipe.steps else state.share
            yield from data.positions(recipe, share, step, engine.process_index,
                                      engine.num_processes)
            step += 1

    workers, on_gpu = state.recipe.workers, engine.device.type == "cuda"
    # a separate generator, because a loader draws a number when it starts
    yield from DataLoader(_Samples(patches), batch_sampler=batches(), num_workers=workers,
                          worker_init_fn=_undisturbed, pin_memory=pinned and on_gpu,
                          generator=torch.Generator())


def _undisturbed(_: int) -> None:
    """Make a process that prepares data ignore signals until the training has ended.

    A terminal and a cluster send their signals to all processes; without data the present step
    could not be finished.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


# -- the end -------------------------------------------------------------------------------------

@contextlib.contextmanager
def gentle_end() -> Iterator[Callable[[], bool]]:
    """Let SIGTERM and Ctrl-C end the training after the present step, a second Ctrl-C at once.

    Yields a function that returns whether a signal came. A process whose starter is gone sends
    itself one (``irbench.core.life``).
    """
    came = []

    def note(number: int, _: object) -> None:
        if number == signal.SIGINT and came:
            raise KeyboardInterrupt
        came.append(number)

    before = {}
    with contextlib.suppress(ValueError):  # not in the main thread: signals go elsewhere
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, note)
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
