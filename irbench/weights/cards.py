"""Descriptions of weights for people: the list of all files, and the card of one file.

Reads only headers and digests, and does not import torch. It covers the bundled files, those in
DATA_ROOT/checkpoints (imported, or fetched for a model) and those that runs have trained. Published
figures are shown beside measured ones where irbench has them; gap = measured - published.

Try: ``irbench checkpoints show compacter-sr-x2``
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from irbench.catalog import protocols, published
from irbench.catalog.recipe import OF_A_PHASE
from irbench.core import digests, headers, metrics, run_folder
from irbench.core.errors import UserError, unknown
from irbench.models import registry
from irbench.weights import bundled, export, loading, serving, storage

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
BUNDLED, HERE, RUN = "bundled", "data", "run"
SHOWN = 3  # scores in a line of the list
EARLIER = ("(@1), (@2): scored under this earlier version of the protocol. Values of the latest "
           "may differ: do not compare the two.")


@dataclass(frozen=True)
class Listed:
    """A file of weights; ``header`` is {} for third-party weights, ``run`` a run's folder or None.

    ``fault`` is the reason why the file cannot be used, "" if none is known. ``header`` is {} for
    such a file.
    """

    name: str
    source: str
    path: Path
    header: dict
    run: Path | None = None
    fault: str = ""

    @property
    def sha256(self) -> str:
        """The file's digest."""
        return digests.known_digest(self.path)

    @property
    def scores(self) -> list[dict]:
        """Means by protocol and dataset, from the header or from the run's cells."""
        if self.run and "scores" not in self.header and "options" in self.header:
            return export.scores(self.run, self.sha256, self.header)
        return self.header.get("scores") or []


# -- the list --------------------------------------------------------------------------------------

def listing(data_root: Path, results: Path) -> list[Listed]:
    """Return all local files of weights: bundled, below ``data_root``, and from runs."""
    return list(_all(Path(data_root), Path(results)))


def _all(data_root: Path, results: Path) -> Iterator[Listed]:
    for one in bundled.catalog().values():
        if one.path.is_file():
            yield _bundled(one)
    for path in sorted((data_root / "checkpoints").glob("*")):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            yield _listed(path.stem, HERE, path)
    for run in run_folder.runs(results):
        for path in run.all_weights():
            yield _listed(f"{run.path.name}/{path.parent.name}/{path.stem}", RUN, path, run.path)


def _bundled(one: bundled.BundledWeights) -> Listed:
    if fault := bundled.altered(one):
        return Listed(one.name, BUNDLED, one.path, {}, fault=fault)
    return _listed(one.name, BUNDLED, one.path)


def _listed(name: str, source: str, path: Path, run: Path | None = None) -> Listed:
    header, fault = {}, ""
    if path.suffix.lower() == ".safetensors":
        try:
            header = storage.read_header(path)
        except UserError as error:
            fault = str(error)
        if wrong := headers.wrong(header):
            header, fault = {}, (f"checkpoint {path}: its header is broken ({', '.join(wrong)}). "
                                 "Get the file again.")
    return Listed(name, source, path, header, run, fault)


def table(found: list[Listed]) -> str:
    """Return the list as a table for a terminal."""
    shown = tabulate(
        [[one.name, one.source, one.header.get("arch", "-"), one.header.get("protocol", "-"),
          one.header.get("steps") or "-", f"{one.path.stat().st_size / 1e6:.2f}", one.sha256[:12],
          "not usable, see below" if one.fault else _brief(one.scores)] for one in found],
        ["name", "from", "model", "for", "steps", "MB", "sha256", "PSNR (dB)"],
        disable_numparse=True,
        colalign=["left"] * 4 + ["right", "right", "left", "left"])
    notes = [EARLIER] if "(@" in shown else []
    return "\n".join([shown, *notes, *(one.fault for one in found if one.fault)])


def _brief(scores: list[dict]) -> str:
    known = [s for s in scores if s.get("psnr") is not None]
    several = len({s["protocol"] for s in known}) > 1
    shown = [f"{protocols.name_of(s['protocol']).rpartition('-')[2] + ' ' if several else ''}"
             f"{s['dataset']} {s['psnr']:.2f}{_earlier(s['protocol'])}" for s in known[:SHOWN]]
    return ", ".join(shown) + (f" and {len(known) - SHOWN} more" if len(known) > SHOWN else "")


