"""How the models of a run belong together, in words and in the order of tables and colours.

Pure functions of models of the plan, of which ``kinds`` tells variants and references, and of
cells' records; no files.
"""

from __future__ import annotations

from irbench.catalog.model import Model
from irbench.present import text
from irbench.report.facts import kinds
from irbench.report.run import Cell, Run

REFERENCE = "reference: random weights, speed only"


def changes(spec: Model) -> str:
    """Return what a variant changes: ``k = 64; bfloat16, compiled``."""
    options, inference = kinds.changed(spec)
    return "; ".join(filter(None, [
        ", ".join(f"{name} = {value}" for name, value in options.items()),
        text.inference(inference)]))


def sub(run: Run, model: str) -> str:
    """Return what stands below a variant's or a reference's name, unless its title says it."""
    spec = run.models[model]
    said = REFERENCE if kinds.is_reference(spec) else changes(spec)
    return "" if run.model_title(model).endswith((f"({said})", f"; {said})")) else said


def note(run: Run, model: str) -> str:
    """Return the footnote of a variant's or a reference's row, "" for any other model."""
    spec = run.models[model]
    if kinds.is_reference(spec):
        return f"{REFERENCE}; not ranked"
    if not kinds.is_variant(spec):
        return ""
    how = sub(run, model) or "run as its name says"
    return (f"variant of {run.model_title(spec.base)}: the same weights, {how}; not in the "
            "paper, not ranked")


def by_colour(models: dict[str, Model]) -> dict[str, Model]:
    """Return models in the order of their colours: variants last, so that the others differ."""
    return ({n: s for n, s in models.items() if kinds.competes(s)}
            | {n: s for n, s in models.items() if kinds.is_reference(s)} | models)


def ordered(models: dict[str, Model]) -> dict[str, Model]:
    """Return models with each base followed by its variants; references last."""
    found: dict[str, Model] = {}
    for name, spec in models.items():
        if kinds.is_reference(spec) or spec.base in models:
            continue
        found[name] = spec
        found |= {n: s for n, s in models.items() if s.base == name}
    return {**found, **models}


def variants(run: Run) -> dict[str, list[str]]:
    """Return the bases that have variants, with the names of these."""
    found: dict[str, list[str]] = {}
    for name, spec in run.models.items():
        if kinds.is_variant(spec):
            found.setdefault(spec.base, []).append(name)
    return found


def way(result: dict) -> str:
    """Return how a record's network was run, in full; "" in records that do not tell."""
    return text.inference({name: value for name, value in (result.get("inference") or {}).items()
                           if value is not None})


def circumstances(cell: Cell) -> list[str]:
    """Return what a reader must know of how a cell was computed; nothing for float32, whole."""
    told = cell.result.get("inference") or {}
    unusual = {key: told[key] for key, usual in (
        ("dtype", "float32"), ("channels_last", False), ("compile", False))
        if told.get(key, usual) != usual}
    return ([f"computed in {text.inference(unusual)}"] if unusual else []) + tiles(cell)


def tiles(cell: Cell) -> list[str]:
    """Return a sentence on the tiles that a cell's images were restored in, if any were."""
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
