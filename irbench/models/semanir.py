"""SemanIR, columnar: transformer layers that share a key-semantic dictionary (NeurIPS 2024).

Reads and writes tensors only. The authors released no usable code or weights, so this is written
from arXiv 2405.20008 (preprint, as KGT: 2402.02634). *printed* was read in its figures, tables or
captions; *inferred* reproduces the printed sizes, to 0.01 M for S and B at all three scales;
*ours* is a choice where nothing is known.

    conv 3x3 -> stages -> conv 3x3 -> + (long residual) -> reconstruction       printed
    stage: dictionary of its input; layers that share it; conv 3x3; + its input printed
    layer: attention + residual, FFN + residual                                 printed

Options of the cards, with their reasons:
    width 180, heads 6, mlp_ratio 2, stages 6, layers 6 (S), 8 and 8 (B)    inferred.
    head pixelshuffle, head_width 64    inferred: SwinIR's head; ``direct``: one convolution.
    bias_hidden 512     inferred: hidden width of the MLP that gives each layer's position bias.
    logit_scale learned     inferred, with the bias: cosine attention with a learned scale a head.
                    ``fixed``: the scale it starts at, for good; ``sqrt``: no cosines, but the
                    textbook dot product / sqrt(d). Both ours, without the 6 numbers a layer.
    window 32, k 512    ours: 8, 16 and 32 are ablated and k runs to 512 (printed), which only
                    means something with the 1024 tokens of a window of 32. Neither changes the
                    weights, so one checkpoint can be run with several.
    train_k []      ours: a fixed k in training. A list is drawn from at random (both printed; the
                    paper's six values are 64, 128, 192, 256, 384, 512), once a batch, for all
                    stages: whether each stage draws for itself is unknown.
    similarity dot  printed; ``cosine`` and ``dot_ln`` are ours, see KeyDictionary.
    shift none      inferred: no shift is drawn, and one inside a stage would break the sharing.
                    ``half``, ours: every second stage's windows lie half a window further, on an
                    image continued by reflection by that much on all sides. Costs the rim's work.
    norm pre        ours: x + f(LN(x)), SwinIR's; ``post``: x + LN(f(x)), SwinV2's. Same size.
    restoration     ours: the ends for tasks at scale 1, see layers.ends; S and B do only SR.
    skip none       ours for S and B: none is drawn for SR. ``input`` adds the bicubic input.
    attention auto  ours: which implementation, see attention.IMPLEMENTATIONS. Same values.
Inferred without an option: a LayerNorm after the first convolution and one before the last of the
body. ``free`` in a card: the options that change neither the weights nor what they were trained
for, so that a checkpoint may be run with other values.

SemanIR-light is ours, not in the paper: the same blocks, small enough to train in minutes on a CPU.
    width 48, 4 stages of 4 layers, heads 3     about Compacter's parameters and multiply-adds.
    window 8, k 32      half of a window's tokens, as S and B; 8 divides the usual small patches,
                        and a window of 16 takes four times as long to train.
    similarity cosine   as raw dot products let few hubs win.
    bias_hidden 64      512 would be a tenth of its parameters.
    restoration half, skip input    half the resolution is a quarter of the work; the network
                        learns the difference from the first step.

Try: ``python -c "from irbench.models.semanir import semanir_light as build;
print(sum(p.numel() for p in build('sr', 2, 3).parameters()))"``
"""

from __future__ import annotations

from types import SimpleNamespace

from torch import Tensor, nn

from irbench.models import layers, reach
from irbench.models.attention.dictionary import draw, whole_number_option
from irbench.models.attention.health import DictionaryNetwork
from irbench.models.attention.stage import Stage
from irbench.models.padding import Columnar

