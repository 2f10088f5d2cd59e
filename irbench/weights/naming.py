"""Sets of weights in a file and the names of their tensors, as other people's trainings leave them.

Reads and writes plain dicts of tensors. A file may hold several sets of weights (``params`` and
``params_ema``), deep inside of other things, and each name may have a prefix of the training that
wrote it (``module.``, ``_orig_mod.``, ``net_g.``, ``generator.``, ``model.``). ``choose`` finds the
set that fits a network: all names and shapes agree, nothing is left over. If several fit, a running
mean (EMA) comes first, then the order of ``KNOWN``. The user may choose another (``weights_key`` in
a config), and the record says which was taken.

    left out   counters of thop (``total_ops``), losses and discriminators beside the network, and
               BatchNorm's ``num_batches_tracked``, which evaluation does not use

Try: ``python -c "import torch; from irbench.weights import naming;
print(*naming.sets_of({'params': {'a': torch.ones(1)}, 'epoch': 3}))"``
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from irbench.core import messages
from irbench.core.errors import UserError, unknown

# names of sets, and prefixes of names, from the most to the least likely to be the network
KNOWN = ("params_ema", "params-ema", "params", "state_dict", "model_state_dict", "generator",
         "net_g", "netG", "model", "net", "network", "module", "_orig_mod", "online_model")
EMA = re.compile(r"(^|[._-])(ema|swa|averaged?|avg)($|[._-])", re.IGNORECASE)
# first parts of names that belong to a training, not to the network
BESIDE = re.compile(
    r"(loss(es)?|criterion|cri_\w+|perceptual\w*|lpips|discriminator\w*|net_?d\w*|data_preprocessor"
    r"|step_counter|n_averaged|initted|step)", re.IGNORECASE)
OPTIMISER = re.compile(r"optim|sched|scaler|callbacks|loops", re.IGNORECASE)
COUNTERS = ("total_ops", "total_params")    # left behind by thop.profile
TRACKED = "num_batches_tracked"             # of BatchNorm; older files lack it
COMPILED = "_orig_mod."                     # torch.compile's, anywhere in a name
DEEPEST = 4     # levels of nested dicts that are looked through
FEW = 3         # names in a message
TOP = "(top level)"     # the label of a set that lies on top of a file, without a prefix


@dataclass
class Reading:
    """One way to read a file for a network: a set of weights and a prefix of its names.

    Attributes:
        label: the set's place in the file and the prefix, as ``state_dict.generator_ema``; "" on
            top of the file (``TOP`` in records and for users).
        state: name → tensor, without the prefix.
        missing, extra, shapes, types: what does not fit the network, in words.
    """

    label: str
    state: dict[str, Tensor]
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        """Whether the network can take it."""
        return not (self.missing or self.extra or self.shapes or self.types)

    @property
    def rank(self) -> tuple[bool, tuple[int, ...]]:
        """Its place among sets that fit: less is better; equal ranks cannot be told apart."""
        return EMA.search(self.label) is None, tuple(
            KNOWN.index(part) if part in KNOWN else len(KNOWN) for part in self.label.split("."))


def choose(found: Mapping, own: Mapping[str, Tensor], where: str, purpose: str,
           key: str | None = None) -> tuple[dict[str, Tensor], dict]:
    """Choose a file's weights for a network.

    Args:
        found: the content of the file, nested dicts.
        own: the network's state dict.
        where: the file's name in messages.
        purpose: the network's name in messages.
        key: the set that the user asks for (``Reading.label``, or its first part); None for any.

    Returns:
        The tensors under the network's names, complete; and facts for the record: ``key``, the
        set's label, and ``others``, the labels of the sets that would also fit. The facts are {} if
        the file holds the network's tensors and nothing else.

    Raises:
        UserError: no set has this key; none fits, with the missing names and those that the file
            has instead; several fit equally well; or the file has different values for a tensor
            that the network has under two names.
    """
    readings = _all_readings(found, own, where, key)
    fitting = sorted((one for one in readings if one.fits), key=lambda one: one.rank)
    if not fitting:
        best = min(readings, key=lambda one: (len(one.missing), len(one.shapes + one.types),
                                              len(one.extra), one.rank),
                   default=_compared(Reading("", {}), own, {}))
        raise UserError(_misfit(best, own, where, purpose, [*sets_of(found)]))
    taken, *rest = fitting
    labels = [one.label or TOP for one in rest]
    if rest and rest[0].rank == taken.rank and not _equal(taken.state, rest[0].state):
        raise UserError(f"checkpoint {where}: several sets of weights fit {purpose}: "
                        f"{', '.join([taken.label or TOP, *labels])}. Choose one with "
                        "`weights_key`.")
    state = {name: taken.state.get(name, value) for name, value in own.items()}
    _check_shared(state, own, where)
    facts = {"key": taken.label or TOP, "others": labels} if taken.label or rest else {}
    say_choice(where, facts)
    return state, facts


def say_choice(where: str, facts: Mapping) -> None:
    """Say which of several sets of weights was taken; ``facts`` as from ``choose``."""
    if facts.get("others"):
        messages.say(f"checkpoint {where}: took the weights {facts['key']!r}; the file also has "
                     f"{', '.join(map(repr, facts['others']))} (choose with `weights_key`)")


def _check_shared(state: Mapping[str, Tensor], own: Mapping[str, Tensor], where: str) -> None:
    """Raise UserError if tensors that are one in the network (tied) differ in the file."""
    first: dict[tuple, str] = {}
    for name, value in own.items():
        if name not in state or not value.numel() or unusual(value):
            continue
        one = first.setdefault((value.data_ptr(), value.shape, value.stride()), name)
        if one != name and not torch.allclose(
                state[one].to(value.dtype), state[name].to(value.dtype), rtol=0, atol=0,
                equal_nan=True):
            raise UserError(f"checkpoint {where}: {one} and {name} are one tensor of the network, "
                            "and have different values in the file. Give the file of a network "
                            "that shares them, or do not share them in the network's code.")


def overlap(found: Mapping, own: Mapping[str, Tensor], where: str,
            key: str | None = None) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors of a file that fit a network, by name, and the names of its others.

    Only real numbers count: tables of indices follow from the network's options. Of several sets
    of weights, or prefixes of names, the one with most fitting values is taken; if several have as
    many, the one that ``choose`` would take.

    Args:
        found: the content of the file, nested dicts.
        own: the network's state dict.
        where: the file's name in messages.
        key: the set that the user asks for; None for any.

    Raises:
        UserError: no set has this key, or as ``choose`` for a tensor that the network has twice.
    """
    readings = _all_readings(found, own, where, key)

    def fitting(one: Reading) -> dict[str, Tensor]:
        return {name: value for name, value in one.state.items() if name in own
                and not unusual(value) and value.is_floating_point()
                and own[name].is_floating_point() and value.shape == own[name].shape}

    every = [(one, fitting(one)) for one in readings]
    if not every:
        return {}, []
    best, taken = min(every, key=lambda pair: (-sum(t.numel() for t in pair[1].values()),
                                               pair[0].rank))
    _check_shared(taken, own, where)
    return taken, sorted(name for name, value in best.state.items()
                         if name not in taken and value.is_floating_point())


