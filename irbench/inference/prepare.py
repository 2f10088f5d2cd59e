"""A network run in another number type, layout or compiled, that takes and returns float32.

Reads and writes tensors only. ``prepare`` makes it.

Weights and input are cast. The networks of spandrel run under ``torch.autocast`` as well where the
type has 16 bits: some make tensors of float32 on the way (SwinIR its masks), which torch would
refuse to multiply with the others.

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
from irbench.inference.options import DEFAULT, check_dtype

HALF = (torch.float16, torch.bfloat16)
FOREIGN = ("spandrel", "spandrel_extra_arches")
# what torch says of an operation that a number type lacks, or that got two of them
ABOUT_DTYPES = re.compile(r"half|bfloat16|dtype|scalar ?type|double|float64", re.IGNORECASE)


def prepare(network: nn.Module, options: Inference = DEFAULT, device: str = "cpu",
            dtypes: Collection[str] | None = None) -> nn.Module:
    """Make a network run as the options say, in evaluation mode on the device.

    Args:
        network: from (B, C, H, W) to (B, C, sH, sW). It is itself moved and cast, and must not
            be used for anything else afterwards.
        options: checked ones, of ``irbench.inference.options.resolve``.
        device: ``cpu`` or ``cuda``.
        dtypes: those the model runs in; None: the network's own ``dtypes``, or any.

    Returns:
        The network itself for the defaults, else a ``Prepared`` with the network's attributes.
        It takes and returns float32.

    Raises:
        UserError: a dtype that the model does not run in.
        Unavailable: nothing here to compile with.
    """
    dtypes = dtypes if dtypes is not None else getattr(network, "dtypes", None)
    if dtypes is not None:
        name = getattr(network, "name", type(network).__name__)
        check_dtype(options.dtype, dtypes, f"inference of {name}")
    network = network.to(device).eval()
    if options.dtype != "float32":
        network = network.to(getattr(torch, options.dtype))
    if options.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if not (options.dtype != "float32" or options.channels_last or options.compile):
        return network
    if options.compile:
        _check_compiler(device)
    return Prepared(network, options, device)


def uncompiled(network: nn.Module) -> nn.Module:
    """Return a prepared network without its compilation: what looks inside needs every module.

    The weights are shared; number type and layout stay. Any other network is returned as it is.
    """
    if not isinstance(network, Prepared) or not network.inference.compile:
        return network
    return Prepared(network.network, replace(network.inference, compile=False), network.device)


def _check_compiler(device: str) -> None:
    """Raise Unavailable where torch.compile would find nothing to compile with."""
    leave = "Leave `compile` out, or run where there is one."
    if device == "cuda" and find_spec("triton") is None:
        raise Unavailable(f"torch.compile on CUDA needs the package triton, which is not "
                          f"installed. {leave}")
    default = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    compiler = os.environ.get("CXX") or default
    if device == "cpu" and shutil.which(compiler.split()[0]) is None:
        raise Unavailable(f"torch.compile on the CPU needs a C++ compiler; {compiler} is not "
                          f"found (environment variable CXX). {leave}")


class Prepared(nn.Module):
    """A network with its options; attributes it lacks are the network's (scale, about, ...).

    Arguments:
        network: already moved and cast.
        options: how it is run.
        device: ``cpu`` or ``cuda``, for messages and the compiler.
    """

    def __init__(self, network: nn.Module, options: Inference, device: str) -> None:
        """Wrap the network; raise Unavailable where torch.compile refuses at once."""
        super().__init__()
        self.network = network
        self.inference = options
        self.device = device
        self.dtype = getattr(torch, options.dtype)
        foreign = any(type(m).__module__.split(".")[0] in FOREIGN for m in network.modules())
        self.autocast = foreign and self.dtype in HALF
        run = network
        if options.compile:
            try:
                run = torch.compile(network)
            except RuntimeError as error:  # an interpreter that this torch cannot compile for
                raise Unavailable(self._failed("torch.compile failed", error)) from None
        self._run = (run,)  # in a tuple, as a compiled module would be registered a second time

    def __getattr__(self, name: str):
        """Return an attribute of ours, or else the network's."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "network":
                raise
            return getattr(self.network, name)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 (B, C, H, W) to float32 (B, C, sH, sW).

        Raises UserError for an operation that the number type lacks on this device, Unavailable
        where compiling fails.
        """
        layout = torch.channels_last if self.inference.channels_last else torch.preserve_format
        x = x.to(dtype=self.dtype, memory_format=layout)
        try:
            with torch.autocast(x.device.type, self.dtype) if self.autocast else nullcontext():
                return (self._compiled if self.inference.compile else self._run[0])(x).float()
        except (RuntimeError, TypeError) as error:
            named = self._named(error)
            if named is error:
                raise
            raise named from error

    def _compiled(self, x: Tensor) -> Tensor:
        """Run the compiled network; never, in silence, the one that is not.

        torch compiles a few forms of a network for sizes that differ and then, by default, runs it
        uncompiled. Here it forgets them instead and begins anew.
        """
        strict = {"fail_on_recompile_limit_hit": True}
        with torch._dynamo.config.patch(strict):
            try:
                return self._run[0](x)
            except torch._dynamo.exc.FailOnRecompileLimitHit:
                torch._dynamo.reset()
                return self._run[0](x)

    def _named(self, error: Exception) -> Exception:
        """Return the error that a person can act on, or the given one where it is of no option."""
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
                f"{first}). Leave `{option}` out of `inference`, or give another.")