def _earlier(protocol: str) -> str:
    """Return the version of a protocol that has a later one, whose values differ: `` (@1)``."""
    known = protocols.catalog()
    if protocol not in known or protocols.choose(protocols.name_of(protocol), known).id == protocol:
        return ""
    return f" (@{protocols.version_of(protocol)})"


def as_dict(one: Listed) -> dict:
    """Return an entry of the list as plain data."""
    return {"name": one.name, "from": one.source, "file": str(one.path),
            "arch": one.header.get("arch"), "protocol": one.header.get("protocol"),
            "steps": one.header.get("steps"), "bytes": one.path.stat().st_size,
            "sha256": one.sha256, "scores": one.scores, "fault": one.fault or None}


# -- one file --------------------------------------------------------------------------------------

def find(name: str, data_root: Path, results: Path) -> Listed:
    """Return a file by its path or its name in the list.

    Raises UserError with near names, or if the file is altered or truncated or its header broken.
    """
    path = Path(name)
    if path.is_file():
        known = next((one for one in bundled.catalog().values()
                      if one.path.resolve() == path.resolve()), None)
        one = _bundled(known) if known else _listed(path.name, "file", path)
    else:
        known = {one.name: one for one in reversed(listing(data_root, results))}
        if name not in known:
            raise unknown("checkpoint", name, known)
        one = known[name]
    if one.fault:
        raise UserError(one.fault)
    return one


def full_card(one: Listed, plugins: tuple[str, ...] = ()) -> dict:
    """Return all known facts about a file as plain data; for third-party weights, spandrel's facts.

    Raises UserError if its weights do not match its header.
    """
    about = loading.describe(one.path)
    return {"name": one.name, "file": str(one.path), "bytes": one.path.stat().st_size, **about,
            "sha256": one.sha256,
            "scores": [{**s, "published": compared(s, one.header, plugins)} for s in one.scores]}


def compared(score: dict, header: dict, plugins: tuple[str, ...] = ()) -> dict | None:
    """Return the published figures to compare a score with, None if there are none.

    A blind model is compared with a published row of one model for all levels, if there is one.

    Returns:
        ``method`` (as printed, * marks one model for all levels), ``source``, and for each metric
        ``text`` and ``gap`` (measured - published), if the two can be compared.
    """
    card = registry.cards(plugins).get(header.get("arch"))
    task, _, level = score["protocol"].rpartition("@")[0].partition("-")
    if card is None or not card.published_as:
        return None
    column = (level, score["dataset"])
    rows = [row for row in published.rows(task, {column}) if row.name == card.published_as]
    if not rows:
        return None
    row = min(rows, key=lambda row: row.one_model != bool(header.get("levels")))
    known = protocols.catalog().get(score["protocol"])
    found = {}
    for metric in metrics.METRICS:
        figure = row.figures.get((*column, metric))
        if figure and score.get(metric) is not None and not (
                published.other_version(figure, score["protocol"])
                or published.caveat(figure, known.metric.ssim if known else None)):
            found[metric] = {"text": figure.shown, "gap": round(score[metric] - figure.value, 4)}
    return {"method": row.method, "source": row.source, **found} if found else None


def card(one: Listed, plugins: tuple[str, ...] = ()) -> str:
    """Return the model card of a file as text: what it is, its training, cost and scores."""
    about = full_card(one, plugins)
    if "arch" not in one.header:
        return _lines([("file", _file(one, about)),
                       *((name, str(value)) for name, value in about.items()
                         if name not in ("name", "file", "bytes", "sha256", "scores"))])
    parts = [_lines([("file", _file(one, about)), *_what(one.header, plugins)])]
    if "training" in one.header or "imported" in one.header:
        parts.append(_lines(_training(one.header)))
    if about["scores"]:
        parts.append(_scores(about["scores"], one.header, plugins))
    if one.source != BUNDLED and {"scores", "seconds", "validation"} & set(one.header):
        parts.append("  figures from the file's header")
    return "\n\n".join([one.name, *parts])


def _lines(entries: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in entries)
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in entries if text)