def sets_of(found: Mapping) -> dict[str, dict[str, Tensor]]:
    """Return the sets of weights in a file: place in nested dicts (``a.b``, "" on top) → tensors.

    Counters of thop and the states of optimisers are left out.
    """
    return dict(_sets("", found, 0))


def _sets(place: str, found: Mapping, depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    named = {name: value for name, value in found.items() if isinstance(name, str)}
    tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)
               and name.rpartition(".")[2] not in COUNTERS}
    if tensors:
        yield place, tensors
    for name, value in named.items():
        if isinstance(value, Mapping) and depth < DEEPEST and not OPTIMISER.search(name):
            yield from _sets(f"{place}.{name}" if place else name, value, depth + 1)


def variants(found: Mapping, key: str | None, where: str) -> Iterator[tuple[str, dict]]:
    """Yield (label, tensors) of every set in a file, best first, with and without known prefixes.

    It is for networks that are only known by their tensors. Raises UserError if no set has the key.
    """
    sets = sets_of(found)
    # of one set, the names as they are come first: some architectures begin with model.
    every = [((EMA.search(label) is None, Reading(name, {}).rank), label, state)
             for name, tensors in sets.items()
             for label, state in _stripped(name, _uncompiled(tensors))]
    if key is not None:
        every = [one for one in every if _asked(one[1], key)]
        if not every:
            raise _no_set(key, sets, where)
    for _, label, state in sorted(every, key=lambda one: one[0]):
        yield label, state


