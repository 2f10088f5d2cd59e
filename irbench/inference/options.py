"""Options for running a network: number type, layout, compilation, tiles, self-ensemble.

Reads options (a mapping in a config), which ``resolve`` checks once, when the plan is made; writes
nothing. All options are off by default, and every result stores all of them. A prepared network
always takes and returns float32, so that the steps before and after it are the same for all.

    dtype           type of weights and arithmetic: float32, float64, float16, bfloat16
    channels_last   weights and input in torch's NHWC layout
    compile         use torch.compile; needs a C++ compiler (CPU) or Triton (CUDA)
    tile            auto: the whole image at once, or tiles if it needs more memory than is
                    available; off: never tiles; a number: tiles of at most that side, in pixels of
                    the input
    overlap         pixels of the input that two neighbouring tiles share; null: chosen per network
    memory_gib      memory limit for ``auto``; null: 80 % of the available memory
    self_ensemble   the mean of the outputs for the 8 flips and rotations of the input, marked "+"
                    in tables; 8 forward passes

irbench/inference/tiling.py explains how tiles are cut and blended.

Try: ``python -c "from irbench.inference.options import *; print(describe(resolve({'dtype':
'bfloat16', 'tile': 256}, 'here')))"``
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from irbench.catalog.model import Inference
from irbench.core.errors import UserError, unknown
from irbench.models.registry import DTYPES

if TYPE_CHECKING:
    from irbench.catalog.protocols import Protocol

DEFAULT = Inference()
NAMES = tuple(field.name for field in fields(Inference))


def resolve(given: dict | None, where: str) -> Inference:
    """Return all options: the given ones, checked, and the defaults of the others.

    Args:
        given: any of the options listed above; None for none.
        where: the beginning of error messages, e.g. ``models.compacter.inference``.

    Raises:
        UserError: an unknown option, an invalid value, or two options that exclude each other.
    """
    if given is None:
        return DEFAULT
    if not isinstance(given, dict):
        raise UserError(f"{where}: {given!r} is not a mapping of options. Valid options: "
                        f"{', '.join(NAMES)}.")
    for name in given:
        if name not in NAMES:
            raise unknown("option", name, NAMES, where)
    options = Inference(**given)
    if options.tile is False:  # YAML reads an unquoted `off` as false
        options = replace(options, tile="off")
    if options.dtype not in DTYPES:
        raise unknown("dtype", options.dtype, DTYPES, where)
    for name, valid, takes in (
            ("channels_last", lambda v: isinstance(v, bool), "true or false"),
            ("compile", lambda v: isinstance(v, bool), "true or false"),
            ("self_ensemble", lambda v: isinstance(v, bool), "true or false"),
            ("tile", lambda v: v in ("auto", "off") or _whole(v, 1),
             "auto, off or a number of pixels (the tile's side)"),
            ("overlap", lambda v: v is None or _whole(v, 0), "null or a number of pixels"),
            ("memory_gib", lambda v: v is None or _positive(v), "null or a number above 0")):
        if not valid(value := getattr(options, name)):
            raise UserError(f"{where}: {name} is {value!r}; it takes {takes}.")
    if options.tile == "off" and options.overlap is not None:
        raise UserError(f"{where}: tile is off, so overlap has no meaning. Remove one of them.")
    if options.tile != "auto" and options.memory_gib is not None:
        raise UserError(f"{where}: memory_gib has a meaning only with tile: auto; here tile is "
                        f"{options.tile!r}. Remove one of them.")
    return options


def _whole(value: object, least: int) -> bool:
    return type(value) is int and value >= least


def _positive(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value > 0


def describe(options: Inference) -> str:
    """Return the non-default options in words, e.g. ``bfloat16, compiled, tiles of 256``.

    Returns "" for the defaults.
    """
    o = options
    tile = {"auto": "", "off": "never in tiles"}.get(o.tile, f"tiles of {o.tile}")
    return ", ".join(filter(None, (
        o.dtype if o.dtype != DEFAULT.dtype else "",
        "channels last" if o.channels_last else "",
        "compiled" if o.compile else "",
        tile,
        "" if o.overlap is None else f"overlap {o.overlap}",
        "" if o.memory_gib is None else f"at most {o.memory_gib:g} GiB",
        "self-ensemble" if o.self_ensemble else "")))


def changes_model(options: Inference) -> dict:
    """Return the options that make it a different model (numbers or speed), as plain data.

    Memory limits are left out, because a result already records whether images were tiled.
    """
    silent = {"memory_gib", "overlap"} | ({"tile"} if options.tile == "off" else set())
    return {name: value for name, value in options.unlike(DEFAULT).items() if name not in silent}


def check_protocol(options: Inference, protocol: Protocol, where: str) -> None:
    """Raise UserError if the options have no meaning under a protocol."""
    if options.self_ensemble and "mosaic" in protocol.kinds:
        raise UserError(f"{where}: self_ensemble is not possible under {protocol.id}: a flipped "
                        "mosaic has its colours in another order than the one that the network "
                        "knows. Remove it, or limit it to other protocols by a variant with "
                        "`protocols`.")


def check_dtype(dtype: str, valid: Collection[str], where: str) -> None:
    """Raise UserError unless a model's card lists the number type (in its ``dtypes``)."""
    if dtype not in valid:
        raise UserError(f"{where}: this model does not run in dtype {dtype!r}. Valid: "
                        f"{', '.join(valid)}. (A model of your own lists its types in `dtypes` "
                        "of its card.)")
