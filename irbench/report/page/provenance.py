"""The origin of each number on the page: its record or its printed source, in words.

Every record and every published source has an anchor in the page and a list of facts. The page
shows them when a user clicks a value: record, protocol, dataset, weights, machine, versions, scores
of the images, and the command that computes it again. Reads nothing but the collected run.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from irbench.catalog import published
from irbench.core import digests, metrics, run_folder
from irbench.core.run_folder import RunFolder
from irbench.present import text
from irbench.present.table import Column, Row, Value
from irbench.report.facts import weights
from irbench.report.run import Cell, Outcome, Run

IMAGES = 100                    # at most so many image scores are shown with a value
# terms whose texts are shown as code
CODE = {"Record", "Fingerprint of its inputs", "Weights sha256", "Manifest sha256", "Command",
        "Commit"}


# -- circumstances -------------------------------------------------------------------------------

def groups(jobs: Iterable[Outcome]) -> list[dict]:
    """Return the distinct conditions of the records, with counts and first and last time."""
    found: dict[str, dict] = {}
    for job in jobs:
        if not job.record:
            continue
        source = job.record["provenance"]
        same = {k: source.get(k) for k in ("irbench", "git", "python", "packages", "hardware")}
        group = found.setdefault(digests.canonical(same), {
            **same, "packages": same["packages"] or {}, "hardware": same["hardware"] or {},
            # null where irbench was not run from a git checkout
            "git": {"commit": None, "dirty": False, **(same["git"] or {})},
            "count": 0, "times": [], "threads": set()})
        group["count"] += 1
        if source.get("time"):
            group["times"].append(source["time"])
        if source.get("threads"):
            group["threads"].add(source["threads"])
    for group in found.values():
        group["times"].sort()
        group["threads"] = sorted(group["threads"])
        group["machine"] = machine(group["hardware"])
    return list(found.values())


def machine(hardware: dict) -> str:
    """Return the hardware of a record in words, or "not recorded"."""
    memory = hardware.get("memory_bytes")
    return ", ".join(str(part) for part in (
        hardware.get("cpu"), f"{hardware['cores']} cores" if hardware.get("cores") else None,
        text.size(memory) if memory else None, hardware.get("gpu"), hardware.get("platform"))
        if part) or "not recorded"


def kind(job: Outcome) -> str:
    """Return the kind of a record in one word."""
    found = run_folder.kind_of(job.path)
    return "benchmark" if found == "bench" else found


def command(run: Run, job: Outcome) -> str:
    """Return the command that computes a record again; run it in the folder of ``results/``."""
    config = (str(RunFolder.of_run(run.name).config) if RunFolder(run.folder).config.is_file()
              else "CONFIG")
    verb = {"cell": ["eval"], "training": ["train"], "profile": ["profile"],
            "benchmark": ["bench", job.model]}[kind(job)]
    words = ["irbench", *verb, "--config", config]
    if job.protocol:
        words += ["--protocol", job.protocol]
    if isinstance(job, Cell):
        words += ["--dataset", job.dataset]
    if kind(job) != "benchmark":
        words += ["--model", job.model]
    threads = ((job.record or {}).get("provenance") or {}).get("threads")
    # without it a measurement takes those of its run (jobs/threads.py), another job takes one
    least = 0 if kind(job) in ("profile", "benchmark") else 1
    return shlex.join([*words, *(["--threads", str(threads)] if (threads or 0) > least else [])])


# -- facts ---------------------------------------------------------------------------------------

class Origins:
    """The facts of every record and source of a page, and their anchors."""

    def __init__(self, run: Run, jobs: Iterable[Outcome], sources: Iterable[str] = ()) -> None:
        """Store the records of a run that the page shows, and the names of printed sources."""
        self.run = run
        self.jobs = {job.path: job for job in jobs}
        self.anchors = {path: f"record-{i}" for i, path in enumerate(self.jobs, start=1)}
        self.sources = {name: f"source-{i}" for i, name in enumerate(dict.fromkeys(sources),
                                                                     start=1)}
        self._weights = {cell.path: one for one in weights.all_weights(run) for cell in one.cells}

    def record(self, path: str) -> str:
        """Return the anchor of a record, "" if the run has no record at this path."""
        return self.anchors.get(path, "")

    def figure(self, row: Row, column: Column, entry: Value) -> tuple[str, str]:
        """Return the anchor of a value's origin, and the value in words; ("", "") without one.

        The words contain the number unrounded, or as printed.
        """
        anchor = self.sources.get(row.source) or self.record(entry.record)
        if not anchor or not entry.exact or not column.metric:
            return (anchor if entry.record else "", "")
        known = metrics.get(column.metric)
        shown = " ".join(filter(None, (known.title, metrics.leading_zero(entry.exact), known.unit)))
        if entry.status == "published":
            return anchor, (f"{shown}, as printed: {row.name} on {column.dataset_title}, "
                            f"{text.level_label(column.level)}")
        return anchor, "".join([
            shown, f", mean over {entry.seeds} seeds ± {entry.spread}" if entry.spread else "",
            f"; {entry.difference} to the printed value of {entry.against}"
            if entry.difference else ""])

    def data(self) -> dict:
        """Return the data for the script of the page.

        ``terms``: name, and whether its texts are code; ``texts``; ``origins``: by anchor, a title,
        facts as pairs of indices into both, and the scores of the images if there are few. Each
        text is stored once, because hundreds of records share protocols and machines.
        """
        terms: dict[str, int] = {}
        texts: dict[str, int] = {}

        def facts(pairs: Iterable[tuple[str, str]]) -> list[list[int]]:
            return [[terms.setdefault(term, len(terms)), texts.setdefault(detail, len(texts))]
                    for term, detail in pairs if detail]

        origins = {self.anchors[path]: {
            "title": self.title(job), "facts": facts(self.facts(job)), **_images(job)}
            for path, job in self.jobs.items()}
        origins |= {anchor: {"title": "Published value", "facts": facts([
            ("Source", name), ("Where", published.SOURCES.get(name, "")),
            ("Measured", "not by irbench: copied from the source, with the printed decimals"),
            ("Kept in", "irbench/catalog/published.csv" if name in published.SOURCES
             else "a catalog of the user")])}
            for name, anchor in self.sources.items()}
        return {"terms": [[term, term in CODE] for term in terms], "texts": list(texts),
                "origins": origins}

    def title(self, job: Outcome) -> str:
        """Return a title for a record: ``SemanIR on Set5``."""
        run = self.run
        if kind(job) == "benchmark":
            return f"Benchmark of {job.model}"
        name = run.model_title(job.model)
        if isinstance(job, Cell):
            return f"{name} on {run.dataset_title(job.dataset)}, {job.protocol}"
        return f"{kind(job).capitalize()} of {name}, {job.protocol}"

    def facts(self, job: Outcome) -> list[tuple[str, str]]:
        """Return (term, text) pairs on a record; unknown texts are empty."""
        run, record = self.run, job.record or {}
        source = record.get("provenance") or {}
        git = source.get("git") or {}
        packages = source.get("packages") or {}
        return [
            ("Status", job.status + (f": {job.reason}" if job.reason else "")),
            ("Record", f"{RunFolder.of_run(run.name).path}/{job.path}"),
            ("Command", command(run, job)),
            ("Protocol", f"{job.protocol}: {text.protocol_sentence(run.protocols[job.protocol])}"
             if run.protocols.get(job.protocol) else job.protocol),
            *self._dataset(job), *self._model(job),
            ("Fingerprint of its inputs", record.get("fingerprint", "")),
            ("Written", source.get("time") or ""),
            ("Seconds by phase", ", ".join(f"{name} {value:.2f} s" for name, value in
                                           (record.get("seconds") or {}).items())),
            ("irbench", str(source.get("irbench") or "")),
            ("Commit", f"{git['commit']}{' with uncommitted changes' if git.get('dirty') else ''}"
             if git.get("commit") else ""),
            ("Machine", machine(source.get("hardware") or {}) + (
                f"; {source['threads']} CPU thread{'s' * (source['threads'] != 1)} used"
                if source.get("threads") else "") if source else ""),
            ("Versions", ", ".join(f"{name} {number}" for name, number in (
                ("Python", source.get("python")), *packages.items()) if number))]

    def _dataset(self, job: Outcome) -> list[tuple[str, str]]:
        if not isinstance(job, Cell):
            return []
        spec = self.run.datasets.get(job.dataset, {})
        count = spec.get("count")
        return [("Dataset", f"{self.run.dataset_title(job.dataset)} ({job.dataset})"
                 + (f", {count} images" if count is not None else "")
                 + (f"; {spec['source']}" if spec.get("source") else "")),
                ("Manifest sha256", str(spec.get("sha256") or ""))]

    def _model(self, job: Outcome) -> list[tuple[str, str]]:
        run = self.run
        spec = run.models.get(job.model)
        if spec is None:
            return []
        options = ", ".join(f"{name} = {value}" for name, value in
                            sorted(spec.options.items()))
        arch = f", architecture {spec.arch}" if spec.arch != job.model else ""
        base = self._weights.get(job.path) or self._weights.get(
            job.path.replace(f"/{job.model}.json", f"/{spec.base}.json"))
        digest = ((job.record or {}).get("resolved") or {}).get("checkpoint") or (
            (job.result.get("checkpoint") or {}).get("sha256") if kind(job) == "training" else "")
        title = run.model_title(job.model)
        named = "" if title.endswith(f"({job.model})") else f" ({job.model})"
        declared = weights.declared(run, job.model)
        return [("Model", f"{title}{named}{arch}"),
                ("Options", options),
                ("Weights", _weights(base) if base else
                 "none to train" if not spec.learned else ""),
                ("Weights sha256", str(digest or "")),
                ("Training", _training(base) if base else _trained(job)
                 or (f"on {declared}" if declared else ""))]


def _weights(one: weights.Weights) -> str:
    file = ((one.job.result if one.job else {}).get("checkpoint") or {}).get("file")
    ranges = weights.levels(one.levels)
    return (f"{one.origin}, for {one.scope}" + (f" ({ranges})" if ranges else "")
            + (f": {file}" if file else ""))


def _training(one: weights.Weights) -> str:
    steps, seconds = one.facts.get("steps"), one.facts.get("seconds")
    return "; ".join(filter(None, [
        f"{steps} steps" if steps is not None else "",
        text.duration(seconds) if seconds is not None else "", weights.machine(one),
        f"on {weights.data(one)}" if weights.data(one) else "", weights.left_out(one),
        f"recipe {one.recipe}" if one.recipe else "", *one.sources,
        "" if one.known or one.declared else "not recorded"]))


def _trained(job: Outcome) -> str:
    """Return steps and duration from the record of a training, "" for other records."""
    if kind(job) != "training" or job.result.get("steps") is None:
        return ""
    return f"{job.result['steps']} steps; {text.duration(job.result['seconds'])}"


def _images(job: Outcome) -> dict:
    """Return the image scores of a cell as rows of texts; {} if none, a note if too many."""
    if not isinstance(job, Cell) or not job.images:
        return {}
    if len(job.images) > IMAGES:
        return {"note": f"The scores of its {len(job.images)} images are in the record."}
    known = [one for name, one in metrics.METRICS.items()
             if any(image.get(name) is not None for image in job.images)]
    return {"heads": ["Image", *(one.label for one in known)],
            "rows": [[str(image["name"]), *(
                text.NA if image.get(one.name) is None else one.shown(image[one.name])
                for one in known)] for image in job.images]}
