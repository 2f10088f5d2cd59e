"""Peers: published models of other authors, and what a config says of third-party weights.

Reads ``catalog/peers.yaml``; writes nothing, imports no torch. A config names a peer
(``swinir-m:``), or gives a file of its own (``my-model: {external: URL or path, sha256: ...}``);
either becomes a model of the plan with ``arch`` "external" and a checkpoint of kind "external".
What the file is shows only when it is loaded (``irbench.weights.external``).

Try: ``irbench list peers`` and ``irbench info drunet-color``
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from irbench.catalog import published, reader
from irbench.catalog.manifest import SCHEMES
from irbench.catalog.protocols import Protocol
from irbench.core.digests import known_digest
from irbench.core.errors import UserError, unknown

CATALOG = reader.BUILTIN / "peers.yaml"
REQUIRED = {"title", "task", "levels", "source"}
OPTIONAL = {"url", "sha256", "published_as", "note", "needs"}
# what a config's entry may hold beside `external`, and beside a peer's name
OWN_KEYS = {"external", "sha256", "title", "published_as", "profile"}
PEER_KEYS = {"arch", "profile"}
DIGEST = re.compile("[0-9a-f]{64}")
UNPINNED = "weights not pinned by a published checksum"
THIRD = "third-party weights"


@dataclass(frozen=True)
class Peer:
    """One published model: a task, the levels it was trained for, a file for each.

    Attributes:
        urls: level → where its file is; one file may serve several levels.
        sha256: level → the file's SHA-256, None where nobody published one.
        published_as: its name in published.csv, "" where no source prints it.
        needs: a package that must be installed to load it, "" for none.
    """

    name: str
    title: str
    task: str
    urls: dict[str, str]
    sha256: dict[str, str | None]
    source: str
    published_as: str = ""
    note: str = ""
    needs: str = ""

    @property
    def summary(self) -> str:
        """What a list shows of it."""
        return f"{self.title}: {self.task} {', '.join(self.urls)}"


# -- the catalog -------------------------------------------------------------------------------

@functools.cache
def catalog(path: Path = CATALOG) -> dict[str, Peer]:
    """Return every peer by name. Raises UserError for a broken entry, naming it."""
    try:
        content = reader.parse(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}. It belongs to the package: install irbench again."
                        ) from None
    entries = content.get("peers") if isinstance(content, dict) else None
    if not isinstance(entries, dict):
        raise UserError(f"{path}: valid is a mapping `peers:` from names to entries.")
    return {name: _peer(f"{path}: peer {name!r}", name, entry) for name, entry in entries.items()}


def _peer(where: str, name: str, entry: object) -> Peer:
    if not isinstance(entry, dict):
        raise UserError(f"{where}: valid is a mapping with {', '.join(sorted(REQUIRED))}.")
    for key in entry:
        if key not in REQUIRED | OPTIONAL:
            raise unknown("key", key, REQUIRED | OPTIONAL, where)
    if missing := sorted(REQUIRED - set(entry)):
        raise UserError(f"{where}: missing {', '.join(missing)}.")
    levels = entry["levels"]
    if isinstance(levels, list) == isinstance(levels, dict) or ("url" in entry) != isinstance(
            levels, list) or not levels:
        raise UserError(f"{where}: levels is a mapping from levels to URLs, or a list of levels "
                        "beside one `url`.")
    urls = dict(levels) if isinstance(levels, dict) else dict.fromkeys(levels, entry["url"])
    for url in urls.values():
        if not is_url(str(url)):
            raise UserError(f"{where}: {url!r} is no URL.")
    digests = {level: _digest(where, entry.get("sha256"), level) for level in urls}
    texts = {key: entry[key] for key in ("title", "task", "source")}
    texts |= {key: entry.get(key, "") for key in ("published_as", "note", "needs")}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise UserError(f"{where}: {key} is {value!r}; valid: a text.")
    return Peer(name=name, urls=urls, sha256=digests, **texts)


def is_url(text: str) -> bool:
    """Whether a text is an address that can be fetched, not a path. Raises for other schemes."""
    if "://" not in text:
        return False
    if urlsplit(text).scheme not in SCHEMES:
        raise UserError(f"{text}: not a URL that can be fetched. Valid: "
                        f"{', '.join(s + '://' for s in SCHEMES)}, or a path.")
    return True


def _digest(where: str, value: object, level: str) -> str | None:
    """Return the digest for a level from one digest for all, or a mapping from levels."""
    if isinstance(value, dict):
        value = value.get(level)
    if value is not None and not (isinstance(value, str) and DIGEST.fullmatch(value.lower())):
        raise UserError(f"{where}: sha256 is {value!r}; valid are 64 hexadecimal digits "
                        "(sha256sum FILE), or a mapping from levels to such.")
    return value and value.lower()


# -- from a config's entry to a model of the plan ----------------------------------------------

def resolve(where: str, name: str, entry: dict) -> dict:
    """Turn a config entry with ``external``, or that names a peer, into a model of the plan.

    Raises UserError for keys that do not go with it, a URL without a digest, a wrong digest.
    """
    if "external" in entry:
        return _own(where, name, entry)
    peer = catalog()[entry.get("arch", name)]
    _only(where, entry, PEER_KEYS, f"the peer {peer.name}")
    unpinned = [level for level, digest in peer.sha256.items() if digest is None]
    note = THIRD + (f"; {UNPINNED}" if unpinned else "")
    if unpinned and len(unpinned) < len(peer.sha256):
        note += f" ({', '.join(unpinned)})"
    return _model(name, peer.title, note, peer.published_as,
                  {"kind": "external", "peer": peer.name})


def _own(where: str, name: str, entry: dict) -> dict:
    _only(where, entry, OWN_KEYS, "`external`")
    given, digest = entry["external"], entry.get("sha256")
    try:
        place = "url" if is_url(given) else "path"
    except UserError as error:
        raise UserError(f"{where}.external: {error}") from None
    for level in digest if isinstance(digest, dict) else [""]:
        _digest(f"{where}.sha256", digest, level)
    if place == "url" and not digest:
        same = [peer.name for peer in catalog().values() if given in peer.urls.values()]
        hint = (f" Or name the peer {same[0]!r}, whose file it is." if same else "")
        raise UserError(f"{where}: `external` is a URL, so the entry needs `sha256`, the digest "
                        f"of the file that is meant (sha256sum FILE).{hint}")
    known = entry.get("published_as", "")
    if known and known not in (methods := published.methods(published.load())):
        raise unknown("published method", known, methods, f"{where}.published_as")
    return _model(name, entry.get("title", name), THIRD, known,
                  {"kind": "external", place: given, "sha256": digest})


def _only(where: str, entry: dict, valid: set[str], what: str) -> None:
    if extra := sorted(set(entry) - valid):
        raise UserError(f"{where}: {extra[0]!r} does not go with {what}: its weights and options "
                        f"are in its file. Valid: {', '.join(sorted(valid))}.")


def _model(name: str, title: str, note: str, published_as: str, checkpoint: dict) -> dict:
    return {"name": name, "arch": "external", "title": title, "in_paper": False, "note": note,
            "published_as": published_as, "learned": True, "options": {},
            "checkpoint": checkpoint, "training": None}


def fit(model: dict, protocol: Protocol, where: str) -> dict:
    """Return the model with the one file that a protocol takes, and the digest it must have.

    The digest is None where it is not known before the file is fetched.

    Raises:
        UserError: a peer was not trained for the protocol; a path names an unknown placeholder.
    """
    source = model["checkpoint"]
    if "peer" in source:
        peer = catalog()[source["peer"]]
        if protocol.task != peer.task or protocol.level not in peer.urls:
            raise UserError(f"{where}: {model['name']} (peer {peer.name}) cannot do {protocol.id}: "
                            f"its weights are for {peer.task} at {', '.join(peer.urls)}.")
        found = {"url": peer.urls[protocol.level], "sha256": peer.sha256[protocol.level]}
        if peer.needs:
            found["needs"] = peer.needs
        return {**model, "checkpoint": {**source, **found}}
    digest = _digest(where, source["sha256"], protocol.level)
    if "url" in source:
        if digest is None:
            raise UserError(f"{where}: models.{model['name']}.sha256 has no digest for the level "
                            f"{protocol.level}.")
        url = fill(source["url"], protocol, where)
        return {**model, "checkpoint": {"kind": "external", "url": url, "sha256": digest}}
    path = fill_path(source["path"], protocol, where)
    if digest is None and Path(path).is_file():
        digest = known_digest(path)
    return {**model, "checkpoint": {"kind": "external", "path": path, "sha256": digest}}


def fill(template: str, protocol: Protocol, where: str) -> str:
    """Put the protocol's names into a path or URL: {protocol}, {task} and {level}."""
    try:
        return template.format(protocol=protocol.id, task=protocol.task, level=protocol.level)
    except (KeyError, IndexError, ValueError, AttributeError):
        raise UserError(f"{where}: the checkpoint path {template!r} may only "
                        "hold {protocol}, {task} and {level}.") from None


def fill_path(template: str, protocol: Protocol, where: str) -> str:
    """Fill a path, ~ replaced by the home folder."""
    return str(Path(fill(template, protocol, where)).expanduser())
