"""SemanIR's U-shape: every task but super-resolution (NeurIPS 2024).

Reads and writes tensors only. Printed (arXiv 2405.20008): a U-shape with additions and
concatenations for all tasks but SR, of 25.82 M parameters; its exact form is unknown and tens of
thousands of forms fit. This one is ours, with 25,820,073. The stages: attention/stage.py.

    level 1  C    encoder -----------------------------------> concat (2C) decoder, final
    level 2  2C     encoder ----------------> concat, 1x1 decoder
    level 3  4C       encoder -> concat, 1x1 decoder
    level 4  8C         latent

Down: 3x3 with stride 2; up: transposed 2x2; then conv 3x3 at 2C, residual from the concatenation,
and conv 3x3 to the image.

Options of the card, with their reasons (ours, unless stated otherwise):
    width 60        channels of level 1 (C); with 6 layers in all 8 stages and 3 heads at level
                    1, twice as many at each further one, the printed size comes out.
    heads 3, layers 6, mlp_ratio 2, bias_hidden 512     as above; the last two as inferred for S.
    window 16       the lowest level has 1/8 of the resolution, so sides become multiples of 128,
                    a usual training patch; 32 would pad it to 256.
    k 128           half of a window's 256 tokens, as the columnar default is half of 1024.
    skip input      the relatives (SwinIR, Restormer, GRL) add the input for these tasks.
    shift none      as in semanir.py; ``half`` moves the windows of the decoders, the second stage
                    of their level, so that they lie between the encoder's.
    similarity, train_k, logit_scale, norm, attention, free     as in semanir.py.

Try: ``python -c "from irbench.models.semanir_unet import semanir_unet as build;
print(sum(p.numel() for p in build('denoise_color', 1, 3).parameters()))"``
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from irbench.core.errors import UserError
from irbench.models import layers, reach
from irbench.models.attention.dictionary import draw, whole_number_option
from irbench.models.attention.health import DictionaryNetwork
from irbench.models.attention.stage import Stage
from irbench.models.padding import Restorer
from irbench.models.reach import Span

CARDS = {
    "semanir-unet": {
        "title": "SemanIR",
        "builder": "semanir_unet",
        "tasks": ["denoise_gray", "denoise_color", "jpeg_gray", "jpeg_color", "demosaic",
                  "deblur", "derain", "lowlight", "weather"],
        "in_paper": True,
        "published_as": "SemanIR",
        "note": "",
        "source": "SemanIR, arXiv 2405.20008: a U-shape of 25.82 M is printed, its form is not; "
                  "levels, widths, depths and connections are ours and have the printed size with "
                  "three channels (a little less with one). The paper reports denoising, JPEG, "
                  "demosaicking, deblurring and weather; derain and lowlight are tasks of this "
                  "network that it does not report.",
        "learned": True,
        "options": {
            "width": 60, "heads": 3, "layers": 6, "mlp_ratio": 2, "window": 16, "k": 128,
            "train_k": [], "similarity": "dot", "bias_hidden": 512, "norm": "pre",
            "logit_scale": "learned", "shift": "none",
            "skip": "input", "attention": "auto",
        },
        "free": ["k", "window", "similarity", "shift", "attention"],
        "dtypes": ["float32", "float64", "bfloat16", "float16"],
    },
}
LEVELS = 4


def semanir_unet(task: str, scale: int, channels: int, **options) -> SemanIRUnet:
    """Build the U-shape. Raises UserError for SR, an unknown option or a bad value."""
    layers.check_task(task, scale)
    if scale != 1:
        raise UserError("semanir-unet restores at the same size (scale 1). Use semanir-s or "
                        "semanir-b for super-resolution.")
    return SemanIRUnet(channels, layers.options_of("semanir-unet", CARDS, options))


class SemanIRUnet(DictionaryNetwork, Restorer):
    """The U-shape; see the module's text. (B, channels, H, W) in [0, 1], any H, W >= 2."""

    def __init__(self, channels: int, options: SimpleNamespace):
        """Build from all of the card's options; raise UserError for a bad value."""
        o = options
        super().__init__(channels=channels, scale=1, skip=o.skip,
                         size_multiple=o.window * 2 ** (LEVELS - 1))
        whole_number_option("train_k", *o.train_k)
        self.train_k = o.train_k
        width = [o.width * 2**i for i in range(LEVELS)]
        heads = [o.heads * 2**i for i in range(LEVELS)]
        upper = range(LEVELS - 1)
        self.extract = layers.conv3(channels, o.width)
        self.encoders = nn.ModuleList(Stage(width[i], heads[i], o) for i in upper)
        self.downs = nn.ModuleList(
            layers.TokenConv(width[i], width[i + 1], 3, stride=2, padding=1) for i in upper)
        self.latent = Stage(width[-1], heads[-1], o)
        self.ups = nn.ModuleList(TokenUp(width[i + 1], width[i]) for i in upper)
        self.fusions = nn.ModuleList(
            nn.Linear(2 * width[i], width[i]) if i else nn.Identity() for i in upper)
        self.decoders = nn.ModuleList(
            Stage(width[i] if i else 2 * width[0], heads[i], o, second=True) for i in upper)
        self.final = Stage(2 * width[0], heads[0], o)
        self.body_conv = layers.conv3(2 * width[0], 2 * width[0])
        self.reconstruct = nn.Sequential(layers.conv3(2 * width[0], channels))
        layers.initialise(self)
        if self.skip == "input":
            layers.start_at_input(self.extract, self.reconstruct)

    def restore(self, x: Tensor) -> Tensor:
        """Restore an image whose sides are multiples of ``size_multiple``."""
        x = self.extract(x.permute(0, 2, 3, 1).contiguous())            # (B, H, W, C)
        k = draw(self.train_k, self.training)
        kept = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            kept.append(encoder(x, k))
            x = down(kept[-1])                                          # half the size, 2x wide
        x = self.latent(x, k)
        for i in reversed(range(LEVELS - 1)):
            joined = self.fusions[i](torch.cat([self.ups[i](x), kept[i]], dim=-1))
            x = self.decoders[i](joined, k)
        deep = joined + self.body_conv(self.final(x, k))                   # (B, H, W, 2C)
        return self.reconstruct(deep).permute(0, 3, 1, 2).contiguous()  # (B, channels, H, W)

    @property
    def receptive_field(self) -> int:
        """The radius of the receptive field in input pixels.

        Most of it is the latent's window and one window per stage, of 8, 4, 2 and 1 times the side.
        """
        return reach.radius(self._reads, self.size_multiple, 1)

    def _reads(self, span: reach.Span) -> reach.Span:
        span = self.final.reads(reach.through(self.reconstruct, span).wider(1))
        skipped = []
        for decoder in self.decoders:
            skipped.append(decoder.reads(span))                         # of this level's joined
            span = skipped[-1].shrunk(2)                                # through TokenUp
        span = self.latent.reads(span)
        for encoder, skip in zip(reversed(self.encoders), reversed(skipped), strict=True):
            span = Span(2 * span.first - 1, 2 * span.last + 1)          # 3x3 with stride 2
            span = encoder.reads(span.join(skip))
        return span.wider(1)                                            # extract


class TokenUp(nn.ConvTranspose2d):
    """A transposed 2x2 convolution on tokens, (B, H, W, C) to (B, 2H, 2W, C')."""

    def __init__(self, inputs: int, outputs: int):
        """Build with stride 2 and bias."""
        super().__init__(inputs, outputs, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge; the result is contiguous with the channels last."""
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()
