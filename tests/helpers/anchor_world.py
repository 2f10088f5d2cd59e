"""Anchors on three little images."""

import json

import yaml

from irbench.cli import main
from irbench.core import locks
from tests.helpers import tiny


def world(folder, known, **changes):
    """Anchors on three little images, one with a figure that is given; return the file."""
    tiny.make(folder)
    content = {
        "catalog_paths": [str(folder)], "models": {"input": None, "bicubic": None},
        "references": {
            "known": {"kind": "independent", "title": "computed for this test", "tolerance": {
                "psnr": {"within": 0.005, "reason": "the arithmetic"}}},
            "expected": {"kind": "expectation", "title": "closed form", "tolerance": {
                "psnr": {"errors": 3, "reason": "one draw"}}}},
        "rows": [{"protocols": ["sr-x2@2"], "datasets": ["tinyset"], "model": "bicubic",
                  "references": []},
                 {"protocols": ["denoise_color-sigma25@1"], "datasets": ["tinyset"],
                  "model": "input", "references": ["expected"]}],
        "figures": {"known": {"sr-x2@2/tinyset/bicubic": known}}, **changes}
    path = folder / "anchors.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def irbench(path, capsys, *arguments):
    code = main(["anchors", "--file", str(path), "--jobs", "1", *arguments])
    out = capsys.readouterr().out
    locks._claims.clear()  # as if the process had ended
    return code, out, json.loads(out.splitlines()[-1])
