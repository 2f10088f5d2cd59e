"""All names that a config may use, with what each stands for: for ``list`` and ``info``.

Reads the catalogs and the config, which may be missing.

Try: ``irbench list models``
"""

from __future__ import annotations

import argparse
from pathlib import Path

from irbench.catalog import peers, protocols, published, recipes
from irbench.catalog.known import Known
from irbench.core import messages
from irbench.core.errors import UserError
from irbench.data import sets
from irbench.models import registry
from irbench.plan import config as configs
from irbench.plan import models as model_entries
from irbench.plan import scoring

NO_CONFIG = {"catalog_paths": [], "plugins": [], "models": {}}


def add_config(parser: argparse.ArgumentParser, verb: str) -> None:
    """Add the option that names the config; ``verb`` says what is done with its names."""
    parser.add_argument("--config", help=f"also {verb} what this config adds, and its models; "
                        f"default: {configs.DEFAULT}, if there is one")


def everything(config: str | None) -> dict[str, dict]:
    """Return models, peers, protocols, datasets, recipes, metrics and published methods by name.

    Args:
        config: adds its own; None: ``config.yaml``, if there is one. If that is invalid it adds
            nothing, and this is said: who mends it needs the names.

    Raises:
        UserError: an invalid config that was named.
    """
    if config is None and Path(configs.DEFAULT).is_file():
        try:
            return _with(configs.DEFAULT)
        except UserError as error:
            messages.say(f"{configs.DEFAULT} adds nothing: {error}")
    return _with(config)


def _with(config: str | None) -> dict[str, dict]:
    loaded = configs.load(config) if config else NO_CONFIG
    where = f"config {config}"
    if config:
        scoring.resolve(loaded["metrics"], loaded["metric_plugins"], where)
    catalogs, plugins = tuple(loaded["catalog_paths"]), tuple(loaded["plugins"])
    cards, others = registry.cards(plugins), peers.catalog(catalogs)
    # a model of the config may have the name of its architecture, which then stands for that
    own = {name: model for name, model in model_entries.resolve(
        where, loaded["models"], plugins, Known.of(catalogs)).items()
        if name not in cards and name not in others} if loaded["models"] else {}
    return {"models": {**cards, **own}, "peers": others,
            "protocols": protocols.catalog(catalogs), "datasets": sets.catalog(catalogs),
            "recipes": recipes.catalog(catalogs), "metrics": scoring.listed(),
            "published": _published(catalogs)}


def _published(catalogs: tuple[str, ...]) -> dict[str, dict]:
    """Return the published methods, which `irbench table --rows` takes, each with its tasks."""
    tasks: dict[str, dict[str, None]] = {}
    for figure in (*published.load(), *published.of_users(catalogs)):
        tasks.setdefault(figure.method, {})[figure.task] = None
    return {method: {"note": ", ".join(found)} for method, found in tasks.items()}
