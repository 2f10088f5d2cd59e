"""What a training reads beside its sets: the weights to begin with, and the images of a teacher.

``fit`` replaces a recipe's ``init`` and ``teacher``, as the config has them, by the files that they
mean under a protocol, each with its digest. The digests are part of the training's spec; names and
places are not (``records.decisive``).

Reads the catalogs of weights, and headers of files; writes nothing, imports no torch. Whether any
tensor of a file fits is known when the training begins (``irbench.weights.first``).

Try: ``irbench info short``, then ``training: {recipe: short, init: bundled}`` in a config
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from irbench.catalog.known import Known
from irbench.catalog.model import Checkpoint, Inference, Model
from irbench.catalog.protocols import Protocol
from irbench.catalog.recipe import BUNDLED, Recipe
from irbench.core.digests import known_digest
from irbench.core.errors import UserError, unknown
from irbench.models import registry
from irbench.plan import external
from irbench.weights import bundled, serving, storage


def fit(model: Model, protocol: Protocol, models: Mapping[str, Model], plugins: tuple[str, ...],
        where: str, catalogs: Known, fit_model: Callable[[Model], Model]) -> Model:
    """Return a model whose recipe names the files of its ``init`` and ``teacher``.

    Args:
        model: a model with a recipe for the protocol.
        protocol: the protocol that it is trained for.
        models: the models of the config, by name: any of them may be the teacher.
        plugins: Python files with models.
        where: the place named in errors.
        catalogs: the peers that the run can name.
        fit_model: fits a teacher to the protocol: returns it with the file of its weights.

    Returns:
        The model. ``init`` is then a ``Checkpoint`` as plain data; ``teacher`` has ``model`` (its
        name), ``weight``, ``title``, ``arch``, ``options`` and ``checkpoint``, and ``inference`` if
        it is run in another way than usual.

    Raises:
        UserError: no such weights or file, weights of another architecture, no such teacher, or one
            that does not serve the protocol or whose digest is not known.
    """
    recipe, place = model.training, f"{where}: {model.name}: training"
    return replace(model, training=replace(
        recipe,
        init=recipe.init and _init(model, protocol, plugins, f"{place}.init").as_dict(),
        teacher=recipe.teacher and _teacher(recipe, protocol, models, f"{place}.teacher", catalogs,
                                            fit_model)))


# -- weights to begin with -----------------------------------------------------------------------

def _init(model: Model, protocol: Protocol, plugins: tuple[str, ...], where: str) -> Checkpoint:
    init = model.training.init
    if init == BUNDLED:
        return _file(_bundled(model, protocol, where))
    if isinstance(init, dict) and BUNDLED in init:
        known = bundled.catalog()
        if init[BUNDLED] not in known:
            raise unknown("name of bundled weights", init[BUNDLED], known, where)
        source = _file(known[init[BUNDLED]])
    else:
        given = init if isinstance(init, dict) else {"path": init}
        source = external.file_for(Checkpoint("url" if "url" in given else "file", **given),
                                   model.name, protocol, where)
        _check_file(source, where)
    if source.path and source.path.lower().endswith(".safetensors") and Path(source.path).is_file():
        _check_arch(source.path, model, plugins, where)
    return source


def _file(one: bundled.BundledWeights) -> Checkpoint:
    return Checkpoint("file", path=str(one.path), sha256=one.sha256)


def _bundled(model: Model, protocol: Protocol, where: str) -> bundled.BundledWeights:
    """Return the bundled weights of a model for a protocol; for a blind training the blind ones."""
    own = [one for one in bundled.catalog().values() if one.arch == model.arch]
    fitting = [one for one in own if serving.is_for(asdict(one), protocol)]
    if fitting:
        blind = bool(model.training.levels)
        return min(fitting, key=lambda one: bool(one.levels) != blind)
    raise UserError(f"{where}: no weights of {model.arch} for {protocol.id} are bundled. "
                    + (f"Begin with those for another task or level: {{bundled: {own[0].name}}} "
                       f"(bundled: {', '.join(one.name for one in own)}); or give a file."
                       if own else "Give a file: its path, or {url: URL, sha256: DIGEST}."))


def _check_file(source: Checkpoint, where: str) -> None:
    """Raise UserError for a file that is not there, or is another one than stated.

    A file whose digest is stated may be missing: the training is then unavailable.
    """
    if source.url:
        return
    if Path(source.path).is_dir():
        raise UserError(f"{where}: {source.path} is a folder, not a file of weights.")
    here = known_digest(Path(source.path)) if Path(source.path).is_file() else None
    if source.sha256 is None:
        raise UserError(f"{where}: {source.path}: no such file. Correct the path, or train these "
                        "weights first.")
    if here and here != source.sha256:
        raise UserError(f"{where}: {source.path}: its SHA-256 is {here}, expected {source.sha256}: "
                        "the file was altered or is another one.")


def _check_arch(path: str, model: Model, plugins: tuple[str, ...], where: str) -> None:
    """Raise UserError for weights of a network of another module: none of its tensors fits."""
    arch = storage.read_header(Path(path)).get("arch")
    theirs = registry.cards(plugins).get(arch) if isinstance(arch, str) else None
    if theirs and theirs.path != registry.get(model.arch, plugins).path:
        raise UserError(f"{where}: {path} holds weights of {arch}; none of them fits {model.arch}. "
                        f"Give weights of {model.arch}.")


# -- a teacher -----------------------------------------------------------------------------------

def _teacher(recipe: Recipe, protocol: Protocol, models: Mapping[str, Model], where: str,
             catalogs: Known, fit_model: Callable[[Model], Model]) -> dict:
    name = recipe.teacher["model"]
    if recipe.levels:
        raise UserError(f"{where}: a blind training cannot have a teacher: it draws the level of "
                        "each patch, but a teacher restores each image once. Remove `teacher`, or "
                        "give `levels: null`.")
    if not protocol.fixed_input:
        raise UserError(f"{where}: {protocol.id} cannot have a teacher: the input of each patch is "
                        "drawn anew, but a teacher restores each image once. Teachers are for "
                        "super-resolution by a whole scale and for sets of pairs.")
    fitted = fit_model(_named(name, models, where, catalogs))
    source = fitted.checkpoint
    if not source.sha256:
        raise UserError(f"{where}: the digest of the weights of {name} is not known" + (
            f": {source.path}: no such file." if source.path else
            ". Give them as a model of the config, with `external` and `sha256`."))
    how = fitted.inference.unlike(Inference())
    return {**recipe.teacher, "title": fitted.title or name, "arch": fitted.arch,
            "options": fitted.options, "checkpoint": source.as_dict(),
            **({"inference": how} if how else {})}


def _named(name: str, models: Mapping[str, Model], where: str, catalogs: Known) -> Model:
    """Return the model that a recipe names as its teacher, from the config or the peers."""
    own = {key: one for key, one in models.items() if not one.base and not one.seed_of}
    found = own.get(name)
    if found is None and name in catalogs.peers:
        return external.resolve(where, name, {}, catalogs)
    if found is None:
        raise unknown("model", name, {
            *catalogs.peers, *(key for key, one in own.items() if _able(one) == "")}, where)
    if why := _able(found):
        raise UserError(f"{where}: {name} {why}.")
    return found


def _able(model: Model) -> str:
    """Return why a model cannot be a teacher, "" if it can."""
    if model.training:
        return ("is trained in this run. Train it first, and give its file as a model with "
                "`checkpoint`")
    if model.given:
        return "is given by its result images, which are not of the training set"
    return "" if model.learned else "has no weights. Give a model with weights"
