"""What a caller means by a model: a name, a plugin file, a file of weights, or a torch module.

Turns each of them into the entry of a config, so that a model called from Python is the model of a
run. A class of a Python file without ``CARDS``, and a torch module, become a module in memory.

Reads the registry, headers of weights and plugin files; writes nothing.

Try: ``python -c "from irbench.api.references import refer; print(refer('compacter').name)"``
"""

from __future__ import annotations

import copy
import inspect
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from irbench.catalog import peers, protocols
from irbench.catalog.protocols import Protocol
from irbench.core import messages, plugin_files
from irbench.core.errors import UserError, in_words, unknown
from irbench.core.files import expanded, read_text
from irbench.models import registry
from irbench.weights import bundled, loading, serving, storage
from irbench.weights.cards import SUFFIXES

if TYPE_CHECKING:
    from torch import nn

PLUGIN = re.compile(r"(?P<file>.+\.py)(?::(?P<name>\w+))?")
HAS_CARDS = re.compile(r"^CARDS\b", re.MULTILINE)
VARIANT = "own"     # the name of the variant that options which do not change weights become
OTHERS = (f"FILE.py:NAME, the path of a file of weights ({', '.join(SUFFIXES)}), or a "
          "torch.nn.Module")
FORMS = f"Valid: a name (irbench.list_models()), {OTHERS}"


@dataclass(frozen=True)
class ModelReference:
    """A model as a caller named it.

    Attributes:
        name: its name in records and messages.
        entry: the entry of a config for a protocol; None for a module in memory.
        build: makes the module in memory for a protocol; None for an entry.
        plugins: the Python files that register it.
        source: the Python file that a module in memory is made from; None if there is none.
        options: the arguments that a module in memory was made with, as plain data.
        inference: how a module in memory is run; that of an entry is in the entry.
        protocols: the names, without versions, of the protocols that its weights are known to be
            for. If there is only one, a caller need not name it.
    """

    name: str
    entry: Callable[[Protocol], dict] | None = None
    build: Callable[[Protocol], nn.Module] | None = None
    plugins: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    options: dict = field(default_factory=dict)
    inference: dict = field(default_factory=dict)
    source: Path | None = None

    def protocol(self, name: str | None, catalog_paths: tuple[str, ...] = ()) -> Protocol:
        """Return the protocol of a name, or the only one that the weights are for.

        Raises UserError for an unknown name, or if none is given and there is not exactly one.
        """
        if name is not None:
            return protocols.get(name, catalog_paths)
        if len(self.protocols) == 1:
            return protocols.get(self.protocols[0], catalog_paths)
        known = (f"It has weights for {', '.join(self.protocols)}." if self.protocols else
                 "Nothing in it says what it is for.")
        raise UserError(f"model {self.name}: which protocol? {known} Name one, such as sr-x2 "
                        "(irbench list protocols).")


def refer(model: object, weights: str | Path | None = None, options: dict | None = None,
          inference: dict | None = None) -> ModelReference:
    """Return what a caller means by a model.

    Args:
        model: see ``irbench.load_model``.
        weights: a file of weights.
        options: options of the architecture.
        inference: how the network is run.

    Raises:
        UserError: nothing of that name; options or weights for a model that takes none.
    """
    given = _Given(None if weights is None else expanded(weights), dict(options or {}),
                   dict(inference or {}))
    if not isinstance(model, str | Path):
        return _of_module(model, given)
    text = str(model)
    if not is_path(text):
        return _of_name(text, given)
    if match := PLUGIN.fullmatch(text):
        return _of_plugin(expanded(match["file"]), match["name"], given)
    return _of_file(expanded(text), given)


def is_path(text: str) -> bool:
    """Return whether a text means a plugin file or a file of weights, not the name of a model."""
    return bool(PLUGIN.fullmatch(text)) or Path(text).suffix.lower() in SUFFIXES or "/" in text


@dataclass(frozen=True)
class _Given:
    """What a caller gave beside the model."""

    weights: Path | None
    options: dict = field(default_factory=dict)
    inference: dict = field(default_factory=dict)

    def only(self, what: str, *allowed: str) -> None:
        """Raise UserError if something was given that a kind of model does not take."""
        for name in ("weights", "options"):
            if getattr(self, name) and name not in allowed:
                raise UserError(f"{what} takes no {name}; remove them.")


