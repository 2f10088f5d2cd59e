"""Run a network in another number type or layout, or compiled; it takes and returns float32.

Reads and writes tensors only. Weights and input are cast. With a 16-bit type the networks of
spandrel also run under ``torch.autocast``, because some create float32 tensors (SwinIR its masks),
which torch cannot multiply with 16-bit tensors.

Try: ``python -c "import torch; from irbench.inference.prepare import prepare;
print(prepare(torch.nn.Conv2d(3, 3, 3))(torch.rand(1, 3, 8, 8)).dtype)"``
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from irbench.catalog.model import Inference
from irbench.core.errors import Unavailable, UserError
from irbench.inference.guard import ForwardFailed
from irbench.inference.options import DEFAULT, check_dtype

HALF = (torch.float16, torch.bfloat16)
FOREIGN = ("spandrel", "spandrel_extra_arches")
# torch's messages for an operation that a number type lacks, or that mixes two number types
ABOUT_DTYPES = re.compile(r"half|bfloat16|dtype|scalar ?type|double|float64", re.IGNORECASE)


def prepare(network: nn.Module, options: Inference = DEFAULT, device: str = "cpu",
            dtypes: Collection[str] | None = None) -> nn.Module:
    """Apply the options to a network, in evaluation mode on the device.

    Args:
        network: from (B, C, H, W) to (B, C, sH, sW). It is moved and cast in place, and must not
            be used for anything else afterwards.
        options: checked options from ``irbench.inference.options.resolve``.
        device: ``cpu``, ``cuda`` or ``mps``.
        dtypes: the types that the model runs in; None: the network's own ``dtypes``, or any.

    Returns:
        The network itself for the defaults, otherwise a ``Prepared`` with the network's attributes.
        It takes and returns float32.

    Raises:
        UserError: a dtype that the model or the device does not run in.
        Unavailable: the compiler that torch.compile needs is missing.
    """
    dtypes = dtypes if dtypes is not None else getattr(network, "dtypes", None)
    if dtypes is not None:
        name = getattr(network, "name", type(network).__name__)
        check_dtype(options.dtype, dtypes, f"inference of {name}")
    if device == "mps" and options.dtype == "float64":
        raise UserError("inference: device 'mps' has no float64. Use another dtype, or the CPU.")
    network = network.to(device)
    network.eval()
    if options.dtype != "float32":
        network = network.to(getattr(torch, options.dtype))
    if options.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if not (options.dtype != "float32" or options.channels_last or options.compile):
        return network
    if options.compile:
        check_compiler(device)
    return Prepared(network, options, device)


def uncompiled(network: nn.Module) -> nn.Module:
    """Return a prepared network without its compilation, for code that inspects its modules.

    The weights are shared; number type and layout stay. Any other network is returned unchanged.
    """
    if not isinstance(network, Prepared) or not network.inference.compile:
        return network
    return Prepared(network.network, replace(network.inference, compile=False), network.device)


def check_compiler(device: str) -> None:
    """Raise Unavailable if the compiler that torch.compile needs is missing."""
    leave = "Remove `compile`, or use a machine that has one."
    if device == "cuda" and find_spec("triton") is None:
        raise Unavailable(f"torch.compile on CUDA needs the package triton, which is not "
                          f"installed. {leave}")
    default = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    compiler = os.environ.get("CXX") or default
    if device == "cpu" and shutil.which(compiler.split()[0]) is None:
        raise Unavailable(f"torch.compile on the CPU needs a C++ compiler; {compiler} is not "
                          f"found (environment variable CXX). {leave}")


class Prepared(nn.Module):
    """A network with its options; other attributes (scale, about, ...) are those of the network.

    Arguments:
        network: already moved and cast.
        options: how it is run.
        device: ``cpu`` or ``cuda``, for messages and the compiler.
    """

    def __init__(self, network: nn.Module, options: Inference, device: str) -> None:
        """Wrap the network; raise Unavailable if torch.compile refuses at once."""
        super().__init__()
        self.network = network
        self.training = network.training    # of a new module it is True, and stands for nothing
        self.inference = options
        self.device = device
        self.dtype = getattr(torch, options.dtype)
        foreign = any(type(m).__module__.split(".")[0] in FOREIGN for m in network.modules())
        self.autocast = foreign and self.dtype in HALF
        run = network
        if options.compile:
            try:
                run = torch.compile(network)
            except RuntimeError as error:  # torch cannot compile for this Python interpreter
                raise Unavailable(self._failed("torch.compile failed", error)) from None
        self._run = (run,)  # in a tuple, so that a compiled module is not registered a second time

    def __getattr__(self, name: str):
        """Return an attribute of this module or of the network."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "network":
                raise
            return getattr(self.network, name)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 (B, C, H, W) to float32 (B, C, sH, sW).

        Raises UserError for an operation that the number type lacks on this device, Unavailable
        if compiling fails.
        """
        layout = torch.channels_last if self.inference.channels_last else torch.preserve_format
        x = x.to(dtype=self.dtype, memory_format=layout)
        try:
            with torch.autocast(x.device.type, self.dtype) if self.autocast else nullcontext():
                return (self._compiled if self.inference.compile else self._run[0])(x).float()
        except (RuntimeError, TypeError, ForwardFailed) as error:
            cause = error.__cause__ if isinstance(error, ForwardFailed) else error
            named = self._named(cause)
            if named is cause:
                raise
            raise named from error

    def _compiled(self, x: Tensor) -> Tensor:
        """Run the compiled network; never fall back silently to the uncompiled one.

        torch compiles a few versions of a network for different sizes and then, by default, runs it
        uncompiled. Here it discards these versions and compiles again.
        """
        strict = {"fail_on_recompile_limit_hit": True}
        with torch._dynamo.config.patch(strict):
            try:
                return self._run[0](x)
            except torch._dynamo.exc.FailOnRecompileLimitHit:
                torch._dynamo.reset()
                return self._run[0](x)

    def _named(self, error: Exception) -> Exception:
        """Return an error that names the option at fault, or the given error if there is none."""
        from irbench.inference.memory import out_of_memory

        if out_of_memory(error):
            return error
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            return Unavailable(self._failed("torch.compile failed", error))
        if self.dtype != torch.float32 and ABOUT_DTYPES.search(str(error)):
            return UserError(self._failed(f"an operation fails in {self.inference.dtype}",
                                          error))
        return error

    def _failed(self, what: str, error: Exception) -> str:
        first = " ".join(str(error).split())[:200]
        option = "compile" if "compile" in what else "dtype"
        return (f"{type(self.network).__name__} on {self.device}: {what} ({type(error).__name__}: "
                f"{first}). Remove `{option}` from `inference`, or change it.")
