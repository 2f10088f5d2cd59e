"""What the run's search for leaks found, and which cells it touches.

Reads ``leaks.json`` of the run folder (written by ``irbench data leak``); writes nothing. A figure
of a model that was trained on images of the test set is shown with a note, but competes with no
other; images that its training left out do not count. A search that was not made, or not of all
sets, is told: no finding is not "no leak".

Training sets are given as a mapping from their names to the images left out (file stems).

Try: ``irbench data leak``
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from irbench.core import digests, records
from irbench.core.errors import UserError

FILE = "leaks.json"
ADVICE = "run the workflow again"
# measured by benchmarks/leaks.py on CBSD68
LIMITS = ("Patches, and copies cropped by more than about 8 of 321 pixels on each side, may be "
          "missed.")


@dataclass(frozen=True)
class Leakage:
    """The result of the search. ``reason`` says why there is none; "" if there is one."""

    asked: bool = False             # whether any training set of the run is known
    reason: str = ""
    pairs: tuple[dict, ...] = ()
    compared: tuple[dict, ...] = ()
    not_compared: tuple[dict, ...] = field(default=())
    unknown: tuple[str, ...] = ()   # titles of models whose training data are not known
    # sets that only files of weights name and that were not here, so they were not compared
    absent: tuple[str, ...] = ()

    def between(self, train: str, test: str, without: Collection[str] = ()) -> list[dict]:
        """Return the pairs of images of a training and a test set that are the same."""
        return [p for p in self.pairs if (p["train"], p["test"]) == (train, test)
                and p["train_image"] not in without]

    def count(self, train: Mapping[str, Collection[str]], test: str) -> int | None:
        """Return how many images of a test set were trained on; None if that is unknown."""
        known = {(c["train"], c["test"]) for c in self.compared}
        if any((name, test) not in known for name in train):
            return None
        return len({p["test_image"] for name, without in train.items()
                    for p in self.between(name, test, without)})

    def note(self, train: Mapping[str, Collection[str]], test: str) -> str:
        """Return a footnote for a model trained on some sets and scored on a test set, or ""."""
        said = [self._said(self.between(name, test, without), name, test)
                for name, without in train.items() if self.between(name, test, without)]
        return ("trained on images of this test set: " + "; ".join(said) + "; not ranked"
                if said else "")

    def _said(self, pairs: list[dict], train: str, test: str, named: str = "") -> str:
        count = len({p["test_image"] for p in pairs})
        of = next((f" of {c['test_images']}" for c in self.compared
                   if (c["train"], c["test"]) == (train, test)), "")
        kinds = " or ".join(word for kind, word in (("identical", "identical"),
                                                    ("near", "nearly identical"))
                            if any(p["kind"] == kind for p in pairs))
        example = pairs[0]
        name = ("" if example["test_image"] == example["train_image"]
                else f" = {example['train_image']}")
        images = f"image{'s' * bool(of or count != 1)}"
        return (f"{count}{of} {images}{named} {'are' if count != 1 else 'is'} in {train} "
                f"({kinds}), e.g. {example['test_image']}{name}")

    def warnings(self, cells: Iterable[tuple[Mapping[str, Collection[str]], str]]) -> list[str]:
        """Return sentences for the head of a report.

        ``cells``: (training sets, test set) of every cell whose training sets are known.
        """
        if not self.asked:
            return []
        if self.reason:
            return ["Whether images of the training sets are in the test sets is unknown: "
                    f"{self.reason}."]
        used: dict[tuple[str, str], bool] = {}      # does any model know images of the test set?
        for sets, test in cells:
            for train, without in sets.items():
                used[train, test] = (used.get((train, test), False)
                                     or bool(self.between(train, test, without)))
        said = []
        for train, test in dict.fromkeys((p["train"], p["test"]) for p in self.pairs):
            hit = ("figures of models trained on it are marked and not ranked"
                   if used.get((train, test)) else
                   "the models trained on it left them out of their training"
                   if (train, test) in used else
                   "no model of this run is both trained on the one and scored on the other")
            said.append("Training and test sets share images: "
                        f"{self._said(self.between(train, test), train, test, f' of {test}')}; "
                        f"{hit}.")
        return said + self._gaps()

    def _gaps(self) -> list[str]:
        """Say which sets were not compared, and why."""
        said = []
        absent = [name for name in self.absent
                  if name in {c["train"] for c in self.not_compared}]
        if absent:      # no run fetches them, and one command does
            sets = "sets {} are" if len(absent) > 1 else "set {} is"
            said.append("Not searched for images of the test sets: the training "
                        f"{sets.format(', '.join(absent))} not here. Run irbench data fetch "
                        f"{' '.join(absent)}, then the workflow again.")
        others = [c for c in self.not_compared if c["train"] not in absent]
        for reason in dict.fromkeys(c["reason"] for c in others):
            sets = "; ".join(f"{c['train']} with {c['test']}" for c in others
                             if c["reason"] == reason)
            said.append("Not searched for images that training and test sets share: "
                        f"{sets}: {reason.rstrip('.')}.")
        return said

    def summary(self) -> str:
        """Return what was compared and what could not be, "" if nothing had to be."""
        unknown = (f"Training data of {', '.join(self.unknown)} unknown, not compared."
                   if self.unknown else "")
        if not self.compared:
            return unknown
        sets = [", ".join(dict.fromkeys(c[use] for c in self.compared)) for use in
                ("train", "test")]
        found = len({(p["test"], p["test_image"]) for p in self.pairs})
        return (f"Training sets ({sets[0]}) were compared with test sets ({sets[1]}) by perceptual "
                f"hash and correlation: {found or 'no'} test image{'s' * (found != 1)} "
                f"{'were' if found != 1 else 'was'} found in a training set. {LIMITS}"
                + (f" {unknown}" if unknown else ""))


def read(folder: Path, plan: dict, titles: dict[str, str]) -> Leakage:
    """Read what the search of a run found. A broken or outdated record is no result.

    ``titles``: of models, by name.
    """
    return replace(_read(folder, plan), unknown=tuple(dict.fromkeys(
        titles.get(model) or model
        for name, sets in (plan.get("trained_on") or {}).items() if sets is None
        for model in [name.partition("/")[2]])))


def _read(folder: Path, plan: dict) -> Leakage:
    if not plan.get("leaks"):
        return Leakage()
    if not (folder / FILE).exists():
        return Leakage(True, f"not searched; {ADVICE}")
    try:
        record = records.read(folder / FILE)
    except UserError as error:
        return Leakage(True, str(error).replace(f"{folder}/", "").rstrip("."))
    expected = (plan.get("fingerprints") or {}).get(FILE)
    if expected and digests.fingerprint(record["spec"]) != expected:
        return Leakage(True, f"{FILE} is of other sets or other code; {ADVICE}")
    if record["status"] != "ok":
        return Leakage(True, f"{record['status']}: {str(record['reason']).rstrip('.')}")
    return Leakage(True, "", *(tuple(record["result"].get(name) or ())
                               for name in ("pairs", "compared", "not_compared")),
                   absent=_absent(record["spec"]))


def _absent(spec: dict) -> tuple[str, ...]:
    """Return the training sets that were not here, of those that no run fetches, in order."""
    return tuple(dict.fromkeys(
        train["name"] for train, _ in spec.get("pairs") or ()
        if train.get("here", "complete") != "complete"))
