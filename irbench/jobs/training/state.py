"""The complete state of a training at a step, and its file.

It holds the weights, their running mean (EMA), the optimisers, the position and the curve. A new
file is moved into place and the previous one is kept, so that a valid file exists whenever the
process dies. Nothing else is needed to continue, because samples and random draws depend on the
step alone.

Writes ``training/<scope>/<model>.state`` and ``.state.previous`` of a run: the SHA-256 of the
content, then the output of torch.save. ``.state.<fingerprint>`` (8 digits) belongs to a training
that has ended, or that was replaced by another one of the same name, for example after a change of
its recipe.
"""

from __future__ import annotations

import copy
import hashlib
import io
import math
import shutil
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from irbench.catalog.recipes import Recipe, in_phase, learning_rate
from irbench.core import files, messages, run_folder
from irbench.core.errors import UserError
from irbench.jobs.training import muon

REMEMBERED = 100    # number of recent losses that a spike is compared with
POINTS = 200        # largest number of points in the curve
DIGEST = hashlib.sha256().digest_size


def optimisers(network: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Return the optimisers of a recipe; each group keeps its rate over the recipe's in ``share``.

    ``muon`` is torch's Muon (momentum, orthogonalised) for the matrices, the weights of Linear
    layers, at ``matrix_lr`` times the learning rate, and AdamW for everything else.

    Raises UserError for ``muon`` if torch is too old to have it.
    """
    own = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    betas = tuple(recipe.betas)
    if recipe.optimiser != "muon":
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimiser]
        found = [kind(network.parameters(), betas=betas, **own)]
    else:
        if not muon.AVAILABLE:
            raise UserError(f"optimiser muon: torch {torch.__version__} does not have it (torch "
                            "2.9 does). Use `optimiser: adamw` or adam, or a newer torch.")
        matrices = {id(m.weight): m.weight for m in network.modules() if isinstance(m, nn.Linear)}
        others = [p for p in network.parameters() if id(p) not in matrices]
        found = [torch.optim.AdamW(others, betas=betas, **own)] if others else []
        if matrices:                # a purely convolutional network has none
            found.append(muon.Muon(matrices.values(), adjust_lr_fn="match_rms_adamw", **own))
    for optimiser in found:
        for group in optimiser.param_groups:
            group["share"] = recipe.matrix_lr if isinstance(optimiser, muon.Muon) else 1.0
    return found


class State:
    """A training's state.

    Attributes:
        network, averaged: the network, and its running mean (the network itself without ``ema``).
        step, images: steps taken, patches trained on.
        seconds, waited: wall time of the training, and the time spent waiting for data.
        curve, validation, best: points of the two curves, and the best point of the second.
        made_on: where the steps were taken: device, processes and threads of the CPU, each once in
            order. The bytes of the weights depend on these, since they fix the order of sums.
        kept: the step of the last saved file; None before the first.
    """

    def __init__(self, network: nn.Module, recipe: Recipe, fingerprint: str, path: Path) -> None:
        """Start, or continue from the file at ``path`` if it belongs to the same training."""
        self.network, self.recipe = network, recipe
        self.fingerprint, self.path = fingerprint, Path(path)
        self.optimisers = optimisers(network, recipe)
        self.averaged = copy.deepcopy(network).eval() if recipe.ema else network
        self.scaler = None                        # of fp16, set by the loop
        self.step, self.images, self.seconds, self.waited = 0, 0, 0.0, 0.0
        self.curve: list[dict] = []
        self.validation: list[dict] = []
        self.best: dict | None = None
        self.recent: list[float] = []             # recent losses, to detect a spike
        self.sum, self.count = 0.0, 0             # losses since the curve's last point
        self.made_on: list[dict] = []
        self.kept: int | None = None
        self._others: dict[Path, str] = {}        # files of other trainings -> fingerprint
        self._saved = time.monotonic()

    @property
    def share(self) -> float:
        """The spent share of the budget, 0 to 1."""
        steps, seconds = self.recipe.steps, self.recipe.seconds
        return self.step / steps if steps else min(1.0, self.seconds / seconds)

    @property
    def previous(self) -> Path:
        """The file of the previous save."""
        return run_folder.previous(self.path)

    def aside(self, fingerprint: str) -> Path:
        """Return where a training's file is moved when another training takes its place."""
        return run_folder.aside(self.path, fingerprint)

    def goes_on_with(self, device: str, processes: int, threads: int) -> None:
        """Note where the next steps are taken. The threads of the CPU change no sum on a GPU."""
        here = {"device": device, "processes": processes,
                "threads": threads if device == "cpu" else None}
        if here not in self.made_on:
            self.made_on.append(here)

    # -- a step --------------------------------------------------------------------------------

    def set_rate(self) -> float:
        """Set and return the learning rate of this step."""
        lr = learning_rate(self.recipe, self.share)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = lr * group["share"]
        return lr

    def clip(self) -> Tensor:
        """Clip the gradients to a norm of at most ``grad_clip``; return the norm before."""
        if self.scaler:
            for optimiser in self.optimisers:
                self.scaler.unscale_(optimiser)
        return nn.utils.clip_grad_norm_(self.network.parameters(),
                                        self.recipe.grad_clip or math.inf)

    def update(self) -> None:
        """Take an optimiser step."""
        for optimiser in self.optimisers:
            # with fp16 a step whose gradients overflow is skipped, and the scale is lowered
            self.scaler.step(optimiser) if self.scaler else optimiser.step()
            optimiser.zero_grad()
        if self.scaler:
            self.scaler.update()
        self.average()
        self.images += in_phase(self.recipe, self.share).batch
        self.step += 1

    def average(self) -> None:
        """Move the running mean towards the weights: e <- d e + (1 - d) w, d rising to ``ema``."""
        if not self.recipe.ema:
            return
        # early weights are forgotten sooner, as in many toolkits
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        pairs = list(zip(self.averaged.state_dict().values(),
                         self.network.state_dict().values(), strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        with torch.no_grad():
            # one launch on a GPU for all tensors; the same bytes as one after another
            torch._foreach_lerp_([mean for mean, _ in floats], [now for _, now in floats],
                                 1 - decay)
            for mean, now in pairs:
                if not mean.is_floating_point():
                    mean.copy_(now)

    # -- the file ------------------------------------------------------------------------------

    def due(self) -> bool:
        """Whether enough steps or minutes have passed since the last save."""
        return (self.step % self.recipe.save_every == 0
                or time.monotonic() - self._saved > 60 * self.recipe.save_minutes)

    def save(self) -> None:
        """Write the state; keep the previous one beside it, and set another training's aside."""
        self._set_aside()
        saved = {name: getattr(self, name) for name in self._PLAIN}
        saved |= {"network": self.network.state_dict(),
                  "averaged": self.averaged.state_dict() if self.recipe.ema else None,
                  "optimisers": [o.state_dict() for o in self.optimisers],
                  "scaler": self.scaler.state_dict() if self.scaler else None}
        packed = io.BytesIO()
        torch.save(saved, packed)
        digest = hashlib.sha256(packed.getbuffer()).digest()
        with files.atomic_path(self.path) as temporary:
            with temporary.open("wb") as file:
                file.write(digest)
                file.write(packed.getbuffer())
            if self.path.exists():
                # a valid file exists at every moment: the new one replaces the old one after this
                self.previous.unlink(missing_ok=True)
                try:
                    self.previous.hardlink_to(self.path)
                except OSError:  # a file system without links
                    shutil.copyfile(self.path, self.previous)
        self.kept, self._saved = self.step, time.monotonic()

    _PLAIN = ("fingerprint", "step", "images", "seconds", "waited", "curve", "validation", "best",
              "recent", "sum", "count", "made_on")

    def resume(self) -> None:
        """Continue from the file, the previous one or the one set aside.

        The file must be valid and belong to this training.
        """
        for path in (self.path, self.previous, self.aside(self.fingerprint)):
            if path.exists() and self._load(path):
                messages.say(f"{path}: continuing after step {self.step}")
                return

    def _load(self, path: Path) -> bool:
        try:
            saved = read(path)
            if saved["fingerprint"] != self.fingerprint:
                messages.say(f"{path}: from another recipe, data or code; not continued")
                self._others[path] = saved["fingerprint"]
                return False
            self._take(saved)
        except Exception as error:  # torch raises various errors for a damaged file
            messages.say(f"{path}: not readable ({error}); not continued")
            return False
        return True

    def _take(self, saved: dict) -> None:
        self.network.load_state_dict(saved["network"])
        if self.recipe.ema:
            self.averaged.load_state_dict(saved["averaged"])
        for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        if self.scaler and saved["scaler"]:
            self.scaler.load_state_dict(saved["scaler"])
        for name in self._PLAIN:
            setattr(self, name, saved[name])
        self.kept = self.step

    def _set_aside(self) -> None:
        """Move the files of another training, which ``resume`` found and which may still continue.
        """
        # the older one first: the newer one replaces it
        for path, fingerprint in reversed(self._others.items()):
            if path.exists():
                path.replace(self.aside(fingerprint))
                messages.say(f"{path}: kept as {self.aside(fingerprint).name}; that training "
                             "continues from it when its recipe, data and code are restored")
        self._others = {}

    def finish(self, keep: bool) -> None:
        """Remove the files of a training that has ended.

        With ``keep`` the last one is set aside, and a lost record can be written again from it;
        ``training.forget`` removes it.
        """
        self._set_aside()
        if keep and self.path.exists():
            self.path.replace(self.aside(self.fingerprint))
        elif not keep:
            self.aside(self.fingerprint).unlink(missing_ok=True)
        for path in (self.path, self.previous):
            path.unlink(missing_ok=True)

    # -- the curve -----------------------------------------------------------------------------

    def note(self, loss: float, lr: float) -> None:
        """Add a step's loss to the curve, which has a point every 1/200 of the budget."""
        self.recent = [*self.recent[-(REMEMBERED - 1):], loss]
        self.sum, self.count = self.sum + loss, self.count + 1
        last = self.curve[-1] if self.curve else {"step": 0, "seconds": 0.0}
        if self._slot(self.step, self.seconds) > self._slot(last["step"], last["seconds"]):
            self.curve.append({"step": self.step, "loss": self.sum / self.count, "lr": lr,
                               "seconds": round(self.seconds, 2)})
            self.sum, self.count = 0.0, 0

    def _slot(self, step: int, seconds: float) -> int:
        steps = self.recipe.steps
        return step * POINTS // steps if steps else int(
            seconds * POINTS / self.recipe.seconds)

    def spiked(self, loss: float) -> bool:
        """Whether a loss is ``spike`` times the median of the last 100, once there are 50."""
        if not self.recipe.spike or len(self.recent) < REMEMBERED // 2:
            return False
        return loss > self.recipe.spike * sorted(self.recent)[len(self.recent) // 2]


def weights(state: State) -> dict[str, Tensor]:
    """Return the weights of a training: the running mean if there is one."""
    return state.averaged.state_dict()


def read(path: Path) -> dict:
    """Return the content of a state's file, on the CPU. Raises ValueError if it is damaged."""
    data = Path(path).read_bytes()
    if hashlib.sha256(data[DIGEST:]).digest() != data[:DIGEST]:
        raise ValueError("the checksum does not match")
    return torch.load(io.BytesIO(data[DIGEST:]), map_location="cpu", weights_only=True)