def _plain_name(text: str) -> str:
    """Return text as the name of a model: lower-case letters, digits, '.', '_' and '-'."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("._-") or "model"


# -- names and files of weights ----------------------------------------------------------------

def _of_name(name: str, given: _Given, plugins: tuple[str, ...] = ()) -> ModelReference:
    known = registry.cards(plugins)
    if name not in known and name in peers.catalog():
        given.only(f"{name} is a published model of another group; it")
        peer = peers.catalog()[name]
        return ModelReference(name, lambda _: {"arch": name, **_inference(given)},
                              protocols=tuple(f"{peer.task}-{level}" for level in peer.urls))
    if name not in known:
        raise UserError(f"{unknown('model', name, {*known, *peers.catalog()})} A model of your "
                        f"own: {OTHERS}.")
    card = known[name]
    if not card.learned:
        given.only(f"{name} has no weights; it", "options")
        return ModelReference(name, lambda _: {**_options(given.options), **_inference(given)},
                              plugins=plugins)
    if given.weights:
        return _irbench_file(given.weights, card, given, plugins)
    own = [one for one in bundled.catalog().values() if one.arch == name]

    def entry(protocol: Protocol) -> dict:
        one = bundled.find(name, protocol)
        return {"checkpoint": "bundled", **_split(card, one.options, given.options),
                **_inference(given)}

    return ModelReference(name, entry, plugins=plugins, protocols=_served(*map(asdict, own)))


def _served(*headers: dict) -> tuple[str, ...]:
    """Return the names of the protocols that weights with these headers serve."""
    return tuple(dict.fromkeys(protocols.name_of(one.id) for one in protocols.catalog().values()
                               if any(serving.is_for(header, one) for header in headers)))


def _of_file(path: Path, given: _Given) -> ModelReference:
    """Refer to a file of weights: irbench's own, whose header says all, or another program's."""
    given.only("a file of weights", "options")
    if not path.is_file():
        raise UserError(f"{path}: no such file. {FORMS}.")
    header = _header(path)
    if "arch" in header:
        return _irbench_file(path, registry.get(header["arch"]), given, ())
    given.only(f"{path} holds another program's weights, whose options are in the file; it")
    return ModelReference(_plain_name(path.stem), lambda _: {
        "external": str(path), **_inference(given)}, protocols=_told_by_spandrel(path))


def _irbench_file(path: Path, card: registry.Card, given: _Given,
                  plugins: tuple[str, ...]) -> ModelReference:
    header = _header(path)
    trained = {**card.options, **header.get("options", {})}
    return ModelReference(_plain_name(card.name), lambda _: {
        "arch": card.name, "checkpoint": str(path),
        **(_split(card, trained, given.options) if header else _options(given.options)),
        **_inference(given)}, plugins=plugins,
        protocols=_served(header))


def _header(path: Path) -> dict:
    """Return irbench's header of a file of weights, {} for any other file."""
    if path.suffix.lower() != ".safetensors":
        return {}
    return storage.read_header(path)


def _told_by_spandrel(path: Path) -> tuple[str, ...]:
    """Return the protocol that a super-resolution network's scale implies, () if none does."""
    facts = loading.describe(path)
    name = f"sr-x{facts['scale']}"
    known = set(map(protocols.name_of, protocols.catalog()))
    return (name,) if facts["purpose"] == "SR" and name in known else ()


def _split(card: registry.Card, trained: dict, options: dict) -> dict:
    """Return ``options`` and ``variants`` of an entry for weights that were trained with options.

    An option that does not change weights may differ from the training's: it makes a variant.
    """
    free = {name: value for name, value in options.items()
            if name in card.free and value != trained.get(name)}
    held = {name: value for name, value in options.items() if name not in free}
    found: dict = _options({**trained, **held})
    return found | ({"variants": {VARIANT: {"options": free}}} if free else {})


def _options(options: dict) -> dict:
    return {"options": options} if options else {}


def _inference(given: _Given) -> dict:
    return {"inference": given.inference} if given.inference else {}


# -- modules -----------------------------------------------------------------------------------