CARDS = {
    "semanir-s": {
        "title": "SemanIR-S",
        "builder": "semanir_s",
        "tasks": ["sr"],
        "levels": {"sr": ["x2", "x3", "x4"]},
        "in_paper": True,
        "published_as": "SemanIR-S",
        "note": "",
        "source": "SemanIR, arXiv 2405.20008 (KGT-S in 2402.02634), rebuilt without official "
                  "code: stages, layers and the dictionary as printed; widths, head, position "
                  "bias and cosine attention inferred from the printed sizes; window and k by "
                  "irbench.",
        "learned": True,
        "options": {
            "width": 180, "heads": 6, "stages": 6, "layers": 6, "mlp_ratio": 2, "window": 32,
            "k": 512, "train_k": [], "similarity": "dot", "bias_hidden": 512, "norm": "pre",
            "logit_scale": "learned", "shift": "none",
            "head": "pixelshuffle", "head_width": 64, "restoration": "full", "skip": "none",
            "attention": "auto",
        },
        "free": ["k", "window", "similarity", "shift", "attention"],
        "dtypes": ["float32", "float64", "bfloat16", "float16"],
    },
    "semanir-b": {
        "title": "SemanIR-B",
        "builder": "semanir_b",
        "tasks": ["sr"],
        "levels": {"sr": ["x2", "x3", "x4"]},
        "in_paper": True,
        "published_as": "SemanIR-B",
        "note": "",
        "source": "SemanIR, arXiv 2405.20008 (KGT-B in 2402.02634), rebuilt without official "
                  "code: stages, layers and the dictionary as printed; widths, head, position "
                  "bias and cosine attention inferred from the printed sizes; window and k by "
                  "irbench.",
        "learned": True,
        "options": {
            "width": 180, "heads": 6, "stages": 8, "layers": 8, "mlp_ratio": 2, "window": 32,
            "k": 512, "train_k": [], "similarity": "dot", "bias_hidden": 512, "norm": "pre",
            "logit_scale": "learned", "shift": "none",
            "head": "pixelshuffle", "head_width": 64, "restoration": "full", "skip": "none",
            "attention": "auto",
        },
        "free": ["k", "window", "similarity", "shift", "attention"],
        "dtypes": ["float32", "float64", "bfloat16", "float16"],
    },
    "semanir-light": {
        "title": "SemanIR-light",
        "builder": "semanir_light",
        "tasks": ["sr", "denoise_gray", "denoise_color", "jpeg_gray", "jpeg_color", "demosaic",
                  "deblur", "derain", "lowlight", "weather", "denoise_real", "dehaze"],
        "levels": {"sr": ["x2", "x3", "x4"]},
        "in_paper": False,
        "note": "A small variant by irbench with SemanIR's blocks; SemanIR's paper has none of "
                "this size.",
        "source": "The blocks of SemanIR (arXiv 2405.20008); size, ends and options by irbench.",
        "learned": True,
        "options": {
            "width": 48, "heads": 3, "stages": 4, "layers": 4, "mlp_ratio": 2, "window": 8,
            "k": 32, "train_k": [], "similarity": "cosine", "bias_hidden": 64, "norm": "pre",
            "logit_scale": "learned", "shift": "none",
            "head": "direct", "head_width": 64, "restoration": "half", "skip": "input",
            "attention": "auto",
        },
        "free": ["k", "window", "similarity", "shift", "attention"],
        "dtypes": ["float32", "float64", "bfloat16", "float16"],
    },
}


def semanir_s(task: str, scale: int, channels: int, **options) -> SemanIR:
    """Build SemanIR-S. Raises UserError for an unknown option or a bad value."""
    return _build("semanir-s", task, scale, channels, options)


def semanir_b(task: str, scale: int, channels: int, **options) -> SemanIR:
    """Build SemanIR-B. Raises UserError for an unknown option or a bad value."""
    return _build("semanir-b", task, scale, channels, options)


def semanir_light(task: str, scale: int, channels: int, **options) -> SemanIR:
    """Build SemanIR-light (ours). Raises UserError for an unknown option or a bad value."""
    return _build("semanir-light", task, scale, channels, options)


def _build(card: str, task: str, scale: int, channels: int, options: dict) -> SemanIR:
    layers.check_task(task, scale)
    return SemanIR(scale, channels, layers.options_of(card, CARDS, options))


class SemanIR(DictionaryNetwork, Columnar):
    """The columnar network; see the module's text. (B, channels, H, W) in [0, 1], H, W >= 2."""

    def __init__(self, scale: int, channels: int, options: SimpleNamespace):
        """Build from all of the card's options; raise UserError for a bad value."""
        o = options
        first, last, stride = layers.ends(channels, scale, o.width, head=o.head,
                                          head_width=o.head_width, restoration=o.restoration)
        super().__init__(channels=channels, scale=scale, size_multiple=o.window * stride,
                         skip=o.skip)
        whole_number_option("train_k", *o.train_k)
        self.train_k = o.train_k
        self.extract = first
        self.norm_in = nn.LayerNorm(o.width)
        self.stages = nn.ModuleList(
            Stage(o.width, o.heads, o, second=i % 2 == 1) for i in range(o.stages))
        self.norm_out = nn.LayerNorm(o.width)
        self.body_conv = layers.conv3(o.width, o.width)
        self.reconstruct = last
        layers.initialise(self)
        if self.skip == "input":
            layers.start_at_input(self.extract, self.reconstruct)

    def body(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, H, W, width) to the same shape, between two norms."""
        tokens = self.norm_in(tokens)
        k = draw(self.train_k, self.training)
        for stage in self.stages:
            tokens = stage(tokens, k)
        return self.norm_out(tokens)

    @property
    def receptive_field(self) -> int:
        """The radius of the receptive field in input pixels.

        The convolution of each stage reaches one pixel into the next windows, and thereby their
        full extent: about as many windows as stages (half of that if every second stage shifts).
        """
        return reach.radius(self._reads, self.size_multiple, self.scale)

    def _reads(self, span: reach.Span) -> reach.Span:
        span = reach.through(self.reconstruct, span).wider(1)           # and body_conv
        for stage in reversed(self.stages):
            span = stage.reads(span)
        return reach.through(self.extract, span)
