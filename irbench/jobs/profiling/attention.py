"""The cost of attention over a dictionary: time and peak memory of every implementation.

This extends the table of SemanIR's paper (arXiv 2405.20008: GPU memory of three implementations
over N and k) with times, more implementations, and dense attention. Inputs are random queries,
keys, values and position bias of the network's kind; no projections, no FFN. Reads and writes
nothing.

    time        measured by ``profile.timed`` in inference mode; the dictionary and its cached forms
                are made before. At each N all implementations take turns in one process, round by
                round, so that a temporary slowdown of the machine affects all of them.
    dense       torch's scaled_dot_product_attention over all N tokens, without mask or bias: the
                cost of full attention.
    dictionary  building it (``KeyDictionary``, dot products of heads * d channels), once per stage.
    memory      ``memory.peak`` less the memory used before: it excludes inputs and dictionary, but
                includes the form of the dictionary that an implementation makes for itself.
    error       the largest difference from ``reference`` in float32, on the same inputs.
    ratios      medians over the rounds of the quotient of two times in the same round.

If k = N, every token is a key, and all implementations attend densely, with the bias.

Try: ``python benchmarks/attention.py --n 64 256 --k 16 64 --samples 3``
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from irbench.core import machine, messages
from irbench.core.errors import Unavailable, UserError, unknown
from irbench.inference import memory
from irbench.jobs.profiling import elsewhere, profile
from irbench.models.attention import IMPLEMENTATIONS, KeyDictionary, Keys, attend

DENSE, BUILD, REFERENCE = "dense", "dictionary", "reference"
DTYPES = ("float32", "bfloat16", "float16")
SEED = 0  # of the inputs' values, which hardly affect a time
# ratio → its meaning and goal (on the device for which it was set; missing a goal is not a failure)
GOALS = {
    "mask_over_dense": "time of mask / dense; goal on a CPU: 2",
    "build_over_mask": "time of building the dictionary / mask; goal on a CPU: 1",
    "best_over_dense": "time of the fastest sparse one / dense; goal on CUDA at N = 1024: 1.3",
    "peak_over_mask": "its peak memory / mask's; goal on CUDA: 0.25",
}


def run(*, n: list[int], k: list[int], windows: int, heads: int, head_dim: int, samples: int,
        warmup: int = 1, device: str = "auto", dtype: str = "float32", threads: int | None = None,
        implementations: list[str] | None = None, wait_quiet: float = 0.0) -> dict:
    """Measure all implementations at every N and k; see the module's text for the method.

    Args:
        n: a list of numbers of tokens per window.
        k: a list of numbers of keys per token; values above an N are skipped there.
        windows: the number of windows at once.
        heads: the number of heads.
        head_dim: dimensions of a head.
        samples: timed runs, at least 1.
        warmup: untimed runs before, at least 1: the first one compiles and makes cached forms.
        device: ``cpu``, ``cuda`` or ``auto``.
        dtype: one of ``DTYPES``, for all inputs.
        threads: CPU threads for torch, restored afterwards; None leaves them as they are.
        implementations: names in ``attention.IMPLEMENTATIONS``; None for all.
        wait_quiet: seconds that the timed runs may wait for a quiet machine, all together.

    Returns:
        The ``result`` of a bench record: ``rows`` (implementation, n, k, windows, heads, head_dim,
        latency_ms as in a profile, peak_memory_bytes, peak_memory_of, max_error, reason), with k
        None for ``dense`` and null with a reason for what cannot run here; ``build`` (n, k,
        latency_ms, peak_memory_bytes, peak_memory_of, reason); ``ratios`` (n, k, best, and the
        names in ``GOALS``); device, device_name, dtype, precision, threads, torch. All rows of an
        N have one ``busy_elsewhere`` in latency_ms, because they were timed together.

    Raises:
        UserError: a value out of range, an unknown device, dtype or implementation.
    """
    names = list(IMPLEMENTATIONS) if implementations is None else list(implementations)
    for name in names:
        if name not in IMPLEMENTATIONS:
            raise unknown("attention implementation", name, IMPLEMENTATIONS)
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES, "attention benchmark")
    numbers = [("n", x) for x in n] + [("k", x) for x in k] + [
        ("windows", windows), ("heads", heads), ("head_dim", head_dim), ("samples", samples),
        ("warmup", warmup)] + ([] if threads is None else [("threads", threads)])
    for name, value in numbers:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"attention benchmark: {name} is {value!r}; it must be a whole number "
                            "of at least 1.")
    device, _ = profile.pick_device(device)
    result: dict = {"rows": [], "build": [], "ratios": []}
    shape, patience = (windows, heads, head_dim), elsewhere.Patience(wait_quiet)
    with profile.cpu_threads(threads), torch.inference_mode():
        for tokens in dict.fromkeys(n):
            ks = [x for x in dict.fromkeys(k) if x <= tokens]
            if len(ks) < len(set(k)):
                messages.say(f"attention: at N = {tokens} larger k are skipped")
            entries = _entries(_Inputs.make(shape, tokens, device, dtype), ks, names)
            cores = _measure(entries, device, samples, warmup, patience)
            _collect(result, entries, warmup, cores)
            messages.say(f"attention: N = {tokens} done")
        result["threads"] = torch.get_num_threads()
    tf32 = device == "cuda" and torch.backends.cuda.matmul.allow_tf32
    return {**result, "device": device, "device_name": profile.device_name(device),
            "dtype": dtype, "precision": {"matmul": "tf32" if tf32 else "ieee"},
            "torch": torch.__version__}


# -- what is measured ---------------------------------------------------------------------------

@dataclass
class _Inputs:
    """A layer's q, k, v (windows, heads, N, d) and bias (heads, N, N), and its stage's input."""

    q: Tensor
    k: Tensor
    v: Tensor
    bias: Tensor
    tokens: Tensor  # (windows, N, heads d)

    @classmethod
    def make(cls, shape: tuple[int, int, int], n: int, device: str, dtype: str) -> _Inputs:
        """Draw inputs of cosine attention: unit queries times 10, unit keys, a bias of 0 .. 16."""
        windows, heads, d = shape
        generator = torch.Generator().manual_seed(SEED)

        def draw(*size: int) -> Tensor:
            return torch.randn(size, generator=generator)

        made = (10 * F.normalize(draw(windows, heads, n, d), dim=-1),
                F.normalize(draw(windows, heads, n, d), dim=-1), draw(windows, heads, n, d),
                16 * torch.sigmoid(draw(heads, n, n)), draw(windows, n, heads * d))
        return cls(*(t.to(device=device, dtype=getattr(torch, dtype)) for t in made))

    @property
    def size(self) -> dict[str, int]:
        """The sizes of the inputs, for a row."""
        windows, heads, n, d = self.q.shape
        return {"n": n, "windows": windows, "heads": heads, "head_dim": d}

    def attend(self, keys: Keys, name: str) -> Tensor:
        """Run one implementation."""
        return attend(self.q, self.k, self.v, keys, self.bias, name)

    def dense(self) -> Tensor:
        """Attend to everything, without bias."""
        return F.scaled_dot_product_attention(self.q, self.k, self.v, scale=1.0)


@dataclass
class _Entry:
    """Something that takes its turn: how to run it, and its results."""

    name: str
    size: dict[str, int]
    k: int | None
    once: Callable[[], object]           # timed
    uncached: Callable[[], object]       # for memory: makes its form of the dictionary again
    truth: Callable[[], Tensor] | None = None
    refused: str = ""                    # why it is not tried
    spent: list[float] = field(default_factory=list)
    peak: int | None = None
    peak_of: str | None = None
    error: float | None = None
    reasons: list[str] = field(default_factory=list)


def _entries(inputs: _Inputs, ks: list[int], names: list[str]) -> list[_Entry]:
    """List the entries to be measured at one N."""
    found = [_Entry(DENSE, inputs.size, None, inputs.dense, inputs.dense)]
    for k in ks:
        dictionary = KeyDictionary(k)
        keys = dictionary(inputs.tokens)

        def build(dictionary: KeyDictionary = dictionary) -> Keys:
            return dictionary(inputs.tokens)

        def truth(keys: Keys = keys) -> Tensor:
            exact = _Inputs(*(t.float() for t in (inputs.q, inputs.k, inputs.v, inputs.bias)),
                            inputs.tokens)
            return exact.attend(keys, REFERENCE)

        found.append(_Entry(BUILD, inputs.size, k, build, build))
        for name in names:
            def once(keys: Keys = keys, name: str = name) -> Tensor:
                return inputs.attend(keys, name)

            def uncached(keys: Keys = keys, name: str = name) -> Tensor:
                return inputs.attend(Keys(keys.mask), name)

            found.append(_Entry(name, inputs.size, k, once, uncached, truth, _refused(name)))
    return found


def _refused(name: str) -> str:
    if name != "triton":
        return ""
    try:
        from irbench.models.attention import triton_kernel
    except ImportError:
        return ""  # its own message is more helpful
    return ("TRITON_INTERPRET=1 is set, and the interpreter's times are meaningless; unset it to "
            "measure on a CUDA device" if triton_kernel.INTERPRETED else "")


# -- measuring ----------------------------------------------------------------------------------

def _measure(entries: list[_Entry], device: str, samples: int, warmup: int,
             patience: elsewhere.Patience) -> float | None:
    """Try each entry, time the working ones in turns, then measure the memory of each.

    Returns how many cores other processes used during the timed runs, which all entries share.
    """
    for entry in entries:
        _guarded(entry, lambda entry=entry: _try(entry))
    running = [e for e in entries if not e.reasons]

    def in_turns() -> list[list[float]]:
        return [[profile.timed(entry.once, device) for entry in running] for _ in range(samples)]

    for _ in range(warmup - 1):  # the trial was the first
        for entry in running:
            profile.timed(entry.once, device)
    rounds, cores = patience.measured(in_turns)
    for entry, spent in zip(running, zip(*rounds, strict=True), strict=True):
        entry.spent = list(spent)
    for entry in running:
        _guarded(entry, lambda entry=entry: _memory(entry, device))
    return cores


def _guarded(entry: _Entry, step: Callable[[], None]) -> None:
    """Record why an implementation fails here; the others continue."""
    try:
        step()
    except Unavailable as error:
        entry.reasons.append(str(error))
    except Exception as error:  # compilers raise various errors; the reason is kept and shown
        if memory.out_of_memory(error):
            entry.reasons.append("not enough memory")
        else:
            text = next((line for line in str(error).splitlines() if line.strip()), "")
            entry.reasons.append(text.strip() if isinstance(error, UserError)
                                 else f"{type(error).__name__}: {text.strip()}")
    if entry.reasons and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _try(entry: _Entry) -> None:
    if entry.refused:
        raise Unavailable(entry.refused)
    out = entry.once()
    if entry.truth is not None:
        entry.error = (out.float() - entry.truth()).abs().max().item()


def _memory(entry: _Entry, device: str) -> None:
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    entry.peak, entry.peak_of, reason = memory.peak(entry.uncached, device, before)
    if reason:
        entry.reasons.append(reason)


# -- the result ---------------------------------------------------------------------------------

def _collect(result: dict, entries: list[_Entry], warmup: int, cores: float | None) -> None:
    """Add the rows and ratios of one N to a result."""
    for entry in entries:
        times = {**profile.latency(entry.spent, warmup), "busy_elsewhere": cores} \
            if entry.spent else None
        common = {"k": entry.k, "latency_ms": times,
                  "peak_memory_bytes": entry.peak, "peak_memory_of": entry.peak_of,
                  "reason": "; ".join(entry.reasons)}
        if entry.name == BUILD:
            result["build"].append({"n": entry.size["n"], **common})
        else:
            result["rows"].append({"implementation": entry.name, **entry.size, **common,
                                   "max_error": entry.error})
    dense = entries[0]
    for k in dict.fromkeys(e.k for e in entries if e.k is not None):
        here = {e.name: e for e in entries if e.k == k}
        result["ratios"].append({"n": dense.size["n"], "k": k, **_ratios(here, dense)})


def _ratios(here: dict[str, _Entry], dense: _Entry) -> dict:
    """Return the ratios of one N and k; None if one of the two could not be measured."""
    sparse = [e for name, e in here.items() if name not in (BUILD, REFERENCE) and e.spent]
    best = min(sparse, key=lambda e: float(np.median(e.spent)), default=None)
    mask = here.get("mask")
    peaks = [e.peak for e in (best, mask) if e is not None]
    return {
        "best": best and best.name,
        "mask_over_dense": _over(mask, dense), "build_over_mask": _over(here[BUILD], mask),
        "best_over_dense": _over(best, dense),
        "peak_over_mask": round(peaks[0] / peaks[1], 4) if len(peaks) == 2 and all(peaks) else None,
    }


def _over(one: _Entry | None, other: _Entry | None) -> float | None:
    if one is None or other is None or not one.spent or not other.spent:
        return None
    return round(float(np.median(np.divide(one.spent, other.spent))), 4)


def table(result: dict) -> str:
    """Format a result as text of fixed width: times, memory and error, then the ratios."""
    lines = [f"{result['device_name']}, {result['dtype']}, {result['threads']} threads, "
             f"torch {result['torch']}",
             f"{'N':>6}{'k':>6}  {'implementation':<15}{'p50 ms':>10}{'/ dense':>9}"
             f"{'peak MiB':>10}{'error':>10}"]
    dense = {row["n"]: row["latency_ms"] for row in result["rows"]
             if row["implementation"] == DENSE}
    rows = [*result["rows"], *({"implementation": BUILD, **row} for row in result["build"])]
    first = (DENSE, BUILD)
    notes: dict[str, int] = {}
    for row in sorted(rows, key=lambda r: (r["n"], r["k"] or 0, r["implementation"] not in first)):
        line = _line(row, dense[row["n"]])
        for note in filter(None, (row["reason"], _disturbed(row))):
            line += f"  [{notes.setdefault(note, len(notes) + 1)}]"
        lines.append(line)
    lines += [f"  [{number}] {reason}" for reason, number in notes.items()]
    if result["ratios"]:
        lines += ["", f"{'N':>6}{'k':>6}  {'fastest':<15}" + "".join(f"{g:>17}" for g in GOALS)]
    for row in result["ratios"]:
        lines.append(f"{row['n']:>6}{row['k']:>6}  {row['best'] or 'none':<15}"
                     + "".join(f"{_shown(row[g], '.2f'):>17}" for g in GOALS))
    if result["ratios"]:
        lines += [f"  {name}: {text}" for name, text in GOALS.items()]
    return "\n".join(lines)


def _disturbed(row: dict) -> str:
    """Return a note on a row that other processes disturbed, else ""."""
    cores = machine.busy((row["latency_ms"] or {}).get("busy_elsewhere"))
    return (f"other processes kept {cores:.1f} cores busy at this N: not reliable (--wait-quiet "
            "waits for a quiet machine)") if cores else ""


def _line(row: dict, dense: dict | None) -> str:
    times, peak = row["latency_ms"] or {}, row["peak_memory_bytes"]
    over = times["p50"] / dense["p50"] if times and dense else None
    return (f"{row['n']:>6}{row['k'] or 'all':>6}  {row['implementation']:<15}"
            f"{_shown(times.get('p50'), '.2f'):>10}"
            f"{_shown(over, '.2f'):>9}{_shown(None if peak is None else peak / 2**20, '.1f'):>10}"
            f"{_shown(row.get('max_error'), '.1e'):>10}")


def _shown(value: float | None, how: str) -> str:
    return "-" if value is None else format(value, how)
