"""Multiply-adds (MACs) of one forward pass, by kind of operation, with nothing left out in silence.

Reads a model and its inputs, writes nothing. fvcore traces the forward pass and hands every traced
operation to a handle; what fvcore calls "flops" are multiply-adds, that is MACs: one addition and
one multiplication count as 1, where ``torch.utils.flop_counter`` counts 2. The handles here replace
all of fvcore's, which count normalisation as well, round einsum to three digits, miscount products
that broadcast, and do not know attention.

What is counted is the operation as it stands, by the textbook form of its result:
    conv        convolutions, transposed ones too; zeros of the padding count, the bias does not.
    linear      products with weights (or with any matrix that does not depend on the input).
    attention   products of two activations (Q K^T, A V, channel attention) and
                ``scaled_dot_product_attention``: B * heads * N * M * (d_qk + d_v). A masked or
                causal attention counts in full, because dense hardware computes what it masks;
                ``keys_only`` is the total with SemanIR's attention counted over the k keys of its
                dictionary alone, as its paper counts (printed: its FLOPs fall with k).
    dictionary  whatever runs inside a module of class ``KeyDictionary``, when it is called as a
                module (fvcore sees the scope of ``module(x)``, not of its other methods).
    other       interpolation by its taps per output value (bilinear 4, bicubic 16), and the FFT by
                the usual convention of 5 n log2 n flops a complex transform of n points, half of
                it a real one (Frigo and Johnson, FFTW's benchFFT), 2 flops a MAC.
Excluded by convention, since they are not multiply-adds or are of a lower order: element-wise
arithmetic, activations, softmax, normalisation, sums and other reductions, sorting and top-k,
pooling, copies (``mac_handles.EXCLUDED``; and fvcore's own list of pure reshapes). An operation
that is neither counted nor excluded is reported by name in ``uncounted``.

Try: ``python -c "import torch; from irbench.jobs.profiling import macs;
print(macs.count(torch.nn.Conv2d(3, 8, 3), (torch.rand(1, 3, 16, 16),)))"``
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from irbench.core.errors import Unavailable
from irbench.jobs.profiling.mac_handles import Handles
from irbench.models.attention import KeyDictionary, Keys
from irbench.models.attention.stage import SemanticAttention

with warnings.catch_warnings():  # fvcore scripts a function on import, which torch deprecates
    warnings.simplefilter("ignore", FutureWarning)
    from fvcore.nn import FlopCountAnalysis

KINDS = ("conv", "linear", "attention", "dictionary", "other")
DICTIONARY = "KeyDictionary"  # by name: a plugin may bring its own
HALF = (torch.float16, torch.bfloat16)

@dataclass(frozen=True)
class MacCount:
    """The multiply-adds of one forward pass.

    Attributes:
        total: all that were counted.
        by_kind: the same by kind, every one of ``KINDS``.
        uncounted: operation → times met, of those nobody knows how to count. Not empty means that
            ``total`` is a lower bound.
        excluded: operation → times met, of those excluded by convention.
        keys_only: ``total`` with attention over a dictionary counted over each query's k keys
            instead of all N tokens of the window; the same where nothing is masked.
    """

    total: int
    by_kind: dict[str, int]
    uncounted: dict[str, int]
    excluded: dict[str, int]
    keys_only: int


def total(counts: Iterable[tuple[MacCount, int]]) -> MacCount:
    """Add up passes, each so many times: those of an image's tiles."""
    found = [count for count, times in counts for _ in range(times)]

    def added(name: str) -> dict[str, int]:
        return dict(sum((Counter(getattr(count, name)) for count in found), Counter()))

    by_kind = added("by_kind")
    return MacCount(sum(count.total for count in found), {k: by_kind.get(k, 0) for k in KINDS},
                    added("uncounted"), added("excluded"),
                    sum(count.keys_only for count in found))


def count(model: nn.Module, inputs: tuple[Tensor, ...]) -> MacCount:
    """Count the MACs of ``model(*inputs)`` in eval mode, at the size of the given inputs.

    The forward pass runs once, on the device of model and inputs, in a copy of the model: tracing
    leaves hooks behind when it fails, and fills caches with traced values. The copy is not
    compiled, has float32 for half-precision weights, and computes attention over a dictionary in
    its textbook form: what is counted is the same whichever implementation the model uses.

    Args:
        model: any module with tensors in and out; it is not changed.
        inputs: its positional arguments, all tensors.

    Raises:
        Unavailable: the forward pass cannot be traced (or fails), with the cause.
    """
    model = _textbook(model)
    inputs = tuple(x.float() if x.dtype in HALF else x for x in inputs)
    analysis = FlopCountAnalysis(model, inputs)
    analysis.clear_op_handles().unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.tracer_warnings("all")  # not shown: one of them is read below
    handles = Handles(len(inputs))
    analysis.set_op_handle(**handles.table())
    with (torch.inference_mode(), _BoolsAsIntegers(), _all_keys(model) as beyond,
          warnings.catch_warnings(record=True) as told):
        warnings.simplefilter("always")
        try:
            analysis.total()
        except Exception as error:
            raise Unavailable(
                f"MACs of {type(model).__name__}: its forward pass cannot be traced "
                f"({type(error).__name__}: {' '.join(str(error).split())[:200]}). Time and memory "
                "do not need it; to have MACs too, use tensor operations and sizes that "
                "torch.jit.trace can follow.") from error
    uncounted = Counter(analysis.unsupported_ops()) + handles.unknown
    # numpy works behind the tracer's back, and its results enter the trace as constants
    if left := sum("NumPy array" in str(w.message) for w in told):
        uncounted["numpy"] += left
    by_kind = _by_kind(model, analysis)
    everything = sum(by_kind.values())
    return MacCount(everything, by_kind, dict(sorted(uncounted.items())),
                    dict(sorted(handles.excluded.items())), everything - sum(beyond))