def _file(one: Listed, about: dict) -> str:
    types = ""
    if one.path.suffix.lower() == ".safetensors":
        types = ", ".join(sorted({dtype for dtype, _ in
                                  storage.shapes(one.path).values()}))
    return (f"{one.path}, {about['bytes'] / 1e6:.2f} MB{f', stored as {types}' if types else ''}, "
            f"SHA-256 {about['sha256']}")


def _what(header: dict, plugins: tuple[str, ...]) -> list[tuple[str, str]]:
    known = registry.cards(plugins).get(header["arch"])
    served = [p for p in protocols.catalog().values() if serving.is_for(header, p)]
    levels = ", ".join(f"{name} {low:g} to {high:g}"
                       for name, (low, high) in (header.get("levels") or {}).items())
    return [
        ("model", f"{known.title if known else header['arch']}"
                  + (f", {header['parameters']:,} parameters" if header.get("parameters") else "")),
        ("options", _unlike(header, known) or "the model's own"),
        ("for", f"{header.get('protocol')}" + (
            f", blind, {levels}: {', '.join(p.id for p in served)}" if levels else
            "".join(f" ({title})" for title in dict.fromkeys(p.title for p in served)))),
    ]


def _unlike(header: dict, known: registry.Card | None) -> str:
    """Return the options that differ from the model's defaults, "" if none does."""
    return ", ".join(f"{name}: {value}" for name, value in (header.get("options") or {}).items()
                     if known is None or value != known.options.get(name))


def _training(header: dict) -> list[tuple[str, str]]:
    origin = header.get("imported") or {}
    return [
        ("imported", origin and f"from {origin['file']} (SHA-256 {origin['sha256']})"),
        ("trained on", _data(header)),
        ("leaks", _leaks(header)),
        ("began with", headers.begun(header["init"]) if header.get("init") else ""),
        ("teacher", _teacher(header.get("teacher"))),
        ("recipe", _recipe(header)),
        ("cost", _cost(header)),
        ("validation", _validation(header)),
        ("made by", " ".join(filter(None, [
            header.get("irbench") and f"irbench {header['irbench']}",
            header.get("git") and f"at commit {header['git'][:12]}"
            + (", with uncommitted changes" if header.get("dirty") else "")]))),
        ("again", header.get("command") or ""),
    ]


def _data(header: dict) -> str:
    sets = header.get("datasets") or []
    if not sets:
        return "unknown"
    counts = header.get("images") or {}
    named = ", ".join(one["name"] for one in sets)
    left_out = [f"{', '.join(names)} of {name}"
                for name, names in (header.get("exclude") or {}).items()]
    unknown = not (header.get("init") or {"data_known": True})["data_known"]
    return named + (f" without {' and '.join(left_out)}" if left_out else "") + (
        f": {counts['training']} images, and {counts['held_out']} held out for validation"
        if counts else "") + (
        "; the sets of the weights that it began with are unknown" if unknown else "")


def _leaks(header: dict) -> str:
    names = [one["name"] for one in header.get("datasets") or []]
    if not names:
        return "not searched: the training data of these weights are unknown"
    found = header.get("leaks")
    if not found:
        apart = [f"{name}/{image}" for name, images in (header.get("exclude") or {}).items()
                 for image in images]
        return (f"not searched; irbench data leak --train {' '.join(names)} --test SET"
                + (f" --exclude {' '.join(apart)}" if apart else ""))
    shared = [f"{one['shared']} of {one['test']} in {one['train']}" for one in found
              if one["shared"]]
    apart = [f"{one['left_out']} of {one['test']} in {one['train']}" for one in found
             if one["left_out"]]
    tests = ", ".join(dict.fromkeys(one["test"] for one in found))
    return (f"trained on images of test sets: {'; '.join(shared)}" if shared else
            f"no image of {tests} was in the training data") + (
                f" (left out of the training: {'; '.join(apart)})" if apart else "")


def _recipe(header: dict) -> str:
    recipe = header.get("recipe")   # plain data, from any version of irbench
    if not recipe:
        return ""
    parts = [f"{recipe.get('recipe')}: {header.get('steps')} steps of {recipe.get('batch')} "
             f"patches of {recipe.get('patch')} x {recipe.get('patch')} pixels"]
    parts += [f"{name} {recipe[name]}" for name in ("loss", "optimiser", "lr", "warmup", "ema",
                                                    "schedule") if recipe.get(name) is not None]
    return ", ".join(parts) + _phases(recipe.get("phases"))


