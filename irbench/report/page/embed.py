"""The content embedded in the page: pictures, downloads, scripts. The page needs no other file.

Each figure is embedded once, as lossless WebP. The page shows it and converts it to PNG on request.
It has print quality; only figures made of photographs are reduced to ``REDUCED`` pixels if they
need more than ``ROOM``. Vector forms are embedded too: always SVG and PDF of drawings, and the PDF
of photographs as long as the total stays below ``LIMIT``. Reads ``figures/`` and ``tables/`` of the
run folder and ``assets/`` of the package; writes nothing.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from irbench.core.run_folder import RunFolder
from irbench.present import style

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("head.js", "sortable.min.js", "img-comparison-slider.js", "page.js")
LIMIT = 10_500_000              # bytes in total; large vector forms are embedded up to this
PHOTOGRAPH = 400_000            # bytes of a PNG; a larger file is made of photographs
ROOM = 9_000_000                # bytes in the page for all figures made of photographs
REDUCED = 1000                  # pixels: their width, about a screen's, if they need more
SMALL = 200_000                 # bytes; a smaller vector form is always embedded
TABLES = {"csv": ("CSV", "text/csv"), "md": ("Markdown", "text/markdown"),
          "tex": ("LaTeX", "application/x-tex")}


@dataclass(frozen=True)
class Download:
    """A link to bytes in the page. ``packed``: gzip as base64, unpacked by the page script."""

    name: str                   # of the file
    label: str
    href: str = ""              # a data URI
    packed: str = ""


@dataclass
class EmbeddedPlot:
    """A figure: data URI, size in pixels, vector forms.

    ``share``: share of the page width, so that the letters of all figures have the same size.
    ``left_out``: size in MB of a PDF that is too large for the page, 0 if there is none.
    ``full``: width in print quality, if the embedded picture is smaller.
    """

    src: str
    width: int
    height: int
    share: float
    vectors: list[Download] = field(default_factory=list)
    left_out: float = 0.0
    full: int = 0


def uri(kind: str, content: bytes) -> str:
    """Return a data URI of a media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def webp(image: Image.Image) -> bytes:
    """Return an image as lossless WebP: the same pixels, a third smaller than PNG."""
    out = io.BytesIO()
    image.convert("RGB").save(out, "WEBP", lossless=True, quality=60, method=4)
    return out.getvalue()


def pictures(folder: Path, stems: Iterable[str], taken: int = 0) -> dict[str, EmbeddedPlot]:
    """Return the figures of a run by stem.

    Args:
        folder: the run folder, with ``figures/``.
        stems: stems of the figures to embed.
        taken: bytes of everything else in the page, for ``LIMIT``.
    """
    found: dict[str, EmbeddedPlot] = {}
    large: list[tuple[int, str, bytes]] = []
    figures = RunFolder(folder).figures
    files = {stem: figures / f"{stem}.png" for stem in stems}
    widest = width([path.stat().st_size for path in files.values()])
    for stem, path in files.items():
        found[stem] = _picture(path, widest)
        taken += len(found[stem].src)
        pdf, svg = (_bytes(figures / f"{stem}.{kind}") for kind in ("pdf", "svg"))
        packed = base64.b64encode(gzip.compress(svg, mtime=0)).decode() if svg else ""
        if packed and len(packed) <= SMALL:
            found[stem].vectors.append(Download(f"{stem}.svg", "SVG", packed=packed))
            taken += len(packed)
        if pdf and len(pdf) <= SMALL:
            taken += _add_pdf(found[stem], stem, pdf)
        elif pdf:
            large.append((len(pdf), stem, pdf))
    for size, stem, pdf in sorted(large):
        if taken + size * 4 // 3 <= LIMIT:
            taken += _add_pdf(found[stem], stem, pdf)
        else:
            found[stem].left_out = size / 1e6
    return found


def width(sizes: Iterable[int]) -> int | None:
    """Return the reduced width in pixels for figures of photographs, None if they all fit.

    Args:
        sizes: bytes of the PNG files, which are at most ``style.WIDTH`` wide.
    """
    # a PNG of N bytes takes about 0.65 N as WebP, and 4/3 of that as text
    needed = 0.65 * 4 / 3 * sum(size for size in sizes if size > PHOTOGRAPH)
    return REDUCED if needed > ROOM else None


def _picture(path: Path, widest: int | None) -> EmbeddedPlot:
    with Image.open(path) as image:
        full = image.width
        share = min(full / (style.WIDTH * style.DPI), 1.0)
        if widest and full > widest and path.stat().st_size > PHOTOGRAPH:
            image = image.convert("RGB").resize((widest, round(image.height * widest / full)),
                                                Image.Resampling.LANCZOS)
        return EmbeddedPlot(uri("image/webp", webp(image)), *image.size, share,
                       full=full if image.width < full else 0)


def _add_pdf(picture: EmbeddedPlot, stem: str, pdf: bytes) -> int:
    picture.vectors.append(Download(f"{stem}.pdf", "PDF", uri("application/pdf", pdf)))
    return len(picture.vectors[-1].href)


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def tables(folder: Path, stem: str) -> list[Download]:
    """Return the files of a table, as they were written under ``tables/``."""
    return [Download(f"{stem}.{suffix}", label, uri(f"{kind};charset=utf-8", path.read_bytes()))
            for suffix, (label, kind) in TABLES.items()
            if (path := RunFolder(folder).tables / f"{stem}.{suffix}").is_file()]


def summary(folder: Path) -> Download | None:
    """Return the run's ``summary.csv``, None if there is none."""
    path = RunFolder(folder).summary
    return Download(path.name, path.name, uri("text/csv;charset=utf-8", path.read_bytes())) \
        if path.is_file() else None


# -- scripts -------------------------------------------------------------------------------------

@functools.cache
def scripts() -> tuple[str, ...]:
    """Return the scripts of the page: our head script, two vendored libraries, our page script."""
    # a reference to a source map would make the browser request it
    return tuple(re.sub(r"^//# sourceMappingURL=.*\n?", "", (ASSETS / name).read_text("utf-8"),
                        flags=re.M) for name in SCRIPTS)


def policy(texts: Iterable[str]) -> str:
    """Return the content security policy of the page: no requests, and only these scripts.

    Args:
        texts: the scripts, exactly as between their tags.
    """
    known = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'"
                     for one in texts)
    return (f"default-src 'none'; script-src {known}; style-src 'unsafe-inline'; img-src data:; "
            "base-uri 'none'; form-action 'none'")
