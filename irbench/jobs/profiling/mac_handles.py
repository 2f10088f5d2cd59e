"""The multiply-adds of traced operations: one handle each, for ``irbench.jobs.profiling.macs``.

Reads the inputs and outputs of traced operations; writes nothing. A handle takes fvcore's two lists
of traced values and returns MACs by kind; None if the trace does not determine the count.

Try: ``python -c "from irbench.jobs.profiling.mac_handles import EXCLUDED, Handles;
print(len(EXCLUDED), sorted(Handles(1).table())[:9])"``
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

# Names as in a trace; each also stands for its in-place form (add, add_).
_NAMES = """
    abs add addcdiv addcmul ceil clamp clamp_max clamp_min cos cosine_similarity div exp exp2 expm1
    floor fmod frac hypot lerp log log10 log1p log2 maximum minimum mul neg nan_to_num pow
    reciprocal round rsqrt rsub sign sin square sqrt sub trunc complex polar real imag view_as_real
    view_as_complex angle conj outer
    celu elu gelu glu hardsigmoid hardswish hardtanh leaky_relu logsigmoid mish prelu relu relu6
    selu sigmoid silu softplus softsign tanh threshold
    softmax log_softmax logsumexp _softmax
    layer_norm group_norm batch_norm instance_norm rms_norm native_layer_norm linalg_vector_norm
    linalg_norm norm norm_except_dim
    sum mean var std var_mean std_mean amax amin aminmax max min prod cumsum cumprod all any argmax
    argmin argsort sort topk kthvalue median count_nonzero nonzero unique bincount searchsorted
    bucketize
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d avg_pool1d avg_pool2d max_pool1d
    max_pool2d
    eq ne lt le gt ge logical_and logical_or logical_not logical_xor bitwise_and bitwise_or
    bitwise_xor bitwise_not bitwise_left_shift bitwise_right_shift __and__ __or__ __xor__
    __lshift__ __rshift__ isnan isinf isfinite where masked_fill masked_select remainder
    floor_divide
    alias arange as_strided broadcast_to broadcast_tensors cat channel_shuffle clone col2im
    constant_pad_nd detach_ diag diagonal diff empty_like expand expand_as eye feature_dropout
    fft_fftshift fft_ifftshift fill flip full gather im2col index index_add index_fill index_put
    index_select item linspace meshgrid movedim new_ones normal numel numpy_T one_hot ones_like pad
    pixel_shuffle pixel_unshuffle rand rand_like randn randn_like reflection_pad1d reflection_pad2d
    repeat repeat_interleave replication_pad2d resolve_conj rot90 scatter scatter_add scatter_reduce
    select_scatter slice_scatter swapaxes tensor tensor_split tile tril triu unflatten unfold
    upsample_nearest1d upsample_nearest2d upsample_nearest3d view_as zero
    Bool Float FloatImplicit IntImplicit lift_fresh mH mT adjoint
