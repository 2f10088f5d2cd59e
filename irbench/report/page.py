"""The page: one HTML file that holds its styles and pictures and asks nothing of the network.

Everything that a user or a record wrote is escaped by Jinja. Reads the figures just drawn under
``figures/``; returns the text of ``report.html``.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

import jinja2
from PIL import Image

from irbench import __version__, records
from irbench.report import family, latency, style, text, verdict, weights
from irbench.report import render as printing
from irbench.report.collect import Cell, Job, Run
from irbench.report.sheet import Sheet
from irbench.report.style import Drawing
from irbench.report.tables import PUBLISHED_RULE, Table

TEMPLATE = "page.html.j2"
SCREEN_WIDTH = 1600             # pixels; print quality stays in figures/
STATUS = {"ok": "with a result", "unavailable": "unavailable", "failed": "failed",
          "missing": "not computed"}
# stems of sheets
PLAIN = ("training", "variants", "profiles", "operations", "dictionary", "attention")
OPEN_VERDICTS = 24              # rows of verdicts shown unfolded


def render(run: Run, tables: list[Table], sheets: dict[str, Sheet],
           drawings: dict[str, Drawing], verdicts: list[verdict.Verdict]) -> str:
    """Return the page.

    Args:
        run: the collected run.
        tables: of methods, one or more per task.
        sheets: the other tables by stem: any of those of ``sheets.build``.
        drawings: quality, latency, crops, training, ksweep, scaling and attention.
        verdicts: on measured against published figures.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    jobs = [*run.cells, *run.trainings.values(), *run.profiles.values(), *run.benches.values()]
    groups = provenance(jobs)
    by_task: dict[str, list[Table]] = {}
    for table in tables:
        by_task.setdefault(table.task, []).append(table)
    times = sorted(j.record["provenance"]["time"] for j in jobs
                   if j.record and j.record["provenance"].get("time"))
    reasons = printing.verdict_reasons(verdicts)
    page = environment.get_template(TEMPLATE).render(
        run=run, tasks=by_task, drawings=drawings, text=text, version=__version__,
        families=_families(run),
        sheets={stem: sheets.get(stem) for stem in PLAIN}, rule=PUBLISHED_RULE,
        published=any(t.published for t in tables),
        counts=[(label, status, sum(c.status == status for c in run.cells))
                for status, label in STATUS.items()],
        warnings=warnings(run, groups), groups=groups, times=times,
        verdicts=[(one.word, printing.verdict_row(run, one)[:-1], reasons[one.reason])
                  for one in verdicts],
        verdict_heads=printing.VERDICTS[:-1], reasons=reasons,
        verdict_caption=printing.VERDICTS_CAPTION,
        verdict_summary=verdict.summary(run, verdicts), unfold=len(verdicts) <= OPEN_VERDICTS,
        bundled=weights.bundled(run),
        details=[_detail(run, job) for job in jobs], status=STATUS,
        picture=lambda stem: _picture(run.folder / "figures" / f"{stem}.png"))
    return page.lstrip()


def _families(run: Run) -> str:
    """Return how many models, variants and references there are."""
    counts = [(len(run.models), "model")]
    for word, mine in (("variant", family.is_variant), ("reference", family.is_reference)):
        here = sum(map(mine, run.models.values()))
        counts[0] = (counts[0][0] - here, "model")
        counts.append((here, word))
    return ", ".join(f"{n} {word}{'s' * (n != 1)}" for n, word in counts
                     if n or word == "model")


def _picture(path: Path) -> dict:
    """Return a figure as a data URI with its size in pixels, no wider than a screen needs.

    ``share``: of the page's width, so that the letters of all figures have one size.
    """
    with Image.open(path) as image:
        image = image.convert("RGB")
        share = min(image.width / (style.WIDTH * style.DPI), 1.0)
        if image.width > SCREEN_WIDTH:
            height = round(image.height * SCREEN_WIDTH / image.width)
            image = image.resize((SCREEN_WIDTH, height), Image.Resampling.LANCZOS)
        out = io.BytesIO()
        image.save(out, "PNG", optimize=True)
    return {"src": "data:image/png;base64," + base64.b64encode(out.getvalue()).decode(),
            "width": image.width, "height": image.height, "share": share}


# -- where the numbers come from -----------------------------------------------------------------

