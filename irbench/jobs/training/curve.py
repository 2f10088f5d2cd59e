"""The learning curve of a training: as CSV, for TensorBoard, and its last loss.

Writes: ``training/<scope>/<model>.csv``; ``tensorboard/<scope>/<model>/`` if asked.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

from irbench.core import files
from irbench.core.errors import UserError

if TYPE_CHECKING:
    from irbench.jobs.training.state import State


def write_csv(path: Path, state: State) -> None:
    """Write step, seconds, loss, learning rate and validation PSNR (dB); unknown values are empty.
    """
    psnr = {point["step"]: point for point in state.validation}
    loss = {point["step"]: point for point in state.curve}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", "seconds", "loss", "learning_rate", "validation_psnr_db"])
    for step in sorted({*psnr, *loss}):
        one = loss.get(step, {})
        writer.writerow([step, one.get("seconds", psnr.get(step, {}).get("seconds")),
                         one.get("loss"), one.get("lr"), psnr.get(step, {}).get("psnr")])
    files.write_atomic(path, text.getvalue())


def final_loss(curve: list[dict]) -> float:
    """Return the mean loss over the last tenth of the curve; the loss of one batch is too noisy."""
    last = curve[-max(1, len(curve) // 10):]
    return sum(point["loss"] for point in last) / len(last)


class Board:
    """TensorBoard's files; does nothing if no folder is given."""

    def __init__(self, folder: Path | None, step: int = 0) -> None:
        """Open the files of a training that continues after a step; later points are dropped.

        Raises:
            UserError: TensorBoard is not installed.
        """
        self._writer = None
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError("--tensorboard: the package tensorboard is not installed. "
                            "pip install tensorboard, or omit the option.") from None
        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def add(self, step: int, values: dict[str, float]) -> None:
        """Add named values at a step."""
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def __enter__(self) -> Board:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        if self._writer:
            self._writer.close()