"""
EXCLUDED = frozenset(_NAMES.split())
# Products a @ b whose every output value sums over the last axis of a; name: (index of a, of b).
PRODUCTS = {"matmul": (0, 1), "mm": (0, 1), "bmm": (0, 1), "mv": (0, 1), "dot": (0, 1),
            "inner": (0, 1), "linear": (0, 1), "addmm": (1, 2), "addmv": (1, 2),
            "baddbmm": (1, 2)}
TAPS = {"upsample_linear1d": 2, "upsample_bilinear2d": 4, "upsample_trilinear3d": 8,
        "upsample_bicubic2d": 16, "_upsample_bilinear2d_aa": 4, "_upsample_bicubic2d_aa": 16}
# Their values contain a shape of the input, not its content.
SHAPES = frozenset(f"aten::{name}" for name in (
    "size", "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones",
    "new_full", "new_empty"))

Handle = Callable[[list, list], dict[str, int] | None]


class Handles:
    """The handles of one analysis, and the operations that they could not or need not count."""

    def __init__(self, inputs: int, self_counted: frozenset[str] = frozenset()) -> None:
        """Handle the trace of a model.

        Args:
            inputs: the number of its input tensors.
            self_counted: names of the modules that count themselves; operations inside them are
                not counted here.
        """
        self.inputs, self.self_counted = inputs, self_counted
        self.unknown: Counter[str] = Counter()
        self.excluded: Counter[str] = Counter()
        self._depends: dict[int, bool] = {}  # value → does it depend on the model's input

    def table(self) -> dict[str, Callable]:
        """Return traced name → handle in fvcore's form."""
        found: dict[str, Handle] = {name: self._product(*pair) for name, pair in PRODUCTS.items()}
        found |= {name: _taps(taps) for name, taps in TAPS.items()}
        found |= {f"fft_{name}{dims}": _fft(name, dims) for dims in ("", "2", "n")
                  for name in ("fft", "ifft", "rfft", "irfft")}
        found |= dict.fromkeys(("_convolution", "convolution", "_convolution_mode"), _convolution)
        found |= {"scaled_dot_product_attention": _attention, "grid_sampler": _grid,
                  "tensordot": self._tensordot, "einsum": self._einsum}
        table = {f"aten::{name}": self._checked(f"aten::{name}", handle)
                 for name, handle in found.items()}
        # fvcore does not look into the blocks of scripted code
        for name in ("prim::If", "prim::Loop"):
            table[name] = self._checked(name, lambda inputs, outputs: None)
        for name in EXCLUDED:
            for form in (f"aten::{name}", f"aten::{name}_"):
                table[form] = self._exclude(form)
        return table

    def _checked(self, name: str, handle: Handle) -> Callable:
        def run(inputs: list, outputs: list) -> Counter:
            if outputs and self._inside(outputs[0].node().scopeName()):
                return Counter()
            found = handle(inputs, outputs)
            if found is None:
                self.unknown[name] += 1
            return Counter(found or {})
        return run

    def _inside(self, scopes: str) -> bool:
        """Whether a scope of the trace lies inside a module that counts itself."""
        owner = scopes.rpartition("/")[2]
        return any(is_part(owner, name) for name in self.self_counted)

    def _exclude(self, name: str) -> Callable:
        def run(inputs: list, outputs: list) -> Counter:
            self.excluded[name] += 1
            return Counter()
        return run

    def _kind(self, a, b) -> str:
        """Attention multiplies two activations; anything else is a linear map of one."""
        return "attention" if self._varies(a) and self._varies(b) else "linear"

    def _varies(self, value) -> bool:
        """Whether a traced value depends on the model's input; walks back through the trace."""
        known, stack = self._depends, [value]
        while stack:
            value = stack[-1]
            node, unique = value.node(), value.unique()
            if node.kind() == "prim::Param":
                known[unique] = value.offset() < self.inputs  # the inputs come before the weights
            elif node.kind() in SHAPES:
                known[unique] = False
            else:
                sources = list(node.inputs())
                ahead = [s for s in sources if s.unique() not in known]
                if ahead and not any(known.get(s.unique()) for s in sources):
                    stack.append(ahead[0])
                    continue
                known[unique] = any(known.get(s.unique()) for s in sources)
            stack.pop()
        return known[unique]

    def _product(self, first: int, second: int) -> Handle:
        def handle(inputs: list, outputs: list) -> dict[str, int] | None:
            a, b = inputs[first], inputs[second]
            shape, out = _shape(a), _shape(outputs[0])
            if shape is None or out is None:
                return None
            return {self._kind(a, b): math.prod(out) * shape[-1]}
        return handle

    def _tensordot(self, inputs: list, outputs: list) -> dict[str, int] | None:
        shapes = [_shape(v) for v in (*inputs[:2], outputs[0])]
        if None in shapes:
            return None
        # sizes A = ik, B = kj, out = ij: their product is (ijk)^2
        macs = math.isqrt(math.prod(math.prod(s) for s in shapes))
        return {self._kind(*inputs[:2]): macs}

    def _einsum(self, inputs: list, outputs: list) -> dict[str, int] | None:
        """Two operands: each output value sums over the letters that both share and it lacks."""
        operands = list(inputs[1].node().inputs())
        if len(operands) == 1:
            return {}  # a sum or a transposition
        shapes, out = [_shape(v) for v in operands], _shape(outputs[0])
        if len(operands) != 2 or None in shapes or out is None:
            return None  # more operands: the count depends on torch's order of evaluation
        left, _, result = inputs[0].toIValue().replace(" ", "").partition("->")
        terms = left.split(",")
        shared = set(terms[0]) & set(terms[1]) - set("." + result)
        if "->" not in inputs[0].toIValue():  # implicit: letters that appear once remain
            shared = {letter for letter in shared if left.count(letter) > 1}
        sizes = _letters(terms[0], shapes[0])
        macs = math.prod(out) * math.prod(sizes[letter] for letter in shared)
        return {self._kind(*operands): macs}


