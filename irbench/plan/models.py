"""Turn the model entries of a config into models of the plan (``irbench.catalog.model``).

Reads the registry and the catalog of peers; writes nothing, imports no torch.

Try: ``python -c "from irbench import plan; print(plan.load('config.yaml').models['compacter'])"``
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from irbench.catalog import peers, recipes
from irbench.catalog.known import Known
from irbench.catalog.model import EXTERNAL, Checkpoint, Model
from irbench.catalog.protocols import Protocol
from irbench.core import digests, messages, run_folder
from irbench.core.errors import UserError, unknown
from irbench.inference import options as inference
from irbench.models import registry
from irbench.plan import config as configs
from irbench.plan import external, sources, training_inputs, variants
from irbench.plan import trained_on as training_sets
from irbench.plan.job import Job
from irbench.weights import bundled

# fields that a training does not depend on: it runs in float32, once for all variants
NOT_TRAINED = ("inference", "base", "base_options", "variant")
BUNDLED = "bundled"  # value of a config's `checkpoint`: the weights that irbench includes
# fields that speed and size do not depend on
NAMING = ("name", "title", "note", "in_paper", "published_as")
NOT_PROFILED = ("checkpoint", "training", "base", "base_options", "variant")


def resolve(where: str, entries: dict[str, dict], plugins: tuple[str, ...],
            catalogs: Known) -> dict[str, Model]:
    """Return every model of a config by name, each base followed by its seeds and variants.

    Args:
        where: the config, for messages.
        entries: the config's ``models``.
        plugins: Python files with models.
        catalogs: the peers, recipes and printed values that the run can name.

    Raises:
        UserError: an unknown name, key or option; an option of the wrong type; missing weights, or
            weights for a model without any; a speed reference among the models; an invalid variant,
            or one whose name is already used, also by the best weights of another.
    """
    found: dict[str, Model] = {}
    for name, entry in entries.items():
        place = f"{where}: models.{name}"
        for model in _family(place, name, training_sets.undeclared(entry), plugins, catalogs):
            if model.name in found or model.name in set(entries) - {name}:
                raise UserError(f"{place}: the name {model.name!r} is used twice, by a model "
                                "and a variant (BASE.NAME) or seed (BASE.seedN). Rename one of "
                                "them.")
            found[model.name] = model
    for name, model in found.items():
        other = found.get(name.removesuffix(run_folder.BEST))
        if other not in (None, model) and all(
                one.training and not one.base for one in (model, other)):
            raise UserError(f"{where}: models.{name}: the file of its weights would be that of the "
                            f"best weights of {other.name!r}. Rename one of them.")
    return found


def _family(where: str, name: str, entry: dict, plugins: tuple[str, ...],
            catalogs: Known) -> list[Model]:
    """Resolve one entry: the base, then the other seeds of its training, then its variants."""
    if "outputs" in entry:
        return [external.given(where, name, entry, catalogs)]
    plain = _model(where, name, {k: v for k, v in entry.items()
                                 if k not in ("inference", "variants")}, plugins, catalogs)
    card = None if plain.external else registry.get(plain.arch, plugins)
    chosen = inference.resolve(entry.get("inference"), f"{where}.inference")
    if card:
        inference.check_dtype(chosen.dtype, card.dtypes, f"{where}.inference")
    # the note marks options that the paper does not describe
    changed = variants.changed(card.options if card else {}, plain.options)
    changed |= inference.changes_model(chosen)
    base = replace(plain, in_paper=plain.in_paper and not changed,
                   note=variants.note(plain.note, changed), inference=chosen)
    if chosen.self_ensemble:    # printed values of the method itself are without
        base = replace(base, title=variants.ensembled(base.title),
                       published_as=entry.get("published_as", ""))
    return [base, *_other_seeds(base, entry),
            *variants.variants_of(where, base, plain, entry.get("variants") or {}, card)]


def _other_seeds(base: Model, entry: dict) -> list[Model]:
    """Return the models BASE.seed2, BASE.seed3, ... that repeat the training of an entry.

    The first seed is the base itself, so that asking for more seeds trains nothing again.
    """
    return [replace(base, name=f"{base.name}.seed{number}", seed_of=base.name, seed=number,
                    title=variants.titled(base.title, [f"seed {number}"]))
            for number in range(2, (entry.get("training") or {}).get("seeds", 1) + 1)]


def _model(where: str, name: str, entry: dict, plugins: tuple[str, ...],
           catalogs: Known) -> Model:
    """Look up an entry in the registry and among the peers."""
    wanted = entry.get("arch", name)
    known = configs.at("plugins" if plugins else where, lambda: registry.cards(plugins))
    own = {n: card for n, card in known.items() if not card.reference}
    others = catalogs.peers
    if "external" in entry or (wanted in others and wanted not in own):
        return external.resolve(where, name, entry, catalogs)
    if wanted in known and wanted not in own:
        raise UserError(f"{where}: {wanted} is a speed reference with random weights; it cannot "
                        "restore images. Name it under profile.references instead.")
    if wanted not in own:
        hint = "" if plugins else " A model of your own needs its file under `plugins`."
        raise UserError(f"{unknown('model', wanted, {*own, *others}, where)}{hint}")
    card = own[wanted]
    if "published_as" in entry:
        raise UserError(f"{where}: 'published_as' requires `external` or `outputs`; {card.name} "
                        "is a model of irbench or of a plugin, whose card has a `published_as`.")
    card.check(f"{where}.options", entry.get("options") or {})
    training, checkpoint = entry.get("training"), _written_out(where, entry)
    if card.learned and training is not None and checkpoint is not None:
        raise UserError(f"{where}: give either `training` (train the weights here) or `checkpoint` "
                        "(take them from a file), not both. A training that begins with the "
                        "weights of a file has `init` in `training`.")
    if card.learned and training is None and checkpoint is None:
        raise UserError(f"{where}: {card.name} has weights, so the entry needs either `training` "
                        "(train them here) or `checkpoint` (take them from a file)."
                        f"{bundled.hint(card.name, None, _options(card, entry))}")
    if not card.learned and (training or checkpoint):
        raise UserError(f"{where}: {card.name} has no weights; remove "
                        f"{'training' if training else 'checkpoint'}.")
    resolved = (recipes.resolve(training, f"{where}.training", catalogs.recipes)
                if training else None)
    named = _of_card(card, name)
    return replace(named, title=entry.get("title", named.title),
                   options=_options(card, entry),
                   checkpoint=_checkpoint(where, checkpoint, bool(training)), training=resolved)


def _options(card: registry.Card, entry: dict) -> dict:
    return {**card.options, **entry.get("options", {})}


def _of_card(card: registry.Card, name: str) -> Model:
    return Model(name, card.name, card.title, card.in_paper, card.note, card.published_as,
                 card.learned, dict(card.options), own=not card.builtin)


def _written_out(where: str, entry: dict) -> str | dict | None:
    """Return the entry's checkpoint, a path with what stands beside it as a mapping."""
    given = entry.get("checkpoint")
    beside = {key: entry[key] for key in ("sha256", "weights_key") if key in entry}
    if not beside:
        return given
    if given is None or given == BUNDLED:
        raise UserError(f"{where}: {next(iter(beside))!r} goes with weights from a file: "
                        "`checkpoint: PATH`, or `external`.")
    written = given if isinstance(given, dict) else {"path": given}
    for key in beside:
        if key in written:
            raise UserError(f"{where}: {key!r} is given twice, the second time in `checkpoint`.")
    return {**written, **beside}


