"""Draw ``docs/restored.png``: one window of a photograph, enlarged by bicubic and by Compacter.

Reads   the photograph astronaut of scikit-image and the bundled weights.
Writes  the picture; its scores are of the whole photograph under ``sr-x2``.

Try: ``python docs/restored.py docs/restored.png``
"""

import sys

import numpy as np
import skimage
from matplotlib.figure import Figure

import irbench
from irbench.catalog import protocols
from irbench.imaging import degrade, images

PROTOCOL = "sr-x2"
TOP, LEFT, SIDE = 335, 230, 96      # the window: pixels of the target
WIDTH, HEIGHT, DPI = 8.3, 2.45, 200     # inches; 8.3 inches are 830 points, GitHub's width


def draw(target: np.ndarray) -> Figure:
    """Return the figure of a photograph: uint8 (H, W, 3) in RGB, H and W even."""
    low = images.to_uint8(degrade.degrade(target, protocols.get(PROTOCOL)))
    shown = [("Input, half the size", np.repeat(np.repeat(low, 2, 0), 2, 1), False)]
    shown += [(title, irbench.restore(low, irbench.load_model(name, PROTOCOL, device="cpu")), True)
              for name, title in (("bicubic", "Bicubic"), ("compacter", "Compacter"))]
    shown += [("Target", target, False)]
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, facecolor="white")
    for place, (title, picture, scored) in enumerate(shown):
        axes = figure.add_axes((place / 4 + 0.004, 0.17, 0.242, 0.7))
        axes.imshow(picture[TOP:TOP + SIDE, LEFT:LEFT + SIDE], interpolation="nearest",
                    aspect="auto")
        axes.set_axis_off()
        axes.set_title(title, fontsize=13, pad=5)
        if scored:
            psnr = irbench.psnr(picture, target, PROTOCOL)
            ssim = irbench.ssim(picture, target, PROTOCOL)
            axes.text(0.5, -0.06, f"{psnr:.2f} dB, SSIM {ssim:.4f}", ha="center", va="top",
                      fontsize=12, transform=axes.transAxes)
    return figure


if __name__ == "__main__":
    draw(skimage.data.astronaut()).savefig(sys.argv[1])
