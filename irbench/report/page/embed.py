"""The content embedded in the page: pictures, downloads, scripts. The page needs no other file.

Each figure is embedded once, as lossless WebP in print quality. The page shows it and converts it
to PNG on request. Of restored images the page has the tiles of ``windows.py`` instead. Where the
run writes PDF and SVG, they are embedded too: small ones always, large ones as long as the total
stays below ``LIMIT``. Reads ``figures/`` and ``tables/`` of the run folder and ``assets/`` of the
package; writes nothing.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import io
import re
from collections.abc import Container, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from irbench.core.files import open_picture
from irbench.core.run_folder import RunFolder
from irbench.present import style

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("head.js", "sortable.min.js", "img-comparison-slider.js", "page.js")
LIMIT = 5_800_000               # bytes in total; large vector forms are embedded up to this
SMALL = 200_000                 # bytes; a smaller vector form is always embedded
THREADS = 2                     # that encode pictures; each holds the pixels of one
PACKED = 60_000                 # bytes; a larger table is packed
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
    """A figure: data URI ("" if the page shows it otherwise), size in pixels, vector forms.

    ``share``: share of the page width, so that the letters of all figures have the same size.
    ``left_out``: size in MB of a PDF that is too large for the page, 0 if there is none.
    """

    src: str = ""
    width: int = 0
    height: int = 0
    share: float = 1.0
    vectors: list[Download] = field(default_factory=list)
    left_out: float = 0.0


def uri(kind: str, content: bytes) -> str:
    """Return a data URI of a media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def pack(content: bytes) -> str:
    """Return bytes as gzip in base64, which the script of the page unpacks."""
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def webp(image: Image.Image) -> bytes:
    """Return an image as lossless WebP: the same pixels, a third smaller than PNG."""
    out = io.BytesIO()
    image.convert("RGB").save(out, "WEBP", lossless=True, quality=60, method=4)
    return out.getvalue()


def pictures(folder: Path, stems: Iterable[str], taken: int = 0,
             shown: Container[str] = ()) -> dict[str, EmbeddedPlot]:
    """Return the figures of a run by stem.

    Args:
        folder: the run folder, with ``figures/``.
        stems: stems of the figures to embed.
        taken: bytes of everything else in the page, for ``LIMIT``.
        shown: the stems that the page shows otherwise; only their vector forms are embedded.
    """
    found: dict[str, EmbeddedPlot] = {}
    large: list[tuple[int, str, bytes]] = []
    figures, stems = RunFolder(folder).figures, list(stems)
    with ThreadPoolExecutor(THREADS) as pool:   # the encoder needs no lock of Python's
        encoded = list(pool.map(_picture, (figures / f"{stem}.png" for stem in stems
                                           if stem not in shown)))
    waiting = iter(encoded)
    for stem in stems:
        found[stem] = EmbeddedPlot() if stem in shown else next(waiting)
        taken += len(found[stem].src)
        pdf, svg = (_bytes(figures / f"{stem}.{kind}") for kind in ("pdf", "svg"))
        packed = pack(svg) if svg else ""
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


def _picture(path: Path) -> EmbeddedPlot:
    with open_picture(path) as image:
        return EmbeddedPlot(uri("image/webp", webp(image)), *image.size,
                            min(image.width / (style.WIDTH * style.DPI), 1.0))


def _add_pdf(picture: EmbeddedPlot, stem: str, pdf: bytes) -> int:
    picture.vectors.append(Download(f"{stem}.pdf", "PDF", uri("application/pdf", pdf)))
    return len(picture.vectors[-1].href)


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _download(path: Path, label: str, kind: str) -> Download:
    """Return a text file as a link; a large one is packed, so the link needs scripts."""
    content = path.read_bytes()
    if len(content) > PACKED:
        return Download(path.name, label, packed=pack(content))
    return Download(path.name, label, uri(f"{kind};charset=utf-8", content))


def tables(folder: Path, stem: str) -> list[Download]:
    """Return the files of a table, as they were written under ``tables/``."""
    return [_download(path, label, kind) for suffix, (label, kind) in TABLES.items()
            if (path := RunFolder(folder).tables / f"{stem}.{suffix}").is_file()]


def summary(folder: Path) -> Download | None:
    """Return the run's ``summary.csv``, None if there is none."""
    path = RunFolder(folder).summary
    return _download(path, path.name, "text/csv") if path.is_file() else None


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