def _checkpoint(where: str, value: str | dict | None, trained: bool) -> Checkpoint:
    if value == BUNDLED:
        return Checkpoint(BUNDLED)
    if isinstance(value, str):
        return Checkpoint("file", path=value)
    if value is None:
        return Checkpoint("trained" if trained else "none")
    if ("url" in value) == ("path" in value):
        raise UserError(f"{where}.checkpoint: give either `path` or `url`"
                        f"{', not both' if 'url' in value else ''}.")
    digest = value.get("sha256")
    for level in digest if isinstance(digest, dict) else [""]:
        peers.digest_for(f"{where}.checkpoint", digest, level)
    if "url" in value and not configs.at(f"{where}.checkpoint.url",
                                         lambda: peers.is_url(value["url"])):
        raise UserError(f"{where}.checkpoint: {value['url']!r} is not a URL. Give `path` for a "
                        "file.")
    if "url" in value and not digest:
        raise UserError(f"{where}.checkpoint: `url` needs `sha256`, the digest of the file "
                        "(sha256sum FILE), or a mapping from levels to digests.")
    return Checkpoint("url" if "url" in value else "file", **value)


def references(where: str, names: list[str], models: dict[str, Model],
               plugins: tuple[str, ...]) -> dict[str, Model]:
    """Return the speed references as models of the plan.

    Raises:
        UserError: an unknown reference, or a model of the config has the same name.
    """
    known = {name: card for name, card in registry.cards(plugins).items() if card.reference}
    found = {}
    for name in names:
        if name not in known:
            raise unknown("reference", name, known, where)
        if name in models:
            raise UserError(f"{where}: {name!r} is also a name under `models`. Rename that model "
                            f"(`arch: {models[name].arch}` keeps its architecture).")
        found[name] = replace(_of_card(known[name], name), reference=True)
    return found


