"""Synthetic degradations of clean photographs: blur, rain, low light, snow and drops.

They replace the paired sets in training and in runs without a download. All are simple models of
our own, which no published figure uses. Their protocols have ``synthetic`` in the id, so that no
table mixes them with the real sets.

Reads and writes arrays only: uint8 (H, W, C) of at least 16x16 pixels to uint8 of the same size,
rounded like a camera's file. Random numbers come from the given generator, so the same seed gives
the same image. Lengths are in pixels of the image. ``irbench.catalog.protocols`` checks the
parameters and their ranges.

Try: ``python -c "import numpy as np; from irbench.imaging import synthetic;
print(synthetic.apply('snow',
np.zeros((64, 64, 3), np.uint8), np.random.RandomState(0), {'density': 1, 'size': 9, 'motion': 6,
'opacity': 0.9, 'haze': 0.15}).max())"``
"""

from __future__ import annotations

import numpy as np

AIRLIGHT = 0.85  # brightness of the haze between falling snow, 1 = white


def apply(kind: str, image: np.ndarray, rng: np.random.RandomState,
          parameters: dict) -> np.ndarray:
    """Degrade an image.

    Args:
        kind: one of ``degradations.SYNTHETIC``.
        image: uint8 (H, W, C).
        rng: the source of randomness; the degradation is a function of its state.
        parameters: the parameters of the kind; see the function of the same name.

    Returns:
        uint8 (H, W, C).
    """
    of_kind = {"motion_blur": motion_blur, "rain_streaks": rain_streaks, "low_light": low_light,
               "snow": snow, "drops": drops}[kind]
    degraded = of_kind(image / 255.0, rng, **parameters)
    return np.round(np.clip(degraded, 0, 1) * 255).astype(np.uint8)


# -- the camera moves ----------------------------------------------------------------------------

def motion_blur(image: np.ndarray, rng: np.random.RandomState, length: float, bend: float,
                gamma: float) -> np.ndarray:
    """Blur by camera shake during the exposure, along the same path for all pixels.

    The camera moves at a smoothly changing speed along a path whose direction is a random walk. The
    image is made linear first, because light adds up and stored values do not. Beyond the border
    the image is mirrored. Random trajectories were proposed by Boracchi and Foi (IEEE TIP 2012) and
    used in DeblurGAN (CVPR 2018); the walk here is our own and simpler.

    Args:
        image: float64 (H, W, C) in [0, 1].
        rng: the source of randomness.
        length: the longest path in pixels; each image's is drawn from half of it to all of it.
        bend: how much the path turns: 0 is a straight line; with 1 the standard deviation of the
            turn over the exposure is half a turn.
        gamma: light = value ** gamma; 1 blurs the stored values.
    """
    psf = trajectory_psf(rng, length, bend)
    return np.clip(convolve(image**gamma, psf), 0, 1) ** (1 / gamma)


def trajectory_psf(rng: np.random.RandomState, length: float, bend: float) -> np.ndarray:
    """Draw a camera path and return its point spread function: (S, S), S odd, summing to 1."""
    steps = 400
    length = length * rng.uniform(0.5, 1)
    # a walk whose deviation at the end of the exposure is bend * pi
    turn = np.cumsum(rng.normal(0, bend * np.pi / np.sqrt(steps), steps))
    direction = rng.uniform(0, 2 * np.pi) + turn
    phase, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.8)
    speed = 1 + depth * np.sin(np.linspace(0, 2 * np.pi, steps) + phase)
    step = speed * length / speed.sum()
    path = np.cumsum(np.stack([np.sin(direction), np.cos(direction)]) * step, axis=1)
    # centred, so that the blurred image is not shifted relative to its target
    return splat(path - path.mean(axis=1, keepdims=True))


def splat(path: np.ndarray) -> np.ndarray:
    """Distribute each point over its four nearest pixels: (2, N) to (S, S), S odd, summing to 1."""
    radius = int(np.ceil(np.abs(path).max())) + 1
    psf = np.zeros((2 * radius + 1, 2 * radius + 1))
    corner = np.floor(path).astype(int)
    part = path - corner
    for down in (0, 1):
        for right in (0, 1):
            weight = np.abs(1 - down - part[0]) * np.abs(1 - right - part[1])
            np.add.at(psf, (corner[0] + down + radius, corner[1] + right + radius), weight)
    return psf / psf.sum()


# -- rain ------------------------------------------------------------------------------------------

