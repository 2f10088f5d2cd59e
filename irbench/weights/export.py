"""Export checkpoints from a run, and import weights from elsewhere.

``export`` reads a finished training's record, its weights, the run's ``leaks.json`` and the cells
that were scored with these weights. It returns one file whose header contains all of this.
``import_weights`` takes such a file, or a state dict for a named model, checks it against the
network and stores it as DATA_ROOT/checkpoints/NAME.safetensors.

Try: ``irbench checkpoints export --protocol sr-x2 --model compacter --output my.safetensors``
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from irbench.catalog import protocols, recipe, recipes
from irbench.catalog.model import Model
from irbench.catalog.protocols import Protocol
from irbench.core import digests, files, headers, run_folder
from irbench.core.errors import Unavailable, UserError, unknown
from irbench.core.run_folder import RunFolder
from irbench.models import registry
from irbench.weights import bundled, loading, serving, storage

NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
# half precision is the number type of the file only; its weights are loaded as float32
HALF, FULL = "float16", "float32"


# -- export ----------------------------------------------------------------------------------------

def trainings(folder: Path, suffix: str = run_folder.RECORD) -> dict[str, dict[str, str]]:
    """Return the keys of a run's trainings that have a file of a suffix, by SCOPE/MODEL."""
    return {"/".join(key.values()): key for key in RunFolder(folder).keys("training", suffix)}


def find_training(folder: Path, protocol: str, model: str, command: str) -> dict:
    """Return the record of a finished training; a scope may lack its version.

    ``command`` is the command that trains it, for the message.

    Raises:
        UserError: the run has no such training; the message lists the existing ones.
        Unavailable: the training did not finish.
    """
    run, known = RunFolder(folder), trainings(folder)
    fitting = [name for name in known if _is(name, protocol, model)]
    begun = [run.beside(key, run_folder.STATE)
             for name, key in trainings(folder, run_folder.STATE).items()
             if _is(name, protocol, model)]
    if begun and not fitting:
        raise Unavailable(f"{begun[-1]}: the training {protocol}/{model} is not finished. "
                          f"Continue it with {command}; then export it.")
    if not fitting:
        raise unknown("training", f"{protocol}/{model}", known, str(folder))
    stored = run.load("training", known[fitting[-1]])
    where, record = f"{run.path}/{stored.place}", stored.record
    if record is None:
        raise UserError(f"{run.path}/{stored.problem}")
    if record["status"] != "ok":
        raise Unavailable(f"{where}: the training {record['status']}: {record['reason']}")
    return record


def _is(name: str, protocol: str, model: str) -> bool:
    scope, _, of = name.partition("/")
    return of == model and protocol in (scope, scope.rpartition("@")[0])


def export(folder: Path, protocol: str, model: str, *, half: bool = True, best: bool = False,
           command: str) -> tuple[bytes, dict]:
    """Return a self-describing file of a training's weights, and its header.

    Args:
        folder: the run's folder.
        protocol: the protocol's id, or the scope of a blind training.
        model: its name in the run.
        half: store the weights as float16.
        best: export the weights of the best validation instead of the last ones.
        command: the command that trains such weights again; kept in the header.

    Raises:
        Unavailable: the training did not finish, or its file was removed.
        UserError: no such training or no best weights; record and file do not belong together;
            or weights too large for half precision.
    """
    folder = Path(folder)
    record = find_training(folder, protocol, model, command)
    result = record["result"]
    kept = result.get("best") if best else result["checkpoint"]
    if not kept:
        raise UserError(f"training {protocol}/{model}: it kept no best weights, because it was not "
                        "validated (recipe: holdout, validate_every). Omit --best.")
    path = folder / kept["file"]
    data = storage.read(path, "Train again, which writes it anew.")
    header = _belonging(path, data, record, kept["sha256"])
    state = storage.tensors(path, data)
    if half:
        state = _halved(path, state)
    full = {**header, **_card(folder, record, kept["sha256"], header),
            "storage": HALF if half else FULL, "command": command}
    if best:
        full["best"] = {name: kept.get(name) for name in ("step", "psnr")}
    return storage.pack(state, full), full


