"""The device that a network runs on: what its name means, and whether it is there.

    auto      a CUDA GPU if torch finds one, otherwise the CPU
    cpu
    cuda      the current CUDA GPU of the process: the first, unless something chose another
    cuda:1    a CUDA GPU by its number, from 0. Inside irbench it is then ``cuda`` (``using``).
    mps       a GPU of Apple. No machine with one was available: this is untested.

Reads torch's list of devices; writes nothing. Importing this module does not import torch.

Try: ``python -c "from irbench.inference import devices; print(devices.pick_device('auto'))"``
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from irbench.core.errors import UserError, unknown

DEVICES = ("auto", "cpu", "cuda", "mps")
NUMBERED = re.compile(r"cuda:(\d{1,3})")


def check_name(name: str) -> str:
    """Return the name of a device. Raises UserError if there is no such name."""
    if name not in DEVICES and not NUMBERED.fullmatch(name):
        raise unknown("device", name, (*DEVICES, "cuda:0", "cuda:1"))
    return name


def kind_of(name: str) -> str:
    """Return the kind of device that a name asks for, without a number; ``auto`` stays ``auto``."""
    return "cuda" if NUMBERED.fullmatch(name) else name


def pick_device(name: str) -> tuple[str, str]:
    """Return the kind of a device that is requested (cpu, cuda or mps), and the reason.

    Raises:
        UserError: an unknown name, or a device that is not there.
    """
    import torch

    check_name(name)
    if name == "cpu":
        return "cpu", "asked for"
    if name == "mps":
        if not torch.backends.mps.is_available():
            why = ("this torch is built without it" if not torch.backends.mps.is_built() else
                   "torch finds no GPU of Apple")
            raise UserError(f"device 'mps': {why}. Use --device cpu or auto.")
        return "mps", "asked for; irbench was not tested on it"
    if torch.cuda.is_available():
        found = torch.cuda.get_device_name(_checked(name))
        return "cuda", f"torch found {found}" if name == "auto" else f"asked for; it is {found}"
    why = ("this torch is built without CUDA" if torch.version.cuda is None
           else "torch finds no usable CUDA device")
    if name == "auto":
        return "cpu", why
    raise UserError(f"device {name!r}: {why}. Use --device cpu or auto, or check the driver "
                    "with nvidia-smi.")


def _checked(name: str) -> int | None:
    """Return the number of a CUDA device; None for the current one. Raises UserError if absent."""
    import torch

    number = number_of(name)
    count = torch.cuda.device_count()
    if number is not None and number >= count:
        have = "cuda:0 is" if count == 1 else f"cuda:0 to cuda:{count - 1} are"
        raise UserError(f"device {name!r}: only {have} here.")
    return number


def number_of(name: str) -> int | None:
    """Return the number in the name of a CUDA device, None if there is none."""
    match = NUMBERED.fullmatch(name)
    return int(match[1]) if match else None


@contextlib.contextmanager
def using(name: str) -> Iterator[None]:
    """Make the numbered CUDA device the current one inside the context; other names do nothing."""
    number = number_of(name)
    if number is None:
        yield
        return
    import torch

    with torch.cuda.device(number):
        yield