def rain_streaks(image: np.ndarray, rng: np.random.RandomState, density: float, length: float,
                 angle: float, opacity: float, layers: int) -> np.ndarray:
    """Lay bright streaks of falling rain over an image, in layers of different distance.

    The streaks of layer i are shorter, thinner and fainter than the first layer's by 2^-i/2, and
    more numerous by the inverse. The streaks of a layer are parallel, and those of all layers
    nearly so. Layers are blended as screens, 1 - (1 - image)(1 - rain), on the stored values. This
    is the model of Rain100H and its relatives (Yang et al., CVPR 2017), with our own streaks.

    Args:
        image: float64 (H, W, C) in [0, 1].
        rng: the source of randomness.
        density: streaks of the nearest layer per 1000 pixels.
        length: of the nearest streaks, in pixels; each is drawn from half of it to all of it.
        angle: the largest slant from the vertical, in degrees; each image's is drawn within +-.
        opacity: brightness of the nearest streaks, 0 (invisible) to 1 (white).
        layers: the number of distances.
    """
    slant = rng.uniform(-angle, angle)
    clear = np.ones(image.shape[:2])
    for layer in range(layers):
        near = 2 ** (-layer / 2)
        tilt = np.deg2rad(slant + rng.normal(0, 2))
        light = np.zeros(image.shape[:2])
        # two lengths per layer, because streaks of one length look like a texture
        for share in (rng.uniform(0.5, 0.75), rng.uniform(0.75, 1)):
            points = scatter(image.shape[:2], density / near / 2, rng)
            light += convolve(points[..., None],
                              streak(length * near * share, tilt, 0.8 * near))[..., 0]
        clear *= 1 - opacity * near * np.clip(light, 0, 1)
    return 1 - (1 - image) * clear[..., None]


def streak(length: float, tilt: float, width: float) -> np.ndarray:
    """Return a soft line through the middle, peak 1: (S, S), S odd.

    Args:
        length: in pixels.
        tilt: from the vertical, in radians.
        width: standard deviation across, in pixels.
    """
    radius = int(np.ceil(length / 2 + 3 * width))
    y, x = np.mgrid[-radius:radius + 1, -radius:radius + 1]
    along = y * np.cos(tilt) + x * np.sin(tilt)
    across = x * np.cos(tilt) - y * np.sin(tilt)
    beyond = np.maximum(np.abs(along) - length / 2, 0)
    return np.exp(-(across**2 + beyond**2) / (2 * max(width, 0.4) ** 2))


# -- darkness --------------------------------------------------------------------------------------

def low_light(image: np.ndarray, rng: np.random.RandomState, exposure: float, gamma: float,
              photons: float, read_noise: float) -> np.ndarray:
    """Underexpose: less light, its shot noise, and the noise of the sensor's electronics.

    light = exposure * image^gamma; electrons = Poisson(photons * light) + Normal(0, read_noise);
    the file holds (electrons / photons)^(1/gamma). This is the Poisson-Gaussian model of raw data
    (Foi et al., IEEE TIP 2008), without the mosaic, colour balance and tone curve of a camera.

    Args:
        image: float64 (H, W, C) in [0, 1].
        rng: the source of randomness.
        exposure: the share of the light that reaches the sensor, 1 = as in the clean image.
        gamma: light = value ** gamma.
        photons: electrons of a white pixel at exposure 1; fewer is noisier.
        read_noise: standard deviation in electrons.
    """
    electrons = rng.poisson(photons * exposure * image**gamma) + rng.normal(
        0, read_noise, image.shape)
    return np.clip(electrons / photons, 0, 1) ** (1 / gamma)


# -- snow ------------------------------------------------------------------------------------------

def snow(image: np.ndarray, rng: np.random.RandomState, density: float, size: float,
         motion: float, opacity: float, haze: float) -> np.ndarray:
    """Cover an image with falling flakes of three sizes, and with the haze between them.

    First the haze: (1 - haze) image + haze * 0.85. Then white flakes, whose coverage is a soft disc
    smeared along the fall: (1 - coverage) image + coverage. Both work on the stored values, as in
    Snow100K (Liu et al., IEEE TIP 2018), whose flakes were drawn by hand.

    Args:
        image: float64 (H, W, C) in [0, 1].
        rng: the source of randomness.
        density: flakes of the largest size per 1000 pixels; each smaller size has twice as many.
        size: diameter of the largest flakes, in pixels; the others have half and a quarter.
        motion: how far the largest flakes fall during the exposure, in pixels.
        opacity: the greatest coverage of a flake, 0 to 1.
        haze: the share of airlight, 0 (none) to 0.9.
    """
    tilt = np.deg2rad(rng.uniform(-45, 45))
    clear = np.ones(image.shape[:2])
    for level in range(3):
        near = 2.0**-level
        points = scatter(image.shape[:2], density / near, rng)
        flake = streak(motion * near, tilt + rng.normal(0, 0.1), size * near / 2.5)
        coverage = convolve(points[..., None], flake)[..., 0]
        clear *= 1 - opacity * np.clip(coverage, 0, 1)
    return 1 - (1 - (1 - haze) * image - haze * AIRLIGHT) * clear[..., None]


# -- drops on the lens -----------------------------------------------------------------------------

