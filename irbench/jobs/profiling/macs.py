"""Multiply-adds (MACs) of one forward pass, by kind of operation; nothing is skipped silently.

Reads a model and its inputs; writes nothing. fvcore traces the forward pass and passes every traced
operation to a handle. fvcore's "flops" are multiply-adds, that is MACs: one addition and one
multiplication count as 1, where ``torch.utils.flop_counter`` counts 2. The handles here replace all
of fvcore's, which also count normalisation, round einsum to three digits, miscount products that
broadcast, and do not know attention.

Operations are counted in the textbook form of their result:
    conv        convolutions, also transposed ones; padding zeros count, the bias does not.
    linear      products with weights (or with any matrix that does not depend on the input).
    attention   products of two activations (Q K^T, A V, channel attention) and
                ``scaled_dot_product_attention``: B * heads * N * M * (d_qk + d_v). A masked or
                causal attention counts in full, because dense hardware computes what it masks;
                ``keys_only`` is the total without the part that modules need not compute
                (``saved_macs``): attention over only the k keys of a dictionary.
    dictionary  building dictionaries of keys, counted by the modules themselves (``count_macs``).
    other       interpolation by its taps per output value (bilinear 4, bicubic 16), and the FFT by
                the usual convention of 5 n log2 n flops for a complex transform of n points, half
                for a real one (Frigo and Johnson, FFTW's benchFFT), 2 flops per MAC.
Excluded by convention, because they are not multiply-adds or of a lower order: element-wise
arithmetic, activations, softmax, normalisation, sums and other reductions, sorting and top-k,
pooling, copies (``mac_handles.EXCLUDED``; and fvcore's own list of pure reshapes). An operation
that is neither counted nor excluded is reported by name in ``uncounted``. A module may count itself
and choose the form that is counted: ``irbench.models.interface``.

Try: ``python -c "import torch; from irbench.jobs.profiling import macs;
print(macs.count(torch.nn.Conv2d(3, 8, 3), (torch.rand(1, 3, 16, 16),)))"``
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from irbench.core.errors import Unavailable, UserError
from irbench.jobs.profiling.mac_handles import Handles, is_part
from irbench.models.interface import offered

KINDS = ("conv", "linear", "attention", "dictionary", "other")
HALF = (torch.float16, torch.bfloat16)

@dataclass(frozen=True)
class MacCount:
    """The multiply-adds of one forward pass.

    Attributes:
        total: all counted multiply-adds.
        by_kind: the same by kind, for each of ``KINDS``.
        uncounted: operation → number of calls, for operations without a handle. If it is not empty,
            ``total`` is a lower bound.
        excluded: operation → number of calls, for operations excluded by convention.
        keys_only: ``total`` without the part that modules need not compute (in attention over a
            dictionary: each query's k keys instead of all N tokens); equal to ``total`` without
            such modules.
    """

    total: int
    by_kind: dict[str, int]
    uncounted: dict[str, int]
    excluded: dict[str, int]
    keys_only: int


def total(counts: Iterable[tuple[MacCount, int]]) -> MacCount:
    """Add up passes with multiplicities, such as those of an image's tiles."""
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
    compiled, and has float32 instead of half-precision weights. Modules take their textbook form if
    they have one, so that the count does not depend on the implementation that the model uses.

    Args:
        model: any module with tensors in and out; it is not changed.
        inputs: its positional arguments, all tensors.

    Raises:
        Unavailable: the forward pass cannot be traced (or fails), with the cause; or fvcore is
            missing.
        UserError: a module's ``count_macs`` returns something else than counts by ``KINDS``.
    """
    analyse = _tracer()
    model = _textbook(model)
    inputs = tuple(x.float() if x.dtype in HALF else x for x in inputs)
    analysis = analyse(model, inputs)
    analysis.clear_op_handles().unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.tracer_warnings("all")  # not shown: one of them is read below
    offers = _Offers(model, analysis.canonical_module_name)
    handles = Handles(len(inputs), frozenset(offers.counting))
    analysis.set_op_handle(**handles.table())
    with (torch.inference_mode(), _BoolsAsIntegers(), offers.noted(),
          warnings.catch_warnings(record=True) as caught):
        warnings.simplefilter("always")
        try:
            analysis.total()
        except Exception as error:
            raise Unavailable(
                f"MACs of {type(model).__name__}: its forward pass cannot be traced "
                f"({type(error).__name__}: {' '.join(str(error).split())[:200]}). Time and memory "
                "do not need it; to get MACs, too, use tensor operations and sizes that "
                "torch.jit.trace can follow.") from error
    if offers.wrong:
        raise UserError(offers.wrong)
    uncounted = Counter(analysis.unsupported_ops()) + handles.unknown
    for name in offers.counting:
        uncounted -= analysis.unsupported_ops(name)
    # the tracer does not see numpy, whose results enter the trace as constants
    if left := sum("NumPy array" in str(w.message) for w in caught):
        uncounted["numpy"] += left
    counts = offers.counts + Counter(analysis.by_operator())
    by_kind = {kind: int(counts[kind]) for kind in KINDS}
    everything = sum(by_kind.values())
    return MacCount(everything, by_kind, dict(sorted(uncounted.items())),
                    dict(sorted(handles.excluded.items())), everything - offers.saved)


def _tracer() -> type:
    """Return fvcore's class; raise Unavailable without fvcore, which only this count needs."""
    try:
        with warnings.catch_warnings():  # fvcore scripts a function on import: torch deprecates it
            warnings.simplefilter("ignore", FutureWarning)
            from fvcore.nn import FlopCountAnalysis
    except ImportError as error:
        raise Unavailable(f"MACs need the package fvcore, which cannot be imported ({error}). "
                          "pip install fvcore, then run again.") from None
    return FlopCountAnalysis


def _textbook(model: nn.Module) -> nn.Module:
    """Return a copy to be traced: see ``count``."""
    model = copy.deepcopy(getattr(model, "_orig_mod", model)).eval()  # of torch.compile's wrapper
    for module in model.modules():
        module._compiled_call_impl = None  # module.compile() stores its result there
        if take_form := offered(module, "to_textbook"):
            take_form()
    if any(p.dtype in HALF for p in model.parameters()):
        model = model.float()
    return model


class _Offers:
    """The counts that a model's modules report themselves while it is traced.

    See ``irbench.models.interface``: ``count_macs`` of the outermost modules that offer it, and
    ``saved_macs``.
    """

    def __init__(self, model: nn.Module, name_of: Callable[[str], str]) -> None:
        """Look for offers; ``name_of`` returns a module's name in the trace."""
        self.model = model
        named = {name_of(name): module for name, module in model.named_modules()}
        counting = [name for name, module in named.items() if offered(module, "count_macs")]
        self.counting = {name: named[name] for name in counting
                         if not any(name != other and is_part(name, other) for other in counting)}
        self.saving = [module for module in named.values() if offered(module, "saved_macs")]
        self.counts: Counter[str] = Counter()
        self.saved = 0
        self.wrong = ""
        self._kept: list[Tensor] = []

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Record the modules' reports whenever they are called."""
        hooks = [module.register_forward_hook(self._count, with_kwargs=True)
                 for module in self.counting.values()]
        if hooks:
            hooks.append(self.model.register_forward_hook(self._keep))
        hooks += [module.register_forward_hook(self._save, with_kwargs=True)
                  for module in self.saving]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    # sizes are tensors while a model is traced, so results computed from them are converted to int

    def _count(self, module: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
        found = module.count_macs(output, *args, **kwargs)
        if not isinstance(found, dict) or not set(found) <= set(KINDS):
            self.wrong = (f"{type(module).__name__}.count_macs returned {found!r}; it returns a "
                          f"dict of multiply-adds by kind. Valid kinds: {', '.join(KINDS)}.")
            return
        self.counts.update({kind: int(number) for kind, number in found.items()})
        self._kept += _tensors(output)

    def _save(self, module: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
        self.saved += int(module.saved_macs(output, *args, **kwargs))

    def _keep(self, module: nn.Module, inputs: tuple, output: object) -> tuple:
        # the trace omits everything that no output needs, so unused results are kept as outputs
        return output, self._kept


def _tensors(output: object) -> list[Tensor]:
    """Return the tensors in a module's result, also inside lists, dicts and dataclasses."""
    if isinstance(output, Tensor):
        return [output]
    if dataclasses.is_dataclass(output):
        output = [getattr(output, field.name) for field in dataclasses.fields(output)]
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, list | tuple):
        return [tensor for part in output for tensor in _tensors(part)]
    return []


class _BoolsAsIntegers(TorchFunctionMode):
    """Let ``mask.scatter_(1, index, True)`` be traced.

    torch's tracer stores True as a bool where the operation takes a number, and then does not find
    a matching operation (an internal assertion fails). The tensor's type decides what is stored, so
    1 has the same meaning. While such a mode is active, torch's transformer layers are not fused
    into one operation either, for which there is no handle.
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
