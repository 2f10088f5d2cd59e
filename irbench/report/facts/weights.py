"""What is known of each set of weights in a run: how they were trained, and which cells they serve.

One class for both sources: the record of a training of this run, and the header of a file (bundled,
local or downloaded), which the records of its cells keep. Unknown fields are None or empty. Reads
nothing but the collected run; writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from irbench.core import headers
from irbench.present import text
from irbench.report.facts import family, kinds
from irbench.report.run import Cell, Outcome, Run

HERE, BUNDLED = "trained in this run", "bundled with irbench"
DEVICES = {"cpu": "a CPU", "cuda": "a GPU", "mps": "a GPU"}     # words for readers of a paper
ORIGINS = {"trained": HERE, "bundled": BUNDLED, "file": "from a local file", "url": "downloaded"}


@dataclass(frozen=True)
class Weights:
    """One set of weights. Counts, seconds and dB are None where they are not recorded.

    ``recipe`` is the name of the recipe; ``ours`` are its fields that no paper prints.
    ``datasets`` are names; ``best`` and ``last`` are (step, PSNR in dB) of the validation;
    ``waiting`` is the share, 0 to 1, of the time spent waiting for data.
    """

    model: str
    scope: str                      # a protocol, or TASK-blind@VERSION
    origin: str                     # one of ORIGINS
    levels: dict                    # the range of a blind training; {} for one level
    job: Outcome | None = None      # of a training of this run
    cells: list[Cell] = field(default_factory=list)
    recipe: str = ""
    loss: str = ""
    note: str = ""
    ours: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    exclude: dict = field(default_factory=dict)
    images: dict = field(default_factory=dict)      # training, held_out
    facts: dict = field(default_factory=dict)       # steps, seconds, images_seen, ... as recorded
    hardware: dict = field(default_factory=dict)    # device, device_name, threads, processes
    validation: list[tuple[int, float]] = field(default_factory=list)
    validation_on: dict = field(default_factory=dict)
    best: tuple[int, float] | None = None
    declared: str = ""              # the sets that the config names, in words

    @property
    def sources(self) -> list[str]:
        """What the training used beside its sets, in words: ``origins`` of its facts."""
        return origins(self.facts)

    @property
    def last(self) -> tuple[int, float] | None:
        """The last validation."""
        return self.validation[-1] if self.validation else None

    @property
    def known(self) -> bool:
        """Whether anything is known of the training."""
        return bool(self.facts)


def all_weights(run: Run) -> list[Weights]:
    """Return the weights of a run, by model and in the order of the plan.

    The list omits models without weights, variants (which have the weights of their base),
    references, and networks of third parties, whose training is not recorded.
    """
    found = {}
    for (scope, model), job in run.trainings.items():
        found[model, scope] = _trained(run, scope, model, job)
    for cell in run.cells:
        spec = run.models[cell.model]
        kind = spec.checkpoint.kind
        if kind not in ORIGINS or spec.external or not kinds.competes(spec):
            continue
        job = run.training(cell.protocol, cell.model)
        if kind == "trained":
            scope = job.protocol if job else cell.protocol
        else:
            scope = run.header(cell.protocol, cell.model).get("protocol", cell.protocol)
        if (cell.model, scope) not in found:
            found[cell.model, scope] = (
                Weights(cell.model, scope, HERE, {}) if kind == "trained" else
                _filed(cell.model, scope, ORIGINS[kind], run.header(cell.protocol, cell.model)))
        found[cell.model, scope].cells.append(cell)
    order = list(family.ordered(run.models))
    found = {key: replace(one, declared=declared(run, one.model))
             for key, one in found.items()}
    return sorted(found.values(), key=lambda one: order.index(one.model))


def planned(run: Run) -> bool:
    """Return whether a run has weights whose training can be reported."""
    return bool(run.trainings) or any(one.origin == BUNDLED or one.known
                                      for one in all_weights(run))


def _trained(run: Run, scope: str, model: str, job: Outcome) -> Weights:
    record = job.record or {}
    spec = record.get("spec") or {}
    planned = run.models[model].training
    recipe = (spec.get("model") or {}).get("training") or (planned.as_dict() if planned else {})
    result = job.result
    curve = [(p["step"], p["psnr"]) for p in result.get("validation") or ()]
    best = result.get("best")
    return Weights(
        model, scope, HERE, recipe.get("levels") or {}, job, [], *_recipe(recipe),
        [str(name) for name in recipe.get("data") or ()], recipe.get("exclude") or {},
        result.get("images") or {}, result,
        {"device": result.get("device"), "device_name": result.get("device_name"),
         "threads": (record.get("provenance") or {}).get("threads"),
         "processes": result.get("processes")} if result else {},
        curve, result.get("validation_on") or {}, (best["step"], best["psnr"]) if best else None)


def _filed(model: str, scope: str, origin: str, header: dict) -> Weights:
    curve = [(int(point[0]), float(point[1])) for point in header.get("validation", ())
             if isinstance(point, list | tuple) and len(point) == 2
             and all(headers.is_a(value, float) for value in point)]
    names = [one.get("name") for one in header.get("datasets", ()) if isinstance(one, dict)]
    return Weights(
        model, scope, origin, header.get("levels", {}), None, [],
        *_recipe(header.get("recipe", {})), [str(name) for name in names if name],
        header.get("exclude", {}), header.get("images", {}), header, header.get("hardware", {}),
        curve, header.get("validation_on", {}),
        max(curve, key=lambda point: point[1]) if curve else None)


def _recipe(recipe: dict) -> tuple[str, str, str, list[str]]:
    """Return name, loss, note and our own fields of a recipe, from a record or a header."""
    ours = recipe.get("unknown")
    return (*(str(recipe.get(name) or "") for name in ("recipe", "loss", "note")),
            list(map(str, ours)) if isinstance(ours, list) else [])


# -- in words ------------------------------------------------------------------------------------

def levels(ranges: dict) -> str:
    """Return ``sigma 15 to 50`` for a blind range, "" for none."""
    return ", ".join(f"{name} {ends[0]} to {ends[1]}" for name, ends in ranges.items()
                     if isinstance(ends, list) and len(ends) == 2)


def borrowed(cell: Cell) -> list[str]:
    """Return a note if a cell ran weights that were trained for another task, else []."""
    task = text.split_id(str(cell.header.get("protocol", "")))[0]
    if task in ("", cell.task):
        return []
    ranges = levels(cell.header.get("levels", {}))
    return [f"weights trained for another degradation ({text.task_title(task)}"
            f"{f', {ranges}' if ranges else ''}), run as they are"]


def data(one: Weights) -> str:
    """Return the training sets and the number of their images, and those that the config names.

    "" if none are known.
    """
    count = one.images.get("training")
    recorded = ", ".join(one.datasets) + (f": {count} images" if one.datasets and count else "")
    return "; ".join(filter(None, [recorded, one.declared]))


def declared(run: Run, model: str) -> str:
    """Return the sets that the config says a model's weights were trained on, "" if none."""
    sets = run.declared.get(model, {})
    without = "".join(f"; left out: {', '.join(images)} of {name}"
                      for name, images in sets.items() if images)
    return f"{', '.join(sets)} (declared in the config{without})" if sets else ""