def _textbook(model: nn.Module) -> nn.Module:
    """Return a copy to be traced: see ``count``."""
    model = copy.deepcopy(getattr(model, "_orig_mod", model)).eval()  # of torch.compile's wrapper
    for module in model.modules():
        module._compiled_call_impl = None  # where module.compile() keeps its result
        if isinstance(module, SemanticAttention):
            module.implementation = "mask"
    if any(p.dtype in HALF for p in model.parameters()):
        model = model.float()
    return model


@contextlib.contextmanager
def _all_keys(model: nn.Module) -> Iterator[list[int]]:
    """Let attention over a dictionary see all keys; note the MACs that a dictionary would save.

    Its textbook form then is plain attention, which needs no mask as large as the scores. A query
    has N scores of d multiply-adds and sums N values of d, in all heads together of the layer's
    width: windows N (N - k) 2 width are beyond its k keys.
    """
    built: list[tuple[Keys, int]] = []
    beyond: list[int] = []

    def remember(module: KeyDictionary, inputs: tuple, keys: Keys) -> None:
        built.append((keys, module.k))

    def open_up(module: SemanticAttention, inputs: tuple[Tensor, Keys]) -> tuple[Tensor, Keys]:
        tokens, keys = inputs
        windows, n, width = map(int, tokens.shape)
        k = next((k for known, k in built if known is keys), n)
        beyond.append(windows * n * max(n - k, 0) * 2 * width)
        return tokens, Keys(None)

    def keep(module: nn.Module, inputs: tuple, output: object) -> tuple:
        # what no output needs is left out of a trace, dictionaries that nobody asks included
        return output, [keys.mask for keys, _ in built if not keys.dense]

    hooks = [module.register_forward_hook(remember) for module in model.modules()
             if isinstance(module, KeyDictionary)]
    if hooks:
        hooks.append(model.register_forward_hook(keep))
    hooks += [module.register_forward_pre_hook(open_up) for module in model.modules()
              if isinstance(module, SemanticAttention)]
    try:
        yield beyond
    finally:
        for hook in hooks:
            hook.remove()


def _by_kind(model: nn.Module, analysis: FlopCountAnalysis) -> dict[str, int]:
    """Take what ran inside key dictionaries out of the other kinds."""
    counts = Counter(analysis.by_operator())
    names = {analysis.canonical_module_name(name) for name, module in model.named_modules()
             if any(c.__name__ == DICTIONARY for c in type(module).__mro__)}
    for name in names:
        if any(name.startswith(f"{other}.") or (other == "" and name) for other in names):
            continue  # inside another one: counted there
        inside = Counter(analysis.by_operator(name))
        counts -= inside
        counts["dictionary"] += sum(inside.values())
    return {kind: int(counts[kind]) for kind in KINDS}


class _BoolsAsIntegers(TorchFunctionMode):
    """Let ``mask.scatter_(1, index, True)`` be traced.

    torch's tracer stores True as a bool where the operation takes a number, and then finds no
    operation that takes one (an internal assertion fails). The tensor's own type decides what is
    stored, so 1 means the same. While such a mode is active, torch's own transformer layers do not
    fuse into one operation either, for which there would be no handle.
    """

    FUNCTIONS = frozenset(("scatter", "scatter_", "masked_fill", "masked_fill_", "fill_",
                           "index_fill", "index_fill_", "full_like", "new_full", "eq", "ne",
                           "__eq__", "__ne__"))
    KEYWORDS = frozenset(("value", "fill_value", "other"))

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Replace bools among the values of the functions concerned."""
        kwargs = kwargs or {}
        if func.__name__ in self.FUNCTIONS:
            args = tuple(int(a) if isinstance(a, bool) else a for a in args)
            kwargs = {name: int(a) if isinstance(a, bool) and name in self.KEYWORDS else a
                      for name, a in kwargs.items()}
        return func(*args, **kwargs)
