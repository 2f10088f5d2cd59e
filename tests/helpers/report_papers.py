"""A run in the papers' forms: scales, sets of JPEG, colour beside gray, small models and others."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.report_fixtures import Builder

SETS = {"set5": ("Set5", 5), "cbsd68": ("CBSD68", 8), "urban100": ("Urban100", 8),
        "set12": ("Set12", 8), "live1_color": ("LIVE1", 8), "bsds500_test": ("BSDS500 (test)", 8)}
METHODS = ["SwinIR", "ESRT", "Compacter", "bicubic", "DnCNN", "DRUNet", "FBCNN", "input"]
WAVE = (0.4, -0.1, 0.3, -0.2, 0.1, -0.4, 0.2, -0.3)    # dB: images of a set differ


def papers_run(folder: Path) -> Builder:
    """Five tasks' cells; ``tie`` wins on some images and loses on others, ``best`` on all."""
    build = Builder(folder, "papers", published=METHODS)
    build.plan["differences"] = True
    for name, (title, count) in SETS.items():
        build.dataset(name, title, count)
    build.model("bicubic", "Bicubic", learned=False, published_as="bicubic")
    build.model("input", "Input", learned=False, published_as="input")
    trained = {"checkpoint": {"kind": "file"}}
    build.model("best", "SwinIR", published_as="SwinIR", **trained)
    build.model("tie", "Compacter", published_as="Compacter", **trained)
    build.model("gray", "DnCNN", published_as="DnCNN", **trained)

    def cell(name: str, dataset: str, model: str, psnr: float, wave: float = 1.0) -> None:
        count = SETS[dataset][1]
        build.cell(name, dataset, model, {
            "psnr": [psnr + wave * WAVE[i] for i in range(count)],
            "ssim": [round(psnr / 40 + i * 0.001, 6) for i in range(count)]})

    for level, low in (("x2", 33.6), ("x4", 28.4)):
        for dataset in ("set5", "urban100") if level == "x2" else ("set5",):
            cell(f"sr-{level}@1", dataset, "bicubic", low)
            cell(f"sr-{level}@1", dataset, "best", low + 3.0)
            cell(f"sr-{level}@1", dataset, "tie", low + 2.9, -1.0)
        build.profile(f"sr-{level}@1", "best", {"parameters": 11_750_000})
        build.profile(f"sr-{level}@1", "tie", {"parameters": 392_200})
    for sigma, low in ((15, 24.6), (50, 14.2)):
        for model, more in (("input", 0.0), ("best", 9.4), ("tie", 9.3)):
            for dataset in ("cbsd68", "urban100"):
                cell(f"denoise_color-sigma{sigma}@1", dataset, model, low + more,
                     -1.0 if model == "tie" else 1.0)
        for dataset in ("set12", "urban100"):
            cell(f"denoise_gray-sigma{sigma}@2", dataset, "gray", low + 8.2)
    for q, low in ((10, 25.7), (40, 30.3)):
        for dataset in ("live1_color", "bsds500_test"):
            cell(f"jpeg_color-q{q}@1", dataset, "input", low)
            cell(f"jpeg_color-q{q}@1", dataset, "best", low + 2.1)
    build.cell("jpeg_color-q40@1", "live1_color", "tie", status="unavailable",
               reason="weights: no such file")
    return build