def provenance(jobs: list[Job]) -> list[dict]:
    """Return the distinct circumstances of the records, with counts and first and last time."""
    groups: dict[str, dict] = {}
    for job in jobs:
        if not job.record:
            continue
        source = job.record["provenance"]
        same = {k: source.get(k) for k in ("irbench", "git", "python", "packages", "hardware")}
        group = groups.setdefault(records.canonical(same), {
            **same, "packages": same["packages"] or {}, "hardware": same["hardware"] or {},
            # null where irbench was not run from a git checkout
            "git": {"commit": None, "dirty": False, **(same["git"] or {})},
            "count": 0, "times": [], "threads": set()})
        group["count"] += 1
        if source.get("time"):
            group["times"].append(source["time"])
        if source.get("threads"):
            group["threads"].add(source["threads"])
    for group in groups.values():
        group["times"].sort()
        group["threads"] = sorted(group["threads"])
        group["machine"] = _machine(group["hardware"])
    return list(groups.values())


def _machine(hardware: dict) -> str:
    memory = hardware.get("memory_bytes")
    return ", ".join(str(part) for part in (
        hardware.get("cpu"), f"{hardware['cores']} cores" if hardware.get("cores") else None,
        text.size(memory) if memory else None, hardware.get("gpu"), hardware.get("platform"))
        if part) or "not recorded"


def warnings(run: Run, groups: list[dict]) -> list[str]:
    """Return what a reader should know before trusting the page."""
    said = run.leaks.warnings((run.trained_on.get((c.protocol, c.model)) or {}, c.dataset)
                              for c in run.cells)
    said += weights.unfinished(run)
    without = [c for c in run.cells if c.status != "ok"]
    if without:
        said.append(f"{len(without)} of {len(run.cells)} cells have no result; the reasons are "
                    "below the tables.")
    partial = [c for c in run.cells if c.status == "ok" and c.missing]
    if partial:
        metrics = [text.METRICS[m][0] for m in text.METRICS if any(m in c.missing for c in partial)]
        said.append(f"{len(partial)} cells lack a metric ({', '.join(metrics)}).")
    unusual = sum(bool(family.circumstances(c)) for c in run.cells)
    if unusual:
        said.append(f"{unusual} cell{'s were' if unusual != 1 else ' was'} computed in tiles or "
                    "other than plainly in float32; the tables mark them.")
    commits = {g["git"].get("commit") for g in groups}
    if len(commits) > 1:
        said.append("The records come from more than one commit: "
                    + ", ".join(str(c)[:12] if c else "unknown"
                                for c in sorted(commits, key=str)) + ".")
    if any(g["git"].get("dirty") for g in groups):
        said.append("Some records were made with uncommitted changes in the working tree.")
    changed = sorted({name for g in groups for name in g["packages"]
                      if len({h["packages"].get(name) for h in groups}) > 1})
    if changed:
        said.append(f"The records come from different versions of: {', '.join(changed)}.")
    machines = {g["machine"] for g in groups}
    if len(machines) > 1:
        said.append(f"The records come from {len(machines)} machines; PSNR may differ between "
                    "them by about 0.001 dB.")
    if len({latency.condition(job.result) for job in run.profiles.values()
            if job.result.get("latency_ms")
            for job in [_without_size(job)]}) > 1:
        said.append("Latencies were measured on more than one device, dtype or thread count; the "
                    "figure keeps them apart.")
    return said


def _without_size(job: Job) -> Job:
    """Return a profile without its input size, which differs by protocol as it should."""
    record = {**job.record, "result": {**job.result, "input": {}}}
    return Job(job.protocol, job.model, job.path, job.status, job.reason, record)


# -- rows of the page's own tables ---------------------------------------------------------------

def _detail(run: Run, job: Job) -> dict:
    record = job.record or {}
    seconds = record.get("seconds") or {}
    kind = ("cell" if isinstance(job, Cell) else
            {"training": "training", "profiles": "profile",
             "benches": "benchmark"}[job.path.partition("/")[0]])
    return {"job": job, "kind": kind, "title": run.model_title(job.model),
            "dataset": run.dataset_title(job.dataset) if isinstance(job, Cell) else "",
            "fingerprint": record.get("fingerprint", ""),
            "checkpoint": (record.get("resolved") or {}).get("checkpoint") or "",
            "time": (record.get("provenance") or {}).get("time", ""),
            "attempt": record.get("attempt", 0),
            "seconds": ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())}