def _of_plugin(path: Path, name: str | None, given: _Given) -> ModelReference:
    """Refer to a model of a Python file: one of its ``CARDS``, or a class (or function) in it."""
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", "") or str(error)
        raise UserError(f"{path}: {reason}. Give FILE.py:NAME, the path of a Python file and the "
                        "name of a model or class in it.") from None
    plugins = (str(path),)
    own = [card.name for card in registry.cards(plugins).values()
           if card.path == path.resolve()] if HAS_CARDS.search(text) else []
    if name in own or (name is None and len(own) == 1):
        return _of_name(name or own[0], given, plugins)
    if name is None:
        raise UserError(f"{path}: which model? " + (f"It registers {', '.join(own)}. " if own else
                        "It registers none (CARDS). ") + f"Give {path}:NAME.")
    kind = registry.object_of(path, name)
    if not callable(kind):
        raise UserError(f"{path}:{name} is {type(kind).__name__}; valid is a class of a network "
                        "(torch.nn.Module), or a function that returns one.")
    source = path.resolve()
    return ModelReference(_plain_name(name), options=_as_data(given.options),
                          inference=given.inference, source=source,
                          build=lambda protocol: _built(kind, f"{path.name}:{name}", protocol,
                                                        given, source))


def _as_data(options: dict) -> dict:
    """Return options as a record can hold them; what JSON cannot hold is there as text."""
    found = {}
    for name, value in options.items():
        try:
            found[name] = json.loads(json.dumps(value, allow_nan=False, default=repr))
        except (ValueError, TypeError):     # infinity; a dict whose keys are no texts
            found[name] = repr(value)
    return found


def _built(kind: Callable, where: str, protocol: Protocol, given: _Given,
           source: Path) -> nn.Module:
    """Call the class of a network with those of task, scale and channels that it takes by name."""
    from torch import nn

    facts = {"task": protocol.task, "scale": protocol.scale, "channels": protocol.channels}
    try:
        takes = inspect.signature(kind).parameters
        # a class without an __init__ of its own has that of nn.Module, whose **kwargs takes nothing
        everything = (getattr(kind, "__init__", None) is not nn.Module.__init__
                      and any(one.kind is one.VAR_KEYWORD for one in takes.values()))
        known = {key: value for key, value in facts.items()
                 if (key in takes or everything) and key not in given.options}
        if not everything:
            valid = [key for key, one in takes.items()
                     if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
            for key in given.options:
                if key not in valid:
                    raise unknown("option", key, valid, where)
        with plugin_files.noting(source):
            network = kind(**known, **given.options)
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:      # sys.exit, too, must not end the program
        hint = "" if given.options else " Arguments of your own go into `options`."
        raise UserError(f"{where}: it could not be built with {({**facts, **given.options})}: "
                        f"{in_words(error)}.{hint}") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"{where}: it returned {type(network).__name__}, not a torch.nn.Module.")
    if given.weights:
        from irbench.weights import naming

        data = storage.read(given.weights, "Give the path of a file of weights.")
        state, network.taken = naming.choose(storage.tensors(given.weights, data),
                                             network.state_dict(), str(given.weights), where)
        network.load_state_dict(state)
    elif any(True for _ in network.parameters()):
        messages.say(f"{where}: no weights were given, so its parameters are as its code sets them")
    return network


def _of_module(module: object, given: _Given) -> ModelReference:
    """Refer to a torch module: a copy of it is used, so that the caller's stays as it is."""
    from torch import nn

    name = type(module).__name__
    if not isinstance(module, nn.Module):
        raise UserError(f"a model of type {name}. {FORMS}.")
    given.only("a torch module")
    if any(one.is_meta for one in (*module.parameters(), *module.buffers())):
        raise UserError(f"model {name}: it holds meta tensors, which have no values. Load its "
                        "weights first.")

    def copied(_: Protocol) -> nn.Module:
        try:
            return copy.deepcopy(module)
        except Exception as error:
            raise UserError(f"model {name}: it cannot be copied ({type(error).__name__}: {error}). "
                            "Give FILE.py:NAME with `weights` instead.") from error

    return ModelReference(_plain_name(name), build=copied, inference=given.inference)
