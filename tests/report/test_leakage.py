"""Training sets that were not compared with test sets: one sentence, and what to do."""

import pytest

from irbench.report import collect
from irbench.report.facts import leakage
from irbench.report.page import page
from tests.helpers import report_fixtures as fixtures

TESTS = ("photos", "set5")


def warned(folder, states):
    """The head of a report whose weights name training sets, each in a state of ``data list``."""
    builder = fixtures.Builder(folder)
    builder.dataset("photos", "Photos", 1)
    builder.model("a", "A")
    builder.cell("sr-x2@1", "photos", "a", {"psnr": [33.0], "ssim": [0.9]})
    spec = {"pairs": [[{"name": name, "sha256": "a" * 64, **({"here": here} if here else {})},
                       {"name": test, "sha256": "b" * 64}]
                      for name, here in states.items() for test in TESTS]}
    gaps = [{"train": name, "test": test, "reason": (
        f"dataset {name!r} (/a/long/path/datasets.yaml): 400 of 400 files are missing, first "
        f"/data/{name}/hr/1.png. Run: irbench data fetch {name}")}
        for name, here in states.items() if here != "complete" for test in TESTS]
    builder.plan["leaks"] = [{"run": builder.plan["run"]}]
    builder.write("leaks", leakage.FILE, builder.plan["leaks"][0], spec, "ok", None,
                  {"pairs": [], "compared": [], "not_compared": gaps}, {})
    return [sentence for sentence in page.warnings(collect.collect(folder, builder.plan), [])
            if sentence.startswith("Leak check")]


def test_sets_that_only_files_name_are_one_short_sentence(tmp_path):
    sentence, = warned(tmp_path, {"one_train": "absent", "two": "complete",
                                  "three": "partial 3/14"})
    assert sentence == (
        "Leak check skipped: the training sets one_train, three are not downloaded. "
        "Run irbench data fetch one_train three, then run the workflow again.")
    sentence, = warned(tmp_path / "single", {"one": "absent"})
    assert ": the training set one is not downloaded. Run" in sentence


@pytest.mark.parametrize("states", [{"one": "complete"}, {}])
def test_what_was_compared_is_not_named(tmp_path, states):
    assert warned(tmp_path, states) == []


def test_a_set_that_the_run_itself_trains_on_keeps_its_reason(tmp_path):
    sentences = warned(tmp_path, {"own": None, "foreign": "absent"})
    assert len(sentences) == 2 and sentences[0].endswith(
        "Run irbench data fetch foreign, then run the workflow again.")
    assert "own with photos; own with set5: dataset 'own'" in sentences[1]


def test_each_sentence_names_the_models_it_is_about(tmp_path):
    builder = fixtures.Builder(tmp_path)
    builder.dataset("photos", "Photos", 1)
    for name, title in (("a", "Net A"), ("b", "Net B"), ("a.k8", "Net A (k = 8)")):
        builder.model(name, title)
        builder.cell("sr-x2@1", "photos", name, {"psnr": [33.0], "ssim": [0.9]})
    builder.plan["models"]["a.k8"] |= {"base": "a", "variant": {"options": {"k": 8},
                                                                "inference": {}}}
    builder.plan["trained_on"] = {"sr-x2@1/a": {"foreign": []}, "sr-x2@1/a.k8": {"foreign": []},
                                  "sr-x2@1/b": {"own": []}}
    builder.plan["leaks"] = [{"run": builder.plan["run"]}]
    spec = {"pairs": [[{"name": "foreign", "here": "absent"}, {"name": "photos"}]]}
    builder.write("leaks", leakage.FILE, builder.plan["leaks"][0], spec, "ok", None, {
        "pairs": [], "compared": [{"train": "own", "test": "photos", "train_images": 9,
                                   "test_images": 1}],
        "not_compared": [{"train": "foreign", "test": "photos", "reason": "gone"}]}, {})
    run = collect.collect(tmp_path, builder.plan)
    assert any(sentence.startswith("Leak check skipped for Net A: the training set foreign is")
               for sentence in page.warnings(run, []))
    assert run.leaks.summary().startswith("Training sets (own for Net B) were compared")
