"""Statistics of a network's key-semantic dictionaries, and the attention that it will use.

Reads a network while it runs, writes nothing. Printed (SemanIR, arXiv 2405.20008): k and the
similarity determine the tokens that a token attends to. *Ours*: the statistics here, which show
whether it attends to similar tokens or to a few hubs that dominate everywhere.

Try: ``python -c "import torch; from irbench.models.attention.health import watch;
from irbench.models.semanir import semanir_light as build
net = build('sr', 2, 3).eval()
with watch(net) as found: net(torch.rand(1, 3, 32, 32))
print(*found, sep=chr(10))"``
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from torch import Tensor, nn

from irbench.models.attention import KeyDictionary, Keys, choose
from irbench.models.attention.stage import Stage


class DictionaryNetwork:
    """The methods that a network of ``Stage`` offers the harness (``irbench.models.interface``).

    A network of your own that is built of stages can inherit it in addition to its other base.
    """

    def diagnose(self) -> AbstractContextManager[list[dict]]:
        """Describe every dictionary that is built while the network runs; see ``watch``."""
        return watch(self)

    def diagnosis_in_words(self, facts: list[dict]) -> str:
        """Return one line about the dictionaries, for the log."""
        return dictionaries_in_words(facts)

    def attention_choice(self) -> dict[str, str] | None:
        """Return {"implementation", "reason"} of the network's attention in its present state."""
        return implementations(self)


@contextmanager
def watch(network: nn.Module) -> Iterator[list[dict]]:
    """Collect a description of every dictionary that is built inside the ``with`` block.

    Yields a list, filled as the network runs, in the order in which dictionaries are first built:
    ``stage``: the dictionary's place in the network; ``n``: tokens of a window; ``k``: keys of a
    token; ``self``: share (0 .. 1) of tokens that are among their own keys; ``used``: share of
    tokens that are a key of any; ``overlap``: share of keys that the previous dictionary has, too,
    None if there is none with the same windows and k. ``self`` and ``used`` are None if k >= N. A
    dictionary built several times (tiles) has one entry, the mean over windows. Networks without
    dictionaries give an empty list.
    """
    found: list[dict] = []
    tally = _Tally(found)
    hooks = [module.register_forward_hook(tally.hook(name))
             for name, module in network.named_modules() if isinstance(module, KeyDictionary)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def dictionaries_in_words(found: list[dict]) -> str:
    """Return one line about a network's dictionaries, for a log; "" if it has none."""
    if not found:
        return ""
    parts = []
    for name, words in (("self", "of tokens select themselves"), ("used", "of keys are used"),
                        ("overlap", "of keys as in the stage before")):
        shares = [100 * entry[name] for entry in found if entry[name] is not None]
        if shares:
            parts.append(f"{min(shares):.0f} to {max(shares):.0f} % {words}")
    return f"dictionaries of {len(found)} stages: {', '.join(parts) or 'all keys of each window'}"


class _Tally:
    """Means over windows, one entry per dictionary."""

    def __init__(self, found: list[dict]):
        self.found = found
        self.entries: dict[str, dict] = {}
        self.windows: dict[tuple[str, str], int] = {}
        self.before: Keys | None = None

    def hook(self, name: str):
        """Return the forward hook of one dictionary."""
        def note(module: KeyDictionary, inputs: tuple[Tensor], keys: Keys) -> None:
            self.add(name, inputs[0].shape[0], inputs[0].shape[1], keys)
        return note

    def add(self, name: str, windows: int, n: int, keys: Keys) -> None:
        """Add one dictionary."""
        if self.found and name == self.found[0]["stage"]:
            self.before = None  # a new pass begins
        if name not in self.entries:
            self.entries[name] = {"stage": name, "n": n, "k": n, "self": None, "used": None,
                                  "overlap": None}
            self.found.append(self.entries[name])
        entry = self.entries[name]
        if not keys.dense:
            entry["k"] = keys.k
        for what, value in _figures(keys, self.before).items():
            seen = self.windows.get((name, what), 0)
            old = entry[what] or 0.0
            entry[what] = (old * seen + value * windows) / (seen + windows)
            self.windows[name, what] = seen + windows
        self.before = keys


def _figures(keys: Keys, before: Keys | None) -> dict[str, float]:
    """Return the statistics of a dictionary; {} if it is dense."""
    if keys.dense:
        return {}
    mask = keys.mask
    found = {"self": mask.diagonal(dim1=1, dim2=2).float().mean().item(),
             "used": mask.any(dim=1).float().mean().item()}
    if (before is not None and not before.dense and before.mask.shape == mask.shape
            and before.mask[0, 0].sum() == mask[0, 0].sum()):
        found["overlap"] = (before.mask & mask).sum().item() / mask.sum().item()
    return found


def implementations(network: nn.Module) -> dict[str, str] | None:
    """Return the attention that a network will use and the reason; None if it has none of ours.

    Returns {"implementation", "reason"} for the device, dtype and training state of its weights.
    """
    found: dict[str, str] = {}
    for module in network.modules():
        if isinstance(module, Stage):
            attention = module.layers[0].attention
            weight = attention.qkv.weight
            name, reason = choose(attention.implementation, device=weight.device,
                                  dtype=weight.dtype, training=module.training,
                                  n=module.window**2, k=module.dictionary.k,
                                  d=weight.shape[1] // attention.heads)
            found.setdefault(name, reason)
    if not found:
        return None
    return {"implementation": ", ".join(found), "reason": "; ".join(found.values())}