def beside(label: str, every: Sequence[tuple[str, dict]], where: str) -> dict:
    """Say which set of weights was taken of those of ``variants``, and which it was not.

    Args:
        label: the set that was taken.
        every: all that ``variants`` yielded.
        where: the file's name in messages.

    Returns:
        For the record: ``weights_key`` if the set is not on top of the file, and
        ``weights_others``, the sets with the same names, if there are any.

    Raises:
        UserError: another set has as good a label, and other values.
    """
    # the same tensors may be there with and without a prefix of their names
    own = {one: state for one, state in every if one == label or one.startswith(f"{label}.")}
    others: list[str] = []
    for one, state in every:
        twin = next((mine for mine in own.values() if mine.keys() == state.keys()), None)
        if twin is None or one in own or label.startswith(f"{one}."):
            continue
        others.append(one)
        if Reading(one, {}).rank == Reading(label, {}).rank and not _equal(twin, state):
            raise UserError(f"checkpoint {where}: it holds several sets of weights: "
                            f"{label or TOP}, {one or TOP}. Choose one with `weights_key`.")
    labels = [one or TOP for one in others]
    say_choice(where, {"key": label or TOP, "others": labels})
    return ({"weights_key": label or TOP} if label or others else {}) | (
        {"weights_others": labels} if others else {})


def _stripped(label: str, tensors: dict[str, Tensor]) -> Iterator[tuple[str, dict]]:
    yield label, tensors
    heads = {name.partition(".")[0] for name in tensors}
    for head in sorted(heads):
        others = heads - {head}
        if (head in KNOWN or EMA.search(head)) and all(
                other in KNOWN or EMA.search(other) or BESIDE.fullmatch(other) for other in others):
            yield from _stripped(f"{label}.{head}" if label else head, {
                name.partition(".")[2]: value for name, value in tensors.items()
                if name.startswith(f"{head}.")})


# -- a set and a network -----------------------------------------------------------------------

def _all_readings(found: Mapping, own: Mapping[str, Tensor], where: str,
                  key: str | None) -> list[Reading]:
    """Return every way to read a file for a network; with a key those of the set asked for."""
    readings = [reading for name, tensors in sets_of(found).items()
                for reading in _readings(name, tensors, own)]
    if key is None:
        return readings
    asked = [one for one in readings if _asked(one.label, key)]
    if not asked:
        raise _no_set(key, sets_of(found), where)
    return asked


def _asked(label: str, key: str) -> bool:
    """Whether a set is the one that the user asks for."""
    return (label or TOP) == key or label.startswith(f"{key}.")


def _no_set(key: str, sets: Mapping, where: str) -> UserError:
    return unknown("weights_key", key, [one or TOP for one in sets], f"checkpoint {where}")


