"""Optional methods that a network may offer the harness in addition to its forward pass.

The harness does not treat any network by name. It looks for these methods, on irbench's networks
and on a user's own alike, and works without them if they are missing. A network offers a method by
defining it; it need not import or inherit anything from here.

    of the network
    attention_choice     the attention it uses now, and the reason: the profile's ``attention``
    diagnose             facts about a forward pass: the ``dictionary`` of profiles and cells
    diagnosis_in_words   the same facts as one line of the log
    of any of its modules, for ``irbench.jobs.profiling.macs``
    count_macs           the module's own count of multiply-adds, e.g. for a custom kernel
    saved_macs           multiply-adds that it does not need: ``macs_keys_only``
    to_textbook          switches to the form whose multiply-adds are counted

The harness also reads these optional attributes: ``size_multiple`` and ``receptive_field`` (how an
image may be cut into tiles, see ``padding.Restorer``), and ``dtypes``. Does not import torch.

Try: ``python -c "from irbench.models import interface, registry;
print(interface.attention_choice(registry.get('semanir-light').load()('sr', 2, 3)))"``
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from irbench.core.errors import UserError

if TYPE_CHECKING:
    from torch import nn

CHOICE = {"implementation", "reason"}
PLAIN = (str, int, float, type(None))  # a bool is an int


# -- optional methods --------------------------------------------------------------------------

class ChoosesAttention(Protocol):
    """A network with more than one way to compute its attention."""

    def attention_choice(self) -> dict[str, str] | None:
        """Return {"implementation", "reason"} for the network's state; None: no attention.

        The state is the device, number type and training mode of its weights.
        """


class Diagnoses(Protocol):
    """A network that reports facts about its forward pass. Both methods belong together."""

    def diagnose(self) -> AbstractContextManager[list[dict]]:
        """Return a context that yields a list and fills it while the network runs inside of it.

        There is one entry per part of the network, a flat dict of texts, numbers and None. The
        report shows these: ``stage`` (text, the part's place in the network), ``n`` (tokens of a
        window), ``k`` (keys of a token), ``self``, ``used`` and ``overlap`` (shares, 0 .. 1); other
        entries are kept in the record. The network may run several times (tiles). It runs
        uncompiled.
        """

    def diagnosis_in_words(self, facts: list[dict]) -> str:
        """Return the facts from ``diagnose`` as one line, for a log; "" for nothing."""


class CountsMacs(Protocol):
    """A module that counts its own multiply-adds; operations inside it are not counted again.

    It is for operations that a trace cannot show (a custom kernel), or for a separate kind. The
    module must be called as ``module(x)``, not with ``module.forward(x)`` or another method.
    """

    def count_macs(self, output: object, *inputs: object) -> dict[str, int]:
        """Return kind (one of ``macs.KINDS``) → multiply-adds of one call.

        Arguments are the call's result, then the call's arguments (keywords as keywords).
        """


class SavesMacs(Protocol):
    """A module that needs fewer multiply-adds than counted, such as attention to k keys of N."""

    def saved_macs(self, output: object, *inputs: object) -> int:
        """Return the multiply-adds, of those counted for one call, that are not needed.

        Arguments as of ``count_macs``. ``macs_keys_only`` is the total without them.
        """


class HasTextbookForm(Protocol):
    """A module with several forms, one of which is used for counting."""

    def to_textbook(self) -> None:
        """Switch to that form, in place. It is called on a copy of the module."""


# -- the harness's side ------------------------------------------------------------------------

def offered(module: nn.Module, method: str) -> Callable | None:
    """Return a module's method of this name, None if it has none.

    A network that wraps another one and passes on its attributes (``prepare.Prepared``) offers the
    same methods.
    """
    found = getattr(module, method, None)
    return found if callable(found) else None


def attention_choice(network: nn.Module) -> dict[str, str] | None:
    """Return the network's {"implementation", "reason"}, None if it offers none.

    Raises UserError if a network's own method returns something else.
    """
    method = offered(network, "attention_choice")
    choice = method() if method else None
    if choice is None:
        return None
    if not isinstance(choice, dict) or set(choice) != CHOICE or not all(
            isinstance(value, str) for value in choice.values()):
        raise UserError(f"{type(network).__name__}.attention_choice returned {choice!r}; it "
                        "returns a dict with the texts 'implementation' and 'reason', or None.")
    return choice


@contextlib.contextmanager
def diagnose(network: nn.Module) -> Iterator[list[dict]]:
    """Collect the facts that a network reports about the passes in the ``with`` block.

    Yields a list that fills as the network runs; it stays empty for a network that offers none.
    Raises UserError if a network's own method yields something else.
    """
    method = offered(network, "diagnose")
    with method() if method else contextlib.nullcontext([]) as facts:
        yield facts
    if not isinstance(facts, list) or not all(
            isinstance(entry, dict) and all(isinstance(name, str) and isinstance(value, PLAIN)
                                            for name, value in entry.items()) for entry in facts):
        raise UserError(f"{type(network).__name__}.diagnose yielded {str(facts)[:200]}; it yields "
                        "a list of flat dicts of texts, numbers and None.")


def diagnosis_in_words(network: nn.Module, facts: list[dict] | None) -> str:
    """Return a network's facts as one line, "" if there are none or it has no words for them."""
    method = offered(network, "diagnosis_in_words")
    return method(facts) if method and facts else ""
