"""What the run's search for leaks found, and which cells it touches.

Reads ``leaks.json`` of the run folder (written by ``irbench data leak``); writes nothing. If a
model was trained on images of the test set, its value is shown with a note and is not ranked.
Images that its training left out do not count. The report states which sets were not searched,
because "no leak found" does not mean "no leak" there.

Training sets are given as a mapping from their names to the images left out (file stems).

Try: ``irbench data leak``
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from irbench.core import digests, run_folder
from irbench.core.run_folder import RunFolder

FILE = run_folder.place("leaks", {})
ADVICE = "run the workflow again"
# measured by benchmarks/leaks.py on CBSD68
LIMITS = ("Patches, and copies cropped by more than about 8 of 321 pixels on each side, may be "
          "missed.")


@dataclass(frozen=True)
class Leakage:
    """The result of the search. ``reason`` is why there is no result; "" if there is one."""

    asked: bool = False             # whether any training set of the run is known
    reason: str = ""
    pairs: tuple[dict, ...] = ()
    compared: tuple[dict, ...] = ()
    not_compared: tuple[dict, ...] = field(default=())
    unknown: tuple[str, ...] = ()   # titles of models whose training data are not known
    # sets that only weights files or the config name and that are not here: they were not compared
    absent: tuple[str, ...] = ()
    users: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of a set: titles of models

    def between(self, train: str, test: str, without: Collection[str] = ()) -> list[dict]:
        """Return the pairs of images of a training and a test set that are the same."""
        return [p for p in self.pairs if (p["train"], p["test"]) == (train, test)
                and p["train_image"] not in without]

    def count(self, train: Mapping[str, Collection[str]], test: str) -> int | None:
        """Return how many images of a test set were used in training; None if unknown."""
        known = {(c["train"], c["test"]) for c in self.compared}
        if any((name, test) not in known for name in train):
            return None
        return len({p["test_image"] for name, without in train.items()
                    for p in self.between(name, test, without)})

    def note(self, train: Mapping[str, Collection[str]], test: str) -> str:
        """Return the footnote for a model trained on ``train`` and scored on ``test``, or ""."""
        sentences = [self._shared_images(self.between(name, test, without), name, test)
                for name, without in train.items() if self.between(name, test, without)]
        return ("trained on images of this test set: " + "; ".join(sentences) + "; not ranked"
                if sentences else "")

    def _shared_images(self, pairs: list[dict], train: str, test: str, named: str = "") -> str:
        count = len({p["test_image"] for p in pairs})
        total = next((f" of {c['test_images']}" for c in self.compared
                   if (c["train"], c["test"]) == (train, test)), "")
        kinds = " or ".join(word for kind, word in (("identical", "identical"),
                                                    ("near", "nearly identical"))
                            if any(p["kind"] == kind for p in pairs))
        example = pairs[0]
        name = ("" if example["test_image"] == example["train_image"]
                else f" = {example['train_image']}")
        images = f"image{'s' * bool(total or count != 1)}"
        return (f"{count}{total} {images}{named} {'are' if count != 1 else 'is'} in {train} "
                f"({kinds}), e.g. {example['test_image']}{name}")

    def warnings(self, cells: Iterable[tuple[Mapping[str, Collection[str]], str]]) -> list[str]:
        """Return warnings for the top of a report.

        ``cells``: (training sets, test set) of every cell whose training sets are known.
        """
        if not self.asked:
            return []
        if self.reason:
            return ["It is unknown whether the test sets contain images of the training sets: "
                    f"{self.reason}."]
        used: dict[tuple[str, str], bool] = {}      # was any model trained on test images?
        for sets, test in cells:
            for train, without in sets.items():
                used[train, test] = (used.get((train, test), False)
                                     or bool(self.between(train, test, without)))
        sentences = []
        for train, test in dict.fromkeys((p["train"], p["test"]) for p in self.pairs):
            hit = ("values of models trained on it are marked and not ranked"
                   if used.get((train, test)) else
                   "the models trained on it left them out of their training"
                   if (train, test) in used else
                   "no model of this run is both trained on the first and scored on the second")
            images = self._shared_images(self.between(train, test), train, test, f" of {test}")
            sentences.append(f"Training and test sets share images: {images}; {hit}.")
        return sentences + self._gaps()

    def _gaps(self) -> list[str]:
        """Return a sentence for each group of sets that were not compared, with the reason."""
        sentences = []
        absent = [name for name in self.absent
                  if name in {c["train"] for c in self.not_compared}]
        if absent:      # no run fetches them; one command does
            sets = "sets {} are" if len(absent) > 1 else "set {} is"
            models = ", ".join(dict.fromkeys(
                title for name in absent for title in self.users.get(name, ())))
            sentences.append("Leak check skipped" + f" for {models}" * bool(models)
                             + f": the training {sets.format(', '.join(absent))} "
                             "not downloaded. Run irbench data "
                             f"fetch {' '.join(absent)}, then run the workflow again.")
        others = [c for c in self.not_compared if c["train"] not in absent]
        for reason in dict.fromkeys(c["reason"] for c in others):
            sets = "; ".join(f"{c['train']} with {c['test']}" for c in others
                             if c["reason"] == reason)
            sentences.append("Leak check not done for these training and test sets: "
                             f"{sets}: {reason.rstrip('.')}.")
        return sentences

    def summary(self) -> str:
        """Return which sets were compared and which could not be; "" if there were none."""
        unknown = (f"The training data of {', '.join(self.unknown)} are unknown and not compared. "
                   "If you know the sets, name them in the config (trained_on)."
                   if self.unknown else "")
        if not self.compared:
            return unknown
        train, test = (dict.fromkeys(c[use] for c in self.compared) for use in ("train", "test"))
        sets = [", ".join(name + (f" for {', '.join(self.users[name])}" if name in self.users else
                                  "") for name in train), ", ".join(test)]
        found = len({(p["test"], p["test_image"]) for p in self.pairs})
        return (f"Training sets ({sets[0]}) were compared with test sets ({sets[1]}) by perceptual "
                f"hash and correlation: {found or 'no'} test image{'s' * (found != 1)} "
                f"{'were' if found != 1 else 'was'} found in a training set. {LIMITS}"
                + (f" {unknown}" if unknown else ""))


def read(folder: Path, plan: dict, titles: dict[str, str]) -> Leakage:
    """Read the result of the search. A broken or outdated record does not count as a result.

    ``titles``: of models, by name.
    """
    return replace(_read(folder, plan), unknown=tuple(dict.fromkeys(
        titles.get(model) or model
        for name, sets in (plan.get("trained_on") or {}).items() if sets is None
        for model in [name.partition("/")[2]])), users=_users(plan, titles))


def _users(plan: dict, titles: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """Return the titles of the models trained on each set; a variant stands for no other."""
    variants = {name for name, spec in (plan.get("models") or {}).items() if spec.get("base")}
    found: dict[str, dict[str, None]] = {}
    for name, sets in (plan.get("trained_on") or {}).items():
        model = name.partition("/")[2]
        for one in sets or () if model not in variants else ():
            found.setdefault(one, {})[titles.get(model) or model] = None
    return {name: tuple(models) for name, models in found.items()}


def _read(folder: Path, plan: dict) -> Leakage:
    if not plan.get("leaks"):
        return Leakage()
    stored = RunFolder(folder).load("leaks", {})
    if stored.missing:
        return Leakage(True, f"the search was not run; {ADVICE}")
    record = stored.record
    if record is None:
        return Leakage(True, stored.problem.rstrip("."))
    expected = (plan.get("fingerprints") or {}).get(FILE)
    if expected and digests.fingerprint(record["spec"]) != expected:
        return Leakage(True, f"{FILE} was made from other sets or other code; {ADVICE}")
    if record["status"] != "ok":
        return Leakage(True, f"{record['status']}: {str(record['reason']).rstrip('.')}")
    return Leakage(True, "", *(tuple(record["result"].get(name) or ())
                               for name in ("pairs", "compared", "not_compared")),
                   absent=_absent(record["spec"]))


def _absent(spec: dict) -> tuple[str, ...]:
    """Return the training sets that are not downloaded and that no run fetches, in order."""
    return tuple(dict.fromkeys(
        train["name"] for train, _ in spec.get("pairs") or ()
        if train.get("here", "complete") != "complete"))