def _phases(phases: object) -> str:
    """Return the phases of a recipe in words: ``; from 50 % on patch 96, batch 4``."""
    if not isinstance(phases, list):
        return ""
    changed = [(phase.get("from"), ", ".join(f"{name} {phase[name]}" for name in OF_A_PHASE
                                             if name in phase))
               for phase in phases if isinstance(phase, dict)]
    return "".join(f"; from {100 * share:g} % on {values}" for share, values in changed
                   if isinstance(share, int | float) and values)


def _teacher(teacher: dict | None) -> str:
    return "" if not teacher else (
        f"distilled from {teacher['title']} (SHA-256 {teacher['sha256']}), weight "
        f"{teacher['weight']:g} of the loss")


def _cost(header: dict) -> str:
    if header.get("seconds") is None:
        return ""
    minutes = header["seconds"] / 60
    spent = (f"{header['seconds']:.0f} s" if minutes < 2 else f"{minutes:.0f} min"
             if minutes < 120 else f"{minutes / 60:.1f} h")
    machine = header.get("hardware") or {}
    on = ", ".join(filter(None, [
        machine.get("device_name") or machine.get("cpu"),
        *(f"{machine[name]} {name if machine[name] != 1 else one}" for name, one in
          (("threads", "thread"), ("processes", "process")) if machine.get(name))]))
    return (f"{spent} on {machine.get('device') or 'an unknown device'}{f' ({on})' if on else ''}"
            + (f", {header['images_seen']:,} patches seen" if header.get("images_seen") else ""))


def _validation(header: dict) -> str:
    if "validation" not in header and "imported" not in header:
        return "not in this file; files written by irbench checkpoints export have it"
    points = [(step, psnr) for step, psnr in header.get("validation") or () if psnr is not None]
    if not points:
        return "none"
    best = max(points, key=lambda point: point[1])
    chosen = header.get("best")
    on = header.get("validation_on") or {}
    where = (f" ({on['metric']}, {on['images']} images, {on['crop']})"
             if {"metric", "images", "crop"} <= set(on) else "")
    return (f"{points[0][1]:.2f} dB at step {points[0][0]}, {points[-1][1]:.2f} dB at the last, "
            f"{points[-1][0]}; best {best[1]:.2f} dB at step {best[0]}; {len(points)} "
            f"{'points' if len(points) > 1 else 'point'}{where}"
            + (f"; these weights are from step {chosen['step']}" if chosen else ""))


def _scores(scores: list[dict], header: dict, plugins: tuple[str, ...]) -> str:
    shown = [metrics.get(name) for name in metrics.main()]
    lines, sources = [], []
    for one in scores:
        printed = one["published"] or {}
        line = [one["protocol"], one["dataset"], one["count"]]
        for metric in shown:
            figure = printed.get(metric.name)
            line += ["-" if one.get(metric.name) is None else metric.shown(one[metric.name]),
                     figure["text"] if figure else "-",
                     metrics.signed(figure["gap"], metric.decimals) if figure else "-"]
        lines.append([*line, printed.get("method", "")])
        if printed:
            row = published.Method(printed["method"], printed["source"], "")
            sources.append(f"{row.method}: " + "; ".join([
                published.SOURCES.get(row.source, row.source), *published.remarks(row)]))
    heads = [head for metric in shown for head in (metric.label, "published", "gap")]
    body = tabulate(lines, ["protocol", "dataset", "images", *heads, "method"],
                    disable_numparse=True,
                    colalign=["left", "left", *["right"] * (1 + len(heads)), "left"])
    notes = ["gap: measured - published; each figure under its protocol (irbench info PROTOCOL)"]
    known = registry.cards(plugins).get(header["arch"])
    if sources and (unlike := _unlike(header, known)):
        notes.append(f"published: the paper's model; these weights belong to another model, with "
                     f"{unlike}")
    if header.get("storage") == export.HALF:
        notes.append("measured with the float32 weights of the training, before they were rounded "
                     "to float16 for this file")
    return "\n".join([body, *(f"  {note}" for note in [*notes, *dict.fromkeys(sources)])])