def drops(image: np.ndarray, rng: np.random.RandomState, count: float, radius: float,
          magnification: float, blur: float, opacity: float) -> np.ndarray:
    """Put drops of water on the pane in front of the lens.

    A drop is a small lens of short focal length: it shows a wide part of the scene, upside down and
    out of focus. The camera is focused on the scene, so the drop's own edge is soft. The pixel at
    offset d from a drop's centre shows the blurred scene at offset -magnification * d. The model is
    our own; RainDrop (Qian et al., CVPR 2018) has real pairs of this kind.

    Args:
        image: float64 (H, W, C) in [0, 1].
        rng: the source of randomness.
        count: drops per million pixels; a fraction is rounded up or down at random, to at least
            one drop unless count is 0.
        radius: of the largest drops, in pixels; each is drawn from a quarter of it to all of it.
        magnification: the size of the part of the scene that a drop shows, over the drop's size.
        blur: standard deviation of the defocus inside the drops, in pixels.
        opacity: the share of the drop's light at its middle, 0 to 1.
    """
    h, w = image.shape[:2]
    number = int(np.floor(count * h * w / 1e6 + rng.uniform()))
    # the part that a drop shrinks must be blurred by the same factor, or it would alias
    scene = convolve(image, gaussian(float(np.hypot(blur, magnification / 2))))
    out = image.copy()
    for _ in range(max(number, int(count > 0))):
        middle = rng.uniform(0, 1, 2) * (h, w)
        top, left = (max(int(c - 2 * radius), 0) for c in middle)
        bottom, right = (int(c + 2 * radius) + 1 for c in middle)
        bottom, right = min(bottom, h), min(right, w)
        y, x = np.mgrid[top:bottom, left:right]
        down, across = y - middle[0], x - middle[1]
        share = opacity * _drop_mask(down, across, radius * rng.uniform(0.25, 1), rng)[..., None]
        seen = scene[_mirror(middle[0] - magnification * down, h),
                     _mirror(middle[1] - magnification * across, w)]
        out[top:bottom, left:right] += share * (seen - out[top:bottom, left:right])
    return out


def _drop_mask(down: np.ndarray, across: np.ndarray, radius: float,
               rng: np.random.RandomState) -> np.ndarray:
    """Return the coverage (0 to 1) of a drop of irregular outline at offsets from its middle."""
    angle, distance = np.arctan2(down, across), np.hypot(down, across)
    outline = np.ones(distance.shape)
    for order in (1, 2, 3):
        outline += rng.uniform(0, 0.2 / order) * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    # the edge falls off over a third of the radius, at least over two pixels
    return np.clip((radius * outline - distance) / max(radius / 3, 2) + 0.5, 0, 1)


# -- shared --------------------------------------------------------------------------------------

def scatter(size: tuple[int, int], density: float, rng: np.random.RandomState) -> np.ndarray:
    """Scatter points of weight 0.5 to 1 over a plane: float64 (H, W), density per 1000 pixels."""
    points = np.zeros(size)
    number = rng.poisson(density * size[0] * size[1] / 1000)
    place = tuple(rng.randint(0, side, number) for side in size)
    np.add.at(points, place, rng.uniform(0.5, 1, number))
    return points


def gaussian(sigma: float) -> np.ndarray:
    """Return a Gaussian of a standard deviation in pixels: (S, S), S odd, summing to 1."""
    radius = max(1, int(np.ceil(3 * sigma)))
    line = np.exp(-np.arange(-radius, radius + 1) ** 2 / (2 * max(sigma, 1e-3) ** 2))
    return np.outer(line, line) / line.sum() ** 2


def convolve(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve each channel; beyond the border the image is mirrored without repeating the edge.

    Uses the Fourier transform, so that the time hardly depends on the kernel's size.

    Args:
        image: float64 (H, W, C).
        kernel: (S, S), S odd; its sum may differ from 1.

    Returns:
        float64 (H, W, C).
    """
    h, w = image.shape[:2]
    radius = kernel.shape[0] // 2
    rows, columns = (_mirror(np.arange(-radius, side + radius), side) for side in (h, w))
    padded = image[rows[:, None], columns]
    # sizes are rounded up, with zero padding, to sizes that transform fast
    size = [_fast(n) for n in padded.shape[:2]]
    spectrum = np.fft.rfft2(kernel, size)
    full = np.fft.irfft2(np.fft.rfft2(padded, size, axes=(0, 1)) * spectrum[..., None], size,
                         axes=(0, 1))
    return full[2 * radius:2 * radius + h, 2 * radius:2 * radius + w]


def _fast(length: int) -> int:
    """Return the smallest number >= ``length`` whose only prime factors are 2, 3 and 5."""
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1


def _mirror(index: np.ndarray, length: int) -> np.ndarray:
    """Fold positions into 0 .. length - 1, mirrored at both ends without repeating the edge."""
    if length == 1:
        return np.zeros(np.shape(index), int)
    period = 2 * (length - 1)
    folded = np.round(index).astype(int) % period
    return np.minimum(folded, period - folded)
