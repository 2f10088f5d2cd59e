"""How the models of a run belong together: descriptions, and the order of tables and colours.

Pure functions of the models of the plan and of the records of cells; no files. ``kinds`` decides
which models are variants or references.
"""

from __future__ import annotations

from collections.abc import Iterable

from irbench.catalog.model import Model
from irbench.present import text
from irbench.report.facts import kinds
from irbench.report.run import Cell, Outcome, Run

REFERENCE = "reference: random weights, speed only"
REBUILT = {"semanir": "SemanIR", "compacter": "Compacter"}    # by how their cards begin


def changes(spec: Model) -> str:
    """Return what a variant changes: ``k = 64; bfloat16, compiled``."""
    options, inference = kinds.changed(spec)
    return "; ".join(filter(None, [
        ", ".join(f"{name} = {value}" for name, value in options.items()),
        text.inference(inference)]))


def sub(run: Run, model: str) -> str:
    """Return the line below the name of a variant or reference, "" if its title includes it."""
    spec = run.models[model]
    addition = REFERENCE if kinds.is_reference(spec) else changes(spec)
    return "" if run.model_title(model).endswith((f"({addition})", f"; {addition})")) else addition


def note(run: Run, model: str) -> str:
    """Return the footnote of the row of a variant, a reference or a self-ensemble, else ""."""
    spec = run.models[model]
    if kinds.is_reference(spec):
        return f"{REFERENCE}; not ranked"
    if not kinds.is_variant(spec):
        return (f"{text.inference({'self_ensemble': True})}; not ranked"
                if spec.inference.self_ensemble else "")
    how = sub(run, model) or "run as its name states"
    return (f"variant of {run.model_title(spec.base)}: the same weights, {how}; not in the "
            "paper, not ranked")


def by_colour(models: dict[str, Model]) -> dict[str, Model]:
    """Return models in the order of their colours: variants and other seeds last."""
    return ({n: s for n, s in models.items() if kinds.competes(s) and not kinds.is_repeat(s)}
            | {n: s for n, s in models.items() if kinds.is_reference(s)} | models)


def ordered(models: dict[str, Model]) -> dict[str, Model]:
    """Return models with each base followed by its other seeds and variants; references last."""
    found: dict[str, Model] = {}
    for name, spec in models.items():
        if kinds.is_reference(spec) or {spec.base, spec.seed_of} & {*models}:
            continue
        found[name] = spec
        found |= {n: s for n, s in models.items() if s.seed_of == name}
        found |= {n: s for n, s in models.items() if s.base == name}
    return {**found, **models}


def rebuilt(run: Run) -> list[str]:
    """Return the methods that irbench has rebuilt from their papers, if a model is one of them."""
    cards = {spec.arch.partition("-")[0] for spec in run.models.values() if not spec.own}
    return [title for card, title in REBUILT.items() if card in cards]


def variants(run: Run) -> dict[str, list[str]]:
    """Return each base that has variants, with the names of its variants."""
    found: dict[str, list[str]] = {}
    for name, spec in run.models.items():
        if kinds.is_variant(spec):
            found.setdefault(spec.base, []).append(name)
    return found


def seeds(cell: Cell, metric: str) -> list[str]:
    """Return a note on a mean over seeds that not all seeds have, else []."""
    known = cell.of(metric)
    lost = [f"seed {number}: {one.reason or one.missing.get(metric) or one.status}".rstrip(".")
            for number, one in enumerate(cell.seeds, 1) if one not in known]
    return [f"{'mean of ' if len(known) > 1 else ''}{len(known)} of {len(cell.seeds)} seeds "
            f"({'; '.join(lost)})"] if lost and known else []


def seeded(cells: Iterable[Cell]) -> str:
    """Return a sentence for the caption of a plot on the means over seeds, "" if there are none."""
    return ("Of a training with several seeds the mean over them is shown."
            if any(cell.seeds for cell in cells) else "")


def spread(cell: Cell, metric: str) -> str:
    """Return the standard deviation of a mean over seeds as shown, "" without one."""
    found = cell.spread.get(metric)
    return "" if found is None else text.difference(metric, found).removeprefix("+")


def way(result: dict) -> str:
    """Return in full how the network of a record was run; "" if the record does not hold it."""
    return text.inference({name: value for name, value in (result.get("inference") or {}).items()
                           if value is not None})


def passes(result: dict) -> list[str]:
    """Return notes on a profile of which one image is more than one forward pass."""
    tiles = result.get("tiles") or 1
    many = (result.get("inference") or {}).get("self_ensemble")
    return ([f"the input goes through the network in {tiles} tiles; all values are for all tiles"]
            if tiles > 1 else []) + (
        ["self-ensemble: 8 forward passes for one image; time, memory, energy and MACs are for all "
         "of them"] if many else [])


def of_shared(run: Run, job: Outcome | None) -> list[str]:
    """Return a note if the profile of a model was measured with another one, else []."""
    return ([f"cost measured with {run.model_title(job.shared)}, which has the same architecture "
             "and options"] if job and job.shared else [])


def of_profile(run: Run, job: Outcome) -> list[str]:
    """Return the notes on the values of a profile."""
    return [*of_shared(run, job), *passes(job.result)]


def circumstances(cell: Cell) -> list[str]:
    """Return notes on how a cell was computed; [] for float32 without tiles."""
    settings = cell.result.get("inference") or {}
    unusual = {key: settings[key] for key, usual in (
        ("dtype", "float32"), ("channels_last", False), ("compile", False))
        if settings.get(key, usual) != usual}
    return [*([f"computed in {text.inference(unusual)}"] if unusual else []), *tiles(cell),
            *lossy(cell), *filter(None, [cell.same_pictures])]


def lossy(cell: Cell) -> list[str]:
    """Return a note if given pictures of a cell went through a lossy compression, else []."""
    given = ((cell.record or {}).get("resolved") or {}).get("outputs")
    found = given.get("lossy") if isinstance(given, dict) else None
    if not isinstance(found, dict) or not found:
        return []
    kinds = ", ".join(f"{count} {name}" for name, count in found.items())
    return [f"its pictures are compressed with loss ({kinds} of {len(cell.images)}), so they are "
            "not what the model returned"]


def tiles(cell: Cell) -> list[str]:
    """Return a note if images of a cell were restored in tiles, else []."""
    tiling = cell.result.get("tiling")
    return [_tiled(tiling, len(cell.images))] if tiling else []


def _tiled(tiling: dict, images: int) -> str:
    size = text.TIMES.join(map(str, tiling.get("size") or ())) or "unknown size"
    overlap = tiling.get("overlap")
    reason = str(tiling.get("reason") or "").rstrip(".")
    return "".join([
        f"restored in tiles of {size} input pixels",
        "" if overlap is None else f" with an overlap of {overlap}",
        f" ({tiling['images']} of {images} images)" if tiling.get("images") else "",
        f": {reason}" if reason else ""])
