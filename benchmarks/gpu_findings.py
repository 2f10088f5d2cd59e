"""What a stage of ``gpu.py`` has found: written to ``out``/STAGE.json anew after each finding."""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from irbench.core.errors import Unavailable, UserError
from irbench.core.files import write_json
from irbench.jobs.profiling import profile
from irbench.jobs.result import RunSettings


class Findings:
    """What a stage has found: ``problems`` make it fail, ``short`` is its line in the table."""

    def __init__(self, stage: str, settings: dict) -> None:
        self.settings = settings
        self.path = Path(settings["out"]) / f"{stage}.json"
        self.all: dict = {"status": "running", "problems": [], "notes": []}
        self.lost: list[str] = []   # why parts were left out
        self.rows = 0
        self.tiny, self.threads = settings["tiny"], settings["threads"]

    def put(self, **values: object) -> None:
        """Add values and write the file."""
        self.all |= values
        write_json(self.path, without_nan(self.all))

    def row(self, table: str, **values: object) -> None:
        """Add a row to a table, write the file, and print the row."""
        print(f"{table}: " + ", ".join(f"{name} {value}" for name, value in values.items()
                                       if not isinstance(value, list | dict)), flush=True)
        self.all.setdefault(table, []).append(values)
        self.rows += 1
        self.put()

    def problem(self, text: str) -> None:
        """Add a problem; the stage goes on, but fails in the end."""
        print(f"problem: {text}", flush=True)
        self.all["problems"].append(text)
        self.put()

    def note(self, text: str) -> None:
        """Add what was left out, and why; the stage does not fail."""
        print(f"note: {text}", flush=True)
        self.all["notes"].append(text)
        self.put()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Let an error in one part of a stage cost only this part."""
        try:
            yield
        except Unavailable as error:
            self.lost.append(f"{name}: {error}")
            self.note(self.lost[-1])
        except Exception as error:
            if not isinstance(error, UserError):
                traceback.print_exc()
            self.problem(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")

    def device(self) -> str:
        """Return cpu or cuda, and note it."""
        device, reason = profile.pick_device(self.settings["device"])
        if "device" not in self.all:
            self.put(device=device, device_name=profile.device_name(device), device_reason=reason)
        return device

    def run_settings(self, **more: object) -> RunSettings:
        return RunSettings(device=self.device(), threads=self.threads, **more)


def without_nan(value: object) -> object:
    """Return plain data in which a number that JSON lacks is a text: ``nan``, ``inf``."""
    if isinstance(value, dict):
        return {str(key): without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