def supported(where: str, model: Model, profiled: list[Protocol],
              plugins: tuple[str, ...]) -> list[Protocol]:
    """Return those of the profiled protocols that a reference supports.

    Raises UserError if it supports none.
    """
    card = registry.get(model.arch, plugins)
    able = [one for one in profiled if card.can(one.task, one.level, one.scale)]
    if not able:
        names = ", ".join(one.id for one in profiled) or "there are none"
        raise UserError(f"{where}: {model.name} supports none of the profiled protocols of this "
                        f"run ({names}); it supports {', '.join(card.tasks)}. Remove it.")
    return able


def fit(model: Model, protocol: Protocol, plugins: tuple[str, ...], where: str,
        catalogs: Known, models: Mapping[str, Model]) -> Model:
    """Check that a model supports a protocol, and find its weights file for it.

    A path may contain the protocol's name; `bundled` becomes the path of the bundled file. A model
    to be trained gets its recipe for the protocol; ``models`` are those of the run, one of which
    may be the teacher.

    Raises:
        UserError: the model does not support the protocol, or cannot be run so under it, or no
            bundled file is for it; or see ``training_inputs.fit``.
    """
    inference.check_protocol(model.inference, protocol, f"{where}: {model.name}")
    if model.given:  # the folder may differ between sets, too: see external.fit_given
        return model
    if model.external:
        return external.fit(model, protocol, where, catalogs)
    card = registry.get(model.arch, plugins)
    if not card.can(protocol.task, protocol.level, protocol.scale):
        levels = card.levels.get(protocol.task)
        can = (f"it does {protocol.task} at {', '.join(levels)}" if levels
               else f"it does {', '.join(map(_in_words, card.tasks))}")
        if protocol.scale != int(protocol.scale) and not card.any_scale:
            can += (f", and no scale that is not whole, such as {protocol.scale:g} (`any_scale` on "
                    "the card of a model that does)")
        raise UserError(f"{where}: {model.name} ({card.name}) cannot do {protocol.id}: {can}.")
    if model.training:
        fitted = replace(model, training=recipes.for_model(model.training, card.name, protocol))
        return training_inputs.fit(
            fitted, protocol, models, plugins, where, catalogs,
            lambda teacher: fit(teacher, protocol, plugins, where, catalogs, models))
    source = model.checkpoint
    if source.kind == BUNDLED:
        return replace(model, checkpoint=configs.at(
            f"{where}: {model.name}", lambda: bundled.resolve(model, protocol)))
    if source.kind not in ("file", "url"):
        return model
    return replace(model, checkpoint=external.file_for(source, model.name, protocol, where))


def _in_words(task: str) -> str:
    return "any other task without enlargement" if task == registry.EVERY else task


def say_missing(cells: Iterable[Job]) -> None:
    """Print a warning for each entry whose files of weights are missing.

    Such a cell is no mistake in a plan: it becomes n/a, and the others go on. It is told when a run
    is planned, since the results of a long run would tell it too late.
    """
    found: dict[str, dict[str, str | None]] = {}     # entry -> protocol -> its file if missing
    for job in cells:
        source = job.model.checkpoint
        lacks = (source.path and source.kind in ("file", EXTERNAL)
                 and not Path(source.path).exists())
        found.setdefault(job.model.entry, {})[job.key["protocol"]] = source.path if lacks else None
    for entry, files in found.items():
        lacking = {protocol: path for protocol, path in files.items() if path}
        if lacking:
            under = "" if len(lacking) == len(files) else f" under {messages.some(lacking)}"
            messages.say(f"models.{entry}: checkpoint "
                         f"{messages.some(dict.fromkeys(lacking.values()))}: no such file; its "
                         f"cells{under} will have no result. Correct the path.")


def profiled(model: Model) -> dict:
    """Return what speed and size depend on: the architecture, or a third party's file."""
    return scored(model) if model.external else _without(model, NOT_PROFILED)


def profile_spec(config: dict, model: Model, protocol: Protocol) -> dict:
    """Return the spec of a model's profile; references do not affect the results of others."""
    settings = {k: v for k, v in config["profile"].items() if k != "references"}
    return {"protocol": protocol.definition(), "model": profiled(model),
            "profile": settings, "device": config["device"],
            "code": sources.digest("profile", model, tuple(config["plugins"]))}


def cost_of(model: Model, protocol: Protocol) -> str:
    """Return a digest that is equal for models whose forward pass costs the same.

    It follows from architecture, options and inference, not from weights and names.
    """
    what = {k: v for k, v in profiled(model).items() if k not in NAMING}
    return digests.fingerprint([protocol.id, what])


def trained(model: Model) -> dict:
    """Return what a training depends on; variants and inference do not change the weights."""
    return _without(model, NOT_TRAINED)


def scored(model: Model) -> dict:
    """Return what a cell depends on; a variant's difference from its base follows from both."""
    return _without(model, ("variant",))


def _without(model: Model, names: tuple[str, ...]) -> dict:
    return {k: v for k, v in model.as_dict().items() if k not in names}