def _uncompiled(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors without torch.compile's prefix; as they are if two would have one name."""
    names = {name.replace(COMPILED, ""): value for name, value in tensors.items()}
    return names if len(names) == len(tensors) else tensors


def _readings(label: str, tensors: dict[str, Tensor],
              own: Mapping[str, Tensor]) -> Iterator[Reading]:
    """Yield a set as it is, and without each prefix with which the network's names occur in it."""
    names = _uncompiled(tensors)
    prefixes = dict.fromkeys([""])
    for wanted in list(own)[:: max(1, len(own) // 8)]:
        prefixes |= dict.fromkeys(name[:-len(wanted)] for name in names
                                  if name.endswith(f".{wanted}"))
    # a set without a prefix may lie beside one with a prefix: then each is whole by itself
    whole = [prefix for prefix in prefixes if _is_whole(prefix, names, own)]
    plain = "" in whole
    for prefix in prefixes:
        inner = {name[len(prefix):]: value for name, value in names.items()
                 if name.startswith(prefix)
                 and (prefix or not plain or not name.startswith(tuple(filter(None, whole))))}
        outside = {name: value for name, value in names.items() if not name.startswith(prefix)
                   and not (plain and name in own)}
        yield _compared(Reading(".".join(filter(None, [label, prefix.rstrip(".")])), inner), own,
                        outside if prefix else {})


def _is_whole(prefix: str, names: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    """Whether a prefix has all tensors of a network."""
    return all(prefix + name in names for name in own if name.rpartition(".")[2] != TRACKED)


def _compared(reading: Reading, own: Mapping[str, Tensor],
              outside: Mapping[str, Tensor]) -> Reading:
    """Note what of a reading does not fit a network; ``outside`` has the names without its prefix.
    """
    state = reading.state
    reading.missing = [name for name in own if name not in state
                       and name.rpartition(".")[2] != TRACKED]
    reading.extra = [
        name for name in state if name not in own and not _beside(name, of_a_prefix=False)]
    reading.extra += [f"a second {name}" if name in own else name for name in outside
                      if name in own or not _beside(name, of_a_prefix=True)]
    for name in own.keys() & state.keys():
        given, wanted = state[name], own[name]
        if kind := unusual(given):
            reading.types.append(f"{name}: {kind}")
        elif given.shape != wanted.shape:
            reading.shapes.append(f"{name}: {list(given.shape)} in the file, "
                                  f"{list(wanted.shape)} in the model")
        elif given.is_floating_point() != wanted.is_floating_point():
            reading.types.append(f"{name}: {given.dtype} in the file, {wanted.dtype} in the model")
    reading.shapes.sort()
    reading.types.sort()
    return reading


def _beside(name: str, of_a_prefix: bool) -> bool:
    """Whether a tensor that the network lacks may be left out: it is not of a larger network."""
    head = name.partition(".")[0]
    return (name.rpartition(".")[2] == TRACKED or BESIDE.fullmatch(head) is not None
            or (of_a_prefix and (head in KNOWN or EMA.search(head) is not None)))


def unusual(value: Tensor) -> str:
    """Say why a tensor is not a dense array of real values; "" if it is one."""
    if value.is_nested or value.layout != torch.strided:
        return "a sparse or nested tensor; save it dense (to_dense())"
    if value.device.type == "meta":
        return "a meta tensor, which has no values"
    if value.is_complex() or value.is_quantized:
        return f"{value.dtype}, which is not a real number type"
    return ""


def _equal(state: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return state.keys() == other.keys() and all(
        torch.equal(value, other[name]) for name, value in state.items())


def _misfit(best: Reading, own: Mapping[str, Tensor], where: str, purpose: str,
            sets: list[str]) -> str:
    """Describe what does not fit, as one message."""
    parts = [f"{len(best.missing)} of the model's {len(own)} tensors are missing in the file "
             f"({few(best.missing)})" if best.missing else "",
             f"the file has {len(best.extra)} that the model lacks ({few(best.extra)})"
             if best.extra else "the file has no tensor by another name" if best.missing else "",
             f"{len(best.shapes)} of another shape ({few(best.shapes)})" if best.shapes else "",
             f"{len(best.types)} of another type ({few(best.types)})" if best.types else ""]
    of = f" (its weights {best.label!r})" if best.label else ""
    choice = (f" Sets of weights in the file: {', '.join(one or '(top level)' for one in sets)}; "
              "choose one with `weights_key`." if len(sets) > 1 else "")
    return (f"checkpoint {where}{of} does not fit {purpose}: "
            f"{'; '.join(filter(None, parts))}.{choice}")


def few(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return f"{', '.join(names[:FEW])}{more}"
