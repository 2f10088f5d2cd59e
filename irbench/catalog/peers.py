"""Peers: published models of other authors, with the URL and SHA-256 of their weights.

Reads ``catalog/peers.yaml`` and the section ``peers:`` of users' catalogs; writes nothing and does
not import torch. A config names a peer (``swinir-m:``), which ``irbench.plan.external`` turns into
a model of the plan.

Try: ``irbench list peers`` and ``irbench info drunet-color``
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from irbench.catalog import reader
from irbench.catalog.manifest import NAME, SCHEMES, scheme
from irbench.core import forms
from irbench.core.errors import UserError, unknown

CATALOG = reader.BUILTIN / "peers.yaml"
REQUIRED = {"title", "task", "levels", "source"}
OPTIONAL = {"url", "sha256", "published_as", "note", "needs", "network"}
DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Peer:
    """One published model: its task, the levels it was trained for, and a file for each level.

    Attributes:
        urls: level → the URL of its file; one file may serve several levels.
        sha256: level → the file's SHA-256, None if nobody published one.
        published_as: its name in published.csv, "" if no source prints it.
        needs: a package that must be installed to load it, as pip names it, "" for none.
        network: for a network of ``irbench.models.peers``, its ``architecture`` and the options of
            its builder; None: spandrel recognises the file.
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
    network: dict | None = None

    @property
    def summary(self) -> str:
        """The line that ``irbench list`` shows."""
        return f"{self.title}: {self.task} {', '.join(self.urls)}"


def catalog(paths: Iterable[str | Path] = ()) -> dict[str, Peer]:
    """Return every peer by name: irbench's own and those of the given files or folders.

    Raises UserError for a broken entry, naming it, and for a name defined twice.
    """
    found, homes = dict(_builtin()), dict.fromkeys(_builtin(), CATALOG)
    for path in reader.files_of_users("peers", paths):
        for name, peer in _of_file(path).items():
            if name in found:
                raise reader.taken(path, "peer", name, homes[name])
            found[name], homes[name] = peer, path
    return found


@functools.cache
def _builtin() -> dict[str, Peer]:
    return _of_file(CATALOG)


def _of_file(path: Path) -> dict[str, Peer]:
    return {name: _peer(f"{path}: peer {name!r}", name, entry)
            for name, entry in reader.section(path, "peers").items()}


def _peer(where: str, name: object, entry: object) -> Peer:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UserError(f"{where}: not a valid name. Valid: lower-case letters, digits and _ . -, "
                        "beginning with a letter or digit.")
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
            raise UserError(f"{where}: {url!r} is not a URL.")
    digests = {level: digest_for(where, entry.get("sha256"), level) for level in urls}
    texts = {key: entry[key] for key in ("title", "task", "source")}
    texts |= {key: entry.get(key, "") for key in ("published_as", "note", "needs")}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise UserError(f"{where}: {key} is {value!r}; valid: a text.")
    if not forms.line(texts["title"]):
        raise UserError(f"{where}: title is {texts['title']!r}; valid: one line of text.")
    network = entry.get("network")
    if network is not None and not (isinstance(network, dict)
                                    and isinstance(network.get("architecture"), str)):
        raise UserError(f"{where}: network is {network!r}; valid: a mapping with `architecture` "
                        "and options of its builder.")
    return Peer(name=name, urls=urls, sha256=digests, network=network, **texts)


def is_url(text: str) -> bool:
    """Whether a text is a URL that can be fetched, not a path. Raises UserError for other schemes.
    """
    if "://" not in text:
        return False
    if scheme(text) not in SCHEMES:
        raise UserError(f"{text}: not a URL that can be fetched. Valid: "
                        f"{', '.join(s + '://' for s in SCHEMES)}, or a path.")
    return True


def digest_for(where: str, value: object, level: str) -> str | None:
    """Return the digest for a level, from one digest for all levels or a mapping from levels.

    Returns None if none is given. Raises UserError for a value that is not a SHA-256.
    """
    if isinstance(value, dict):
        value = value.get(level)
    if value is not None and not (isinstance(value, str) and DIGEST.fullmatch(value.lower())):
        raise UserError(f"{where}: sha256 is {value!r}; valid are 64 hexadecimal digits "
                        "(sha256sum FILE), or a mapping from levels to such.")
    return value and value.lower()