def _belonging(path: Path, data: bytes, record: dict, sha256: str) -> dict:
    """Return the file's header. Raises UserError unless the record belongs to exactly this file."""
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UserError(f"{path}: not the file that the training's record names: it was altered, "
                        "or written by another training. Train again, which replaces both.")
    header = storage.header_of(path, data)
    expected = {"training": digests.fingerprint(record["spec"]), "model": record["key"]["model"],
                "protocol": record["key"]["protocol"]}
    wrong = [name for name, value in expected.items() if header.get(name) != value]
    if wrong:
        raise UserError(f"{path}: its header belongs to another training than the record "
                        f"({', '.join(wrong)} differ). Train again, which replaces both.")
    return {name: value for name, value in header.items() if name != "weights"}


def _halved(path: Path, state: dict) -> dict:
    import torch

    found = {name: value.half() if value.is_floating_point() else value
             for name, value in state.items()}
    large = [name for name, value in found.items()
             if value.is_floating_point() and not torch.isfinite(value).all()]
    if large:
        raise UserError(f"{path}: {', '.join(large[:3])} has values that float16 cannot hold (not "
                        "finite, or beyond 65504). Export it with --float32.")
    return found


def _card(folder: Path, record: dict, sha256: str, header: dict) -> dict:
    """Return the additional fields of the header: cost, machine, curve, scores."""
    result, where = record["result"], record["provenance"]
    hardware = where["hardware"]
    return {
        "seconds": result["seconds"], "images_seen": result["images_seen"],
        "parameters": result.get("parameters"), "images": result.get("images"),
        "final_loss": result.get("final_loss"), "waiting": result.get("waiting"),
        "hardware": {"device": result.get("device"), "device_name": result.get("device_name"),
                     "cpu": hardware.get("cpu"), "cores": hardware.get("cores"),
                     "threads": where.get("threads"), "processes": result.get("processes")},
        "validation": [[point["step"], point["psnr"]]
                       for point in result.get("validation") or ()],
        "validation_on": result.get("validation_on"),
        "scores": scores(folder, sha256, header),
        # the figures above belong to the trained file, before any rounding to half precision
        "scores_of": {"sha256": sha256, "dtype": FULL},
        "leaks": leaks(folder, header),
        # the training's, so that a repeated export gives the same bytes
        "irbench": where.get("irbench"), **_code(where)
    }


def _code(provenance: dict) -> dict:
    git = provenance.get("git") or {}
    return {"git": git.get("commit"), "dirty": git.get("dirty")}


def scores(folder: Path, sha256: str, header: dict) -> list[dict]:
    """Return the means of a run's cells that were computed with the weights of this digest.

    Variants, and inference in another number type than float32, are left out.
    """
    found = []
    for stored in RunFolder(folder).each("cell"):
        record = stored.record
        if record is None:
            continue
        model = record["spec"].get("model") or {}    # plain data, from any version of irbench
        if (record["status"] != "ok"
                or record["resolved"].get("checkpoint") != sha256 or model.get("base")
                or model.get("options") != header["options"]
                or (model.get("inference") or {}).get("dtype", FULL) != FULL):
            continue
        found.append({"protocol": record["key"]["protocol"], "dataset": record["key"]["dataset"],
                      "count": len(record["result"]["images"]), **record["result"]["mean"]})
    unique = {(one["protocol"], one["dataset"]): one for one in found}
    return [unique[key] for key in sorted(unique)]


