"""``irbench.list_models``, ``list_protocols`` and ``list_datasets``: the names that exist.

Reads the catalogs; writes nothing, imports no torch. ``irbench list`` shows titles, too.

Try: ``python -c "import irbench; print(irbench.list_models('sr-x2'))"``
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from irbench.catalog import peers, protocols
from irbench.core import forms
from irbench.core.errors import UserError
from irbench.data import sets
from irbench.models import registry
from irbench.weights import bundled


def list_models(protocol: str | None = None,
                plugins: str | Path | Iterable[str | Path] = ()) -> list[str]:
    """Return the names of models that ``irbench.load_model`` takes, sorted.

    Args:
        protocol: only models that can be loaded for it without a file of weights: models without
            weights, with weights that come with irbench, and published ones, which are fetched.
            None: all models, also those that need weights of yours.
        plugins: Python files that register models of your own.

    Raises:
        UserError: an unknown protocol, or a plugin that cannot be read.
    """
    cards = {name: card for name, card in registry.cards(forms.listed(plugins)).items()
             if not card.reference}      # those only serve to compare speed
    published = peers.catalog()
    if protocol is None:
        return sorted({*cards, *published})
    chosen = protocols.get(protocol)
    found = {peer.name for peer in published.values()
             if peer.task == chosen.task and chosen.level in peer.urls}
    for name, card in cards.items():
        if card.can(chosen.task, chosen.level, chosen.scale) and (
                not card.learned or _bundled(name, chosen)):
            found.add(name)
    return sorted(found)


def _bundled(name: str, protocol: protocols.Protocol) -> bool:
    try:
        bundled.find(name, protocol)
    except UserError:
        return False
    return True


def list_protocols(task: str | None = None,
                   catalog_paths: str | Path | Iterable[str | Path] = ()) -> list[str]:
    """Return the ids of protocols, such as ``sr-x2@1``, in the catalog's order.

    Args:
        task: only those of a task, such as ``sr``.
        catalog_paths: catalogs of your own.
    """
    return [one.id for one in protocols.catalog(forms.listed(catalog_paths)).values()
            if task in (None, one.task)]


def list_datasets(task: str | None = None,
                  catalog_paths: str | Path | Iterable[str | Path] = ()) -> list[str]:
    """Return the names of test sets, in the catalog's order.

    Args:
        task: only those that are customarily used for a task, such as ``sr``.
        catalog_paths: catalogs of your own.
    """
    return [one.name for one in sets.catalog(forms.listed(catalog_paths)).values()
            if one.use == "test" and (task is None or task in one.tasks)]
