"""How a network is run: number type, layout, compilation, tiles. The default changes nothing.

Reads options (a mapping of a config) and a built module; writes nothing. All options are off unless
asked for, and the resolved ones are kept with every result. Whatever they are, a prepared network
takes float32 and returns float32, so that what comes before and after is the same for all.

    dtype           of weights and arithmetic: float32, float64, float16, bfloat16
    channels_last   weights and input in torch's NHWC layout
    compile         by torch.compile; needs a C++ compiler (CPU) or Triton (CUDA)
    tile            auto: the whole image at once unless that needs more memory than there is, then
                    tiles; off: never tiles; a number: tiles of at most that side, in pixels of the
                    input
    overlap         pixels of the input that two neighbouring tiles share; null: chosen per network
    memory_gib      memory the process may take, for ``auto``; null: 80 % of what is available

How tiles are cut and blended: irbench/tiling.py.

Try: ``python -c "from irbench.inference import *; print(describe(resolve({'dtype': 'bfloat16',
'tile': 256}, 'here')))"``
"""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
from collections.abc import Collection
from importlib.util import find_spec
from typing import TYPE_CHECKING

from irbench.errors import Unavailable, UserError, unknown

if TYPE_CHECKING:
    from torch import nn

DTYPES = ("float32", "float64", "float16", "bfloat16")
DEFAULTS = {"dtype": "float32", "channels_last": False, "compile": False, "tile": "auto",
            "overlap": None, "memory_gib": None}
# what torch says of an operation that a number type lacks, or that got two of them
ABOUT_DTYPES = re.compile(r"half|bfloat16|dtype|scalar ?type|double|float64", re.IGNORECASE)


# -- options -----------------------------------------------------------------------------------

def resolve(given: dict | None, where: str) -> dict:
    """Return all options: the given ones, checked, over the defaults.

    Args:
        given: any of the options of the module's text; None for none.
        where: begins the message of an error, e.g. ``models.compacter.inference``.

    Raises:
        UserError: an unknown option, a bad value, or two that exclude each other.
    """
    if given is None:
        return dict(DEFAULTS)
    if not isinstance(given, dict):
        raise UserError(f"{where}: {given!r} is no mapping of options. Valid options: "
                        f"{', '.join(DEFAULTS)}.")
    for name in given:
        if name not in DEFAULTS:
            raise unknown("option", name, DEFAULTS, where)
    options = {**DEFAULTS, **given}
    if options["tile"] is False:  # what YAML makes of a bare off
        options["tile"] = "off"
    if options["dtype"] not in DTYPES:
        raise unknown("dtype", options["dtype"], DTYPES, where)
    for name, valid, takes in (
            ("channels_last", lambda v: isinstance(v, bool), "true or false"),
            ("compile", lambda v: isinstance(v, bool), "true or false"),
            ("tile", lambda v: v in ("auto", "off") or _whole(v, 1),
             "auto, off or a number of pixels (the tile's side)"),
            ("overlap", lambda v: v is None or _whole(v, 0), "null or a number of pixels"),
            ("memory_gib", lambda v: v is None or _positive(v), "null or a number above 0")):
        if not valid(options[name]):
            raise UserError(f"{where}: {name} is {options[name]!r}; it takes {takes}.")
    if options["tile"] == "off" and options["overlap"] is not None:
        raise UserError(f"{where}: tile is off, so overlap has no meaning. Leave one out.")
    if options["tile"] != "auto" and options["memory_gib"] is not None:
        raise UserError(f"{where}: memory_gib chooses the tile where tile is auto; here it is "
                        f"{options['tile']!r}. Leave one out.")
    return options


def _whole(value: object, least: int) -> bool:
    return type(value) is int and value >= least


def _positive(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value > 0


def describe(options: dict) -> str:
    """Say in a few words what is not the default, e.g. ``bfloat16, compiled, tiles of 256``.

    Empty for the defaults. Takes resolved options.
    """
    o = options
    tile = {"auto": "", "off": "never in tiles"}.get(o["tile"], f"tiles of {o['tile']}")
    return ", ".join(filter(None, (
        o["dtype"] if o["dtype"] != DEFAULTS["dtype"] else "",
        "channels last" if o["channels_last"] else "",
        "compiled" if o["compile"] else "",
        tile,
        "" if o["overlap"] is None else f"overlap {o['overlap']}",
        "" if o["memory_gib"] is None else f"at most {o['memory_gib']:g} GiB")))


def telling(options: dict) -> dict:
    """Return the resolved options that make another model of it: what changes numbers or speed.

    Not those that only say how much memory there is: an image that was tiled says so itself.
    """
    silent = {"memory_gib", "overlap"} | ({"tile"} if options["tile"] == "off" else set())
    return {name: value for name, value in options.items()
            if value != DEFAULTS[name] and name not in silent}


def check_dtype(dtype: str, valid: Collection[str], where: str) -> None:
    """Raise UserError unless a number type is one that a model's card names (its ``dtypes``)."""
    if dtype not in valid:
        raise UserError(f"{where}: dtype {dtype!r} is not one that this model runs in. Valid: "
                        f"{', '.join(valid)}. (A model of your own states its types in `dtypes` "
                        "of its card.)")


# -- networks ----------------------------------------------------------------------------------

def prepare(network: nn.Module, options: dict | None = None, device: str = "cpu",
            dtypes: Collection[str] | None = None) -> nn.Module:
    """Make a network run as the options say, in evaluation mode on the device.

    Args:
        network: from (B, C, H, W) to (B, C, sH, sW). It is itself moved and cast, and must not
            be used for anything else afterwards.
        options: of ``resolve``; None for the defaults.
        device: ``cpu`` or ``cuda``.
        dtypes: those the model runs in; None: the network's own ``dtypes``, or any.

    Returns:
        The network itself for the defaults, else a ``Prepared`` with the network's attributes.
        It takes and returns float32.

    Raises:
        UserError: a bad option; a dtype that the model does not run in.
        Unavailable: nothing here to compile with.
    """
    import torch

    name = getattr(network, "name", type(network).__name__)
    options = resolve(options, f"inference of {name}")
    dtypes = dtypes if dtypes is not None else getattr(network, "dtypes", None)
    if dtypes is not None:
        check_dtype(options["dtype"], dtypes, f"inference of {name}")
    network = network.to(device).eval()
    if options["dtype"] != "float32":
        network = network.to(getattr(torch, options["dtype"]))
    if options["channels_last"]:
        network = network.to(memory_format=torch.channels_last)
    if not (options["dtype"] != "float32" or options["channels_last"] or options["compile"]):
        return network
    if options["compile"]:
        _check_compiler(device)
    return _prepared_class()(network, options, device)


def uncompiled(network: nn.Module) -> nn.Module:
    """Return a prepared network without its compilation: what looks inside needs every module.

    The weights are shared; number type and layout stay. Any other network is returned as it is.
    """
    options = getattr(network, "inference", None)
    if not options or not options["compile"]:
        return network
    return type(network)(network.network, {**options, "compile": False}, network.device)


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


def _prepared_class() -> type:
    """Return ``Prepared``; here, so that reading options needs no torch."""
    from irbench import prepared

    return prepared.Prepared
