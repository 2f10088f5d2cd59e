"""Third-party weights: from a config's entry to a model of the plan.

Reads the catalog of peers; writes nothing, imports no torch. A config names a peer
(``swinir-m:``), or gives a file of its own (``my-model: {external: URL or path, sha256: ...}``);
either becomes a model with ``arch`` "external" and a checkpoint of kind "external". Its
architecture is known only when the file is loaded (``irbench.weights.external``). An entry may also
name a folder of result images (``outputs: FOLDER``, ``irbench.data.outputs``).

Try: ``irbench list peers`` and ``irbench info drunet-color``
"""

from __future__ import annotations

import string
from dataclasses import replace
from pathlib import Path

from irbench.catalog import peers
from irbench.catalog.known import Known
from irbench.catalog.model import EXTERNAL, OUTPUTS, Checkpoint, Model
from irbench.catalog.protocols import Protocol
from irbench.core.digests import known_digest
from irbench.core.errors import Unavailable, UserError, unknown
from irbench.core.files import expanded
from irbench.data import outputs

# what a config's entry may hold beside `external`, and beside a peer's name
OWN_KEYS = {"external", "sha256", "title", "published_as", "profile", "weights_key", "trained_on"}
PEER_KEYS = {"arch", "profile", "title", "weights_key", "trained_on"}
OUTPUTS_KEYS = {"outputs", "title", "published_as", "trained_on"}
UNPINNED = "weights not pinned by a published checksum"
THIRD = "third-party weights"
GIVEN = "scored from given pictures; the model was not run here"


def resolve(where: str, name: str, entry: dict, catalogs: Known) -> Model:
    """Turn a config entry with ``external``, or that names a peer, into a model of the plan.

    ``catalogs`` are those of the run.

    Raises UserError for keys that do not apply, a URL without a digest, or a malformed digest.
    """
    if "external" in entry:
        return _own(where, name, entry, catalogs)
    peer = catalogs.peers[entry.get("arch", name)]
    _only(where, entry, PEER_KEYS, f"the peer {peer.name}")
    unpinned = [level for level, digest in peer.sha256.items() if digest is None]
    note = THIRD + (f"; {UNPINNED}" if unpinned else "")
    if unpinned and len(unpinned) < len(peer.sha256):
        note += f" ({', '.join(unpinned)})"
    return Model(name, EXTERNAL, entry.get("title", peer.title), note=note,
                 published_as=peer.published_as, checkpoint=Checkpoint(
                     EXTERNAL, peer=peer.name, weights_key=entry.get("weights_key")))


def _own(where: str, name: str, entry: dict, catalogs: Known) -> Model:
    _only(where, entry, OWN_KEYS, "`external`")
    given, digest = entry["external"], entry.get("sha256")
    try:
        place = "url" if peers.is_url(given) else "path"
    except UserError as error:
        raise UserError(f"{where}.external: {error}") from None
    for level in digest if isinstance(digest, dict) else [""]:
        peers.digest_for(f"{where}.sha256", digest, level)
    if place == "url" and not digest:
        same = [peer.name for peer in catalogs.peers.values()
                if given in peer.urls.values()]
        hint = (f" Or use the peer {same[0]!r}, which has this file." if same else "")
        raise UserError(f"{where}: `external` is a URL, so the entry needs `sha256`, the digest "
                        f"of the file (sha256sum FILE).{hint}")
    return Model(name, EXTERNAL, entry.get("title", name), note=THIRD,
                 published_as=_published_as(where, entry, catalogs),
                 checkpoint=Checkpoint(EXTERNAL, sha256=digest,
                                       weights_key=entry.get("weights_key"), **{place: given}))


def given(where: str, name: str, entry: dict, catalogs: Known) -> Model:
    """Turn a config entry with ``outputs`` into a model of the plan, which is never run.

    Raises UserError for keys that do not apply, or an unknown published method.
    """
    if extra := sorted(set(entry) - OUTPUTS_KEYS):
        raise UserError(f"{where}: {extra[0]!r} does not apply to `outputs`: the pictures in the "
                        f"folder are scored as they are. Valid: {', '.join(sorted(OUTPUTS_KEYS))}.")
    return Model(name, OUTPUTS, entry.get("title", name), note=GIVEN,
                 published_as=_published_as(where, entry, catalogs),
                 checkpoint=Checkpoint(OUTPUTS, path=entry["outputs"]))