def leaks(folder: Path, header: dict) -> list[dict] | None:
    """Return how many images each training and test set of the run share; None if not searched.

    Images that the training left out (``exclude``) are counted separately.
    """
    record = RunFolder(folder).load("leaks", {}).record
    if record is None or record["status"] != "ok":
        return None
    sets = [one["name"] for one in header.get("datasets") or ()]
    left_out = header.get("exclude") or {}
    found = []
    for entry in record["result"]["compared"]:
        if entry["train"] not in sets:
            continue
        pairs = [pair for pair in record["result"]["pairs"]
                 if (pair["train"], pair["test"]) == (entry["train"], entry["test"])]
        apart = [p for p in pairs if p["train_image"] in left_out.get(entry["train"], ())]
        found.append({"train": entry["train"], "test": entry["test"],
                      "shared": len(pairs) - len(apart), "left_out": len(apart)})
    return found


# -- import ----------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Wanted:
    """The user's description of weights without a header; None: not given."""

    arch: str | None = None
    protocol: str | None = None
    options: dict = field(default_factory=dict)
    levels: dict | None = None
    sha256: str | None = None
    name: str | None = None
    plugins: tuple[str, ...] = ()
    catalogs: tuple[str, ...] = ()
    weights_key: str | None = None


def import_weights(path: Path, data_root: Path, wanted: Wanted) -> tuple[Path, dict]:
    """Check weights from elsewhere against their network and store them; return file and header.

    A file written by irbench keeps its header; a state dict gets one from ``wanted``. Both get
    ``imported``: the name and digest of the original file. The number type is unchanged.

    Raises:
        Unavailable: the file does not exist.
        UserError: the file is altered, contains more than tensors, contains NaN or infinity, has a
            broken header, does not fit the model, or other weights already have that name.
    """
    path = Path(path)
    data = storage.read(path, "Give the path of a file of weights.")
    digest = hashlib.sha256(data).hexdigest()
    if wanted.sha256 and digest != wanted.sha256.lower():
        raise UserError(f"checkpoint {path}: its SHA-256 is {digest}, expected {wanted.sha256}: "
                        "the file was altered or is another one. Get the right one.")
    given = storage.header_of(path, data)
    if faults := headers.wrong(given):
        raise UserError(f"checkpoint {path}: its header is broken ({', '.join(faults)}). Get the "
                        "file again.")
    own = {"arch", "options", "protocol"} <= set(given)
    header = _checked(path, given, wanted) if own else _made(path, wanted)
    protocol = scope_of(header, wanted.catalogs)
    model = Model(header["arch"], header["arch"], options=header["options"])
    card = registry.get(header["arch"], wanted.plugins)
    if not card.learned or card.reference:
        raise UserError(f"{card.name} has no weights to import. Give a model with weights.")
    from irbench.weights import naming  # imports torch

    network = loading.build(model, protocol, wanted.plugins)
    state, _ = naming.choose(storage.tensors(path, data), network.state_dict(), str(path),
                             f"{card.name} for {protocol.id}", wanted.weights_key)
    _numbers(path, state)
    name = wanted.name or _default(path, header if own else None)
    if name in bundled.catalog():
        raise UserError(f"--name {name}: bundled weights have this name. Choose another.")
    if not NAME.fullmatch(name):
        raise UserError(f"--name {name!r}: names hold lower-case letters, digits, '.', '_' and "
                        "'-', and begin with a letter or digit.")
    header = {"model": name, **header, "imported": {"file": path.name, "sha256": digest}}
    return _store(Path(data_root) / "checkpoints" / f"{name}.safetensors",
                  storage.pack(state, header)), header


def _default(path: Path, header: dict | None) -> str:
    name = _plain(f"{header['arch']}-{header['protocol'].rpartition('@')[0]}" if header else
                  path.stem)
    return f"{name}-imported" if name in bundled.catalog() else name


def _numbers(path: Path, state: dict) -> None:
    """Raise UserError if a tensor has values that are NaN or infinite."""
    import torch

    wrong = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if wrong:
        raise UserError(f"checkpoint {path}: {', '.join(wrong[:3])} has values that are NaN or "
                        "infinite: the training broke down. Get other weights.")