def origins(facts: dict) -> list[str]:
    """Return what a training used beside its sets, in words: a teacher, weights to begin with.

    ``facts`` is the result of a training's record, or the checked header of a file.
    """
    teacher, init = facts.get("teacher"), facts.get("init")
    return [*([f"distilled from {teacher['title']}"] if teacher else []),
            *([f"began with {headers.begun(init)}"] if init else [])]


def left_out(one: Weights) -> str:
    """Return which images of the sets the training left out, "" if none are known."""
    held = one.images.get("held_out")
    return "; ".join(filter(None, [
        "left out: " + ", ".join(f"{', '.join(map(str, names))} of {name}"
                                 for name, names in one.exclude.items())
        if any(one.exclude.values()) else "",
        f"{held} image{'s' * (held != 1)} held out for validation" if held else ""]))


def machine(one: Weights) -> str:
    """Return the device with its threads and processes: ``Some CPU, 1 thread``."""
    has = one.hardware
    name = str(has.get("device_name") or has.get("cpu") or has.get("device") or "")
    parts = [name]
    for key, word, least in (("threads", "thread", 0), ("processes", "process", 1)):
        count = has.get(key)
        if count and count > least and not (key == "threads" and has.get("device") == "cuda"):
            plural = "es" if word.endswith("s") else "s"
            parts.append(f"{count} {word}{plural * (count != 1)}")
    return ", ".join(parts) if name else ""


def validated(one: Weights) -> str:
    """Return the basis of the validation PSNR (unit, images, protocol), "" if not recorded."""
    return "; ".join(validation(one, ""))


def validation(one: Weights, scope: str) -> list[str]:
    """Return the parts of ``validated``; ``scope``: a protocol that need not be named."""
    on = one.validation_on
    if not on:
        return []
    images, protocol = on.get("images"), on.get("protocol")
    return [*filter(None, [
        str(on.get("metric") or "PSNR, dB"),
        f"{images} image{'s' * (images != 1)} held out of training" if images else "",
        f"{on['crop']}" if on.get("crop") else "",
        f"degraded and scored under {'the protocol trained for' if protocol == scope else protocol}"
        if protocol else ""])]


def bundled(run: Run) -> str:
    """Return a sentence on the bundled weights of a run, "" if it has none."""
    ones = [one for one in all_weights(run) if one.origin == BUNDLED]
    if not ones:
        return ""
    longest = max((one.facts["seconds"] for one in ones if "seconds" in one.facts), default=None)
    devices = sorted({DEVICES[one.hardware["device"]] for one in ones
                      if one.hardware.get("device") in DEVICES})
    cost = "" if longest is None else f", {text.duration(longest)} at most" + (
        f" on {' or '.join(devices)}" if devices else "")
    return (f"These weights come with irbench. This pipeline made them in a short training{cost}, "
            "with much less data and time than in the papers.")


def unfinished(run: Run) -> list[str]:
    """Return a sentence for each training that began and did not end."""
    return [f"The training of {run.model_title(job.model)} for {job.protocol} {job.unfinished}. "
            "Its state is kept: run the workflow again to resume it."
            for job in run.trainings.values() if job.unfinished]