def is_part(name: str, outer: str) -> bool:
    """Whether a module is another module or lies inside it, by their names."""
    return outer in ("", name) or name.startswith(f"{outer}.")


def _shape(value) -> list[int] | None:
    return value.type().sizes() if value.isCompleteTensor() else None


def _letters(term: str, shape: list[int]) -> dict[str, int]:
    """Sizes of an einsum term's letters; those after an ellipsis count from the end."""
    front, _, back = term.partition("...")
    return dict(zip(front, shape, strict=False)) | dict(zip(back[::-1], shape[::-1], strict=False))


def _integers(value) -> list[int] | None:
    """An int or a list of ints in a trace; None when it is not constant."""
    node = value.node()
    if node.kind() == "prim::ListConstruct":
        found = [v.toIValue() for v in node.inputs()]
    else:
        found = value.toIValue()
        found = [found] if isinstance(found, int) else found
    return found if found is not None and all(isinstance(v, int) for v in found) else None


def _convolution(inputs: list, outputs: list) -> dict[str, int] | None:
    """Multiply output values (if transposed: input values) by the size of their weight's slice.

    The weight is (C_out, C_in / groups, k...), transposed (C_in, C_out / groups, k...).
    """
    x, weight, out = _shape(inputs[0]), _shape(inputs[1]), _shape(outputs[0])
    if x is None or weight is None or out is None:
        return None
    # _convolution_mode (padding by name) has no such argument and is never transposed
    transposed = len(inputs) > 7 and inputs[6].toIValue()
    return {"conv": math.prod(x if transposed else out) * math.prod(weight[1:])}


def _attention(inputs: list, outputs: list) -> dict[str, int] | None:
    """Q (..., N, d), K (..., M, d), V (..., M, e): N M (d + e) a head, the mask ignored."""
    q, k, v, out = (_shape(value) for value in (*inputs[:3], outputs[0]))
    if None in (q, k, v, out):
        return None
    rows = math.prod(out[:-1])  # B heads N, broadcast
    return {"attention": rows * k[-2] * (q[-1] + v[-1])}


def _taps(taps: int) -> Handle:
    def handle(inputs: list, outputs: list) -> dict[str, int] | None:
        x, out = _shape(inputs[0]), _shape(outputs[0])
        if x is None or out is None or any(a > b for a, b in zip(x, out, strict=True)):
            return None  # reduced with antialiasing, the taps grow with the factor
        return {"other": math.prod(out) * taps}
    return handle


def _grid(inputs: list, outputs: list) -> dict[str, int] | None:
    out = _shape(outputs[0])
    taps = {0: 2 ** (len(out) - 2), 1: 0, 2: 16}.get(inputs[2].toIValue()) if out else None
    return None if taps is None else {"other": math.prod(out) * taps}


def _fft(name: str, dims: str) -> Handle:
    def handle(inputs: list, outputs: list) -> dict[str, int] | None:
        x, out = _shape(inputs[0]), _shape(outputs[0])
        if x is None or out is None:
            return None
        if name == "rfft" and not inputs[1].node().mustBeNone():
            return None  # the input is cut or padded to n, and the output has half of it
        full = x if name == "rfft" else out
        axes = _integers(inputs[2])
        if axes is None:
            if dims != "n":
                return None
            axes = range(len(full))
        length = math.prod(full[axis] for axis in axes)
        complex_macs = 2.5 * math.prod(full) * math.log2(length)
        return {"other": round(complex_macs / 2 if name in ("rfft", "irfft") else complex_macs)}
    return handle