def _store(target: Path, content: bytes) -> Path:
    if target.exists() and target.read_bytes() != content:
        raise UserError(f"{target}: other weights have this name. Choose another with --name, or "
                        "delete that file.")
    files.write_atomic(target, content)
    return target


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-.")


def _checked(path: Path, header: dict, wanted: Wanted) -> dict:
    """Return the header of a file written by irbench; the user's description must agree."""
    options = {name: header["options"].get(name) for name in wanted.options}
    for given, is_, what in ((wanted.arch, header["arch"], "--model"),
                            (wanted.options, options, "--options"),
                            (wanted.levels, header.get("levels"), "--levels")):
        if given and given != is_:
            raise UserError(f"checkpoint {path}: its header says {is_}, not {what} {given}. Omit "
                            f"{what}, or give another file.")
    own = header["protocol"]
    if wanted.protocol and wanted.protocol not in (own, own.rpartition("@")[0]) and not (
            serving.is_for(header, protocols.get(wanted.protocol, wanted.catalogs))):
        raise UserError(f"checkpoint {path}: it is for {header['protocol']}, not for --protocol "
                        f"{wanted.protocol}. Omit --protocol, or give another file.")
    return {name: value for name, value in header.items() if name != "weights"}


def _made(path: Path, wanted: Wanted) -> dict:
    """Return the header of a state dict, from the user's description."""
    if not (wanted.arch and wanted.protocol):
        raise UserError(f"checkpoint {path}: it has no header. Give --model and --protocol (and "
                        "--options, if they differ from the model's defaults).")
    card = registry.get(wanted.arch, wanted.plugins)
    for option in wanted.options:
        if option not in card.options:
            raise unknown(f"option of {card.name}", option, card.options, "--options")
    protocol = _protocol(wanted)
    if not card.can(protocol.task, protocol.level, protocol.scale):
        raise UserError(f"{card.name} cannot do {protocol.id}; it does {', '.join(card.tasks)}.")
    return {"arch": card.name, "options": {**card.options, **wanted.options},
            "protocol": recipes.scope(wanted.levels, protocol),
            "levels": wanted.levels}


def _protocol(wanted: Wanted) -> Protocol:
    """Return the protocol that the user names; for TASK-blind the first one in the given range."""
    blind = re.fullmatch(r"(\w+)-blind(?:@(\d+))?", wanted.protocol)
    if not wanted.levels:
        if blind:
            raise UserError(f"--protocol {wanted.protocol}: give the range, such as --levels "
                            "sigma=15,50.")
        return protocols.get(wanted.protocol, wanted.catalogs)
    (name, (low, high)), = wanted.levels.items()
    if name not in recipes.BLIND or not 0 < low < high <= recipe.HIGHEST[name]:
        raise UserError(f"--levels {name}={low:g},{high:g}: valid is sigma=LOW,HIGH, above 0 to "
                        "255, or quality=LOW,HIGH, above 0 to 100; the lower end first.")
    among = ([p for p in protocols.catalog(wanted.catalogs).values() if p.task == blind[1]
              and blind[2] in (None, p.id.rpartition("@")[2])] if blind else
             [protocols.get(wanted.protocol, wanted.catalogs)])
    found = next((p for p in among if recipes.covers(wanted.levels, p)), None)
    if found is None:
        raise UserError(f"--levels {name}={low:g},{high:g}: the range contains no level of "
                        f"--protocol {wanted.protocol}. {name} is a parameter of "
                        f"{' and '.join(recipes.BLIND[name])}.")
    return found


def scope_of(header: dict, catalogs: tuple[str, ...] = ()) -> Protocol:
    """Return a protocol that weights with this header serve.

    Raises UserError if none is known here.
    """
    found = next((p for p in protocols.catalog(catalogs).values()
                  if serving.is_for(header, p)), None)
    if found is None:
        raise unknown("protocol", header.get("protocol"), protocols.catalog(catalogs),
                      "the file's header")
    return found