def fit_given(model: Model, protocol: Protocol, dataset: str, where: str) -> Model:
    """Return a model of result images with the folder for a cell, and the digest of its pictures.

    The digest is None while there are none: the cell is then unavailable.

    Raises UserError for an unknown placeholder in the path.
    """
    path = _filled(model.checkpoint.path, protocol, protocol.id, where, dataset=dataset)
    try:
        found = outputs.find(path)
    except Unavailable:  # the cell says why
        found = None
    return replace(model, checkpoint=replace(model.checkpoint, path=path,
                                             sha256=found and found.sha256))


def _published_as(where: str, entry: dict, catalogs: Known) -> str:
    known = entry.get("published_as", "")
    if known and known not in (methods := catalogs.methods):
        raise unknown("published method", known, methods, f"{where}.published_as")
    return known


def _only(where: str, entry: dict, valid: set[str], what: str) -> None:
    if extra := sorted(set(entry) - valid):
        raise UserError(f"{where}: {extra[0]!r} does not apply to {what}: its weights and options "
                        f"are in its file. Valid: {', '.join(sorted(valid))}.")


def fit(model: Model, protocol: Protocol, where: str, catalogs: Known) -> Model:
    """Return the model with the weights file for a protocol and its expected digest.

    The digest is None if it is unknown before the file is fetched.

    Raises:
        UserError: a peer was not trained for the protocol; a path contains an unknown placeholder.
    """
    source = model.checkpoint
    if source.peer:
        return replace(model, checkpoint=_of_peer(model, protocol, where, catalogs))
    return replace(model, checkpoint=file_for(source, model.name, protocol, where))


def file_for(source: Checkpoint, name: str, protocol: Protocol, where: str) -> Checkpoint:
    """Return a checkpoint of a path or URL with the file for a protocol, and its digest.

    The digest of a path that nobody stated is that of the file, None while there is no file: the
    cell is then unavailable.

    Raises UserError for an unknown placeholder, or a level without a digest.
    """
    digest = peers.digest_for(where, source.sha256, protocol.level)
    if digest is None and source.sha256:
        raise UserError(f"{where}: models.{name}: `sha256` has no digest for the level "
                        f"{protocol.level}; it has {', '.join(map(str, source.sha256))}.")
    if source.url:
        return replace(source, url=fill(source.url, protocol, where), sha256=digest)
    path = fill_path(source.path, protocol, where)
    if digest is None and Path(path).is_file():
        digest = known_digest(path)
    return replace(source, path=path, sha256=digest)


def _of_peer(model: Model, protocol: Protocol, where: str,
             catalogs: Known) -> Checkpoint:
    peer = catalogs.peers[model.checkpoint.peer]
    if protocol.task != peer.task or protocol.level not in peer.urls:
        raise UserError(f"{where}: {model.name} (peer {peer.name}) cannot do {protocol.id}: "
                        f"its weights are for {peer.task} at {', '.join(peer.urls)}.")
    return replace(model.checkpoint, url=peer.urls[protocol.level],
                   sha256=peer.sha256[protocol.level], needs=peer.needs or None,
                   network=peer.network)


def fill(template: str, protocol: Protocol, where: str) -> str:
    """Put the protocol's names into a path or URL: {protocol}, {task}, {level} and {scale}.

    A name in capitals stands for its value in capitals: {LEVEL} is X2. ``{{`` stands for a brace.
    {protocol} is the id that its trainings have: a version that only scores differently has the
    weights of the version before it.

    Raises UserError for anything else in braces.
    """
    return _filled(template, protocol, protocol.training_id, where)


def _filled(template: str, protocol: Protocol, name: str, where: str, **more: str) -> str:
    values = {"protocol": name, "task": protocol.task, "level": protocol.level,
              "scale": str(protocol.scale), **more}
    named = [f"{{{name}}}" for name in values]
    values |= {name.upper(): value.upper() for name, value in values.items()}
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:
        parts = [("", "", "", None)]
    if any(name is not None and (name not in values or spec or convert)
           for _, name, spec, convert in parts):
        raise UserError(f"{where}: the path {template!r} may only contain "
                        f"{', '.join(named[:-1])} and {named[-1]} (in capitals: {{LEVEL}} is X2).")
    return "".join(text + values.get(name, "") for text, name, _, _ in parts)


def fill_path(template: str, protocol: Protocol, where: str) -> str:
    """Fill in a path, and replace ~ by the home folder.

    If there is no such file, {protocol} may be another version that the same weights serve.
    """
    first = protocol.training_id
    paths = [expanded(_filled(template, protocol, name, where)) for name in
             dict.fromkeys((first, protocol.id, *reversed(protocol.serves)))]
    return str(next((path for path in paths if path.is_file()), paths[0]))
