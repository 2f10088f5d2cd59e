import hashlib
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irbench.core import digest_cache, digests, files, locks, records
from irbench.core.errors import UserError

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@given(plain)
def test_canonical_json_is_a_round_trip_and_ignores_order(value):
    text = digests.canonical(value)
    assert json.loads(text) == value
    if isinstance(value, dict):
        assert digests.canonical(dict(reversed(value.items()))) == text


def record(**changes):
    return {**records.make("cell", {"model": "a"}, {"x": 1},
                           result={"images": [{"name": "b", "psnr": 1.0}],
                                   "mean": {"psnr": 1.0}}), **changes}


def test_write_and_read(tmp_path):
    path = tmp_path / "a" / "b.json"
    value = record()
    files.write_json(path, value)
    assert records.read(path) == value


@pytest.mark.parametrize(("changes", "message"), [
    ({"schema_version": 99}, "schema_version is 99, this irbench reads 1 to 2"),
    ({"status": "fine"}, "status 'fine' is not one of ok, unavailable, failed"),
    ({"status": "failed"}, "needs a reason and no result"),
    ({"status": "failed", "reason": "no"}, "needs a reason and no result"),
    ({"status": "failed", "result": None, "result_digest": None}, "needs a reason and no result"),
    ({"result": None}, "no result"),
    ({"spec": {"x": 2}}, "the file was edited"),
    ({"result": {"psnr": float("inf")}}, "record.result.psnr is inf"),
    ({"result": {"images": [], "mean": {"psnr": 1.5}}}, "the result does not match its digest"),
    ({"result_digest": None}, "the result does not match its digest"),
    ({"key": None}, "'key' is missing"),
    ({"key": {"model": 3}}, "'key' is missing or not in the form"),
    ({"metrics": [{"name": "mae"}]}, "its metrics: .* is not a mapping with name and title"),
    ({"provenance": {"hardware": "fast"}}, "'provenance' is missing or not in the form"),
])
def test_what_is_no_record(changes, message):
    with pytest.raises(UserError, match=message):
        records.check(record(**changes), "here")


def test_broken_files_are_named(tmp_path):
    path = tmp_path / "r.json"
    with pytest.raises(UserError, match="no such record"):
        records.read(path)
    path.write_text('{"schema')
    for text in ('{"schema', "[" * 10**5, "\udcff"):
        path.write_text(text, errors="surrogateescape")
        with pytest.raises(UserError, match=r"r.json: not readable as JSON.*To replace the file"):
            records.read(path)
    path.write_text(json.dumps(record(spec={"x": 1}, result=1e999)).replace("Infinity", "1e999"))
    with pytest.raises(UserError, match=r"r.json: not a valid irbench record"):
        records.read(path)


def test_an_edited_value_is_noticed_by_whoever_reads_it(tmp_path):
    path = tmp_path / "r.json"
    files.write_json(path, record())
    path.write_text(path.read_text().replace('"psnr": 1.0', '"psnr": 1.1'))
    with pytest.raises(UserError, match=r"r.json: .*the result does not match its digest; the file "
                                        "was edited or damaged. To replace the file, run again"):
        records.read(path)


def test_a_result_with_numbers_for_keys_has_the_digest_of_its_file(tmp_path):
    value = records.make("bench", {}, {}, result={"by size": {10: 1, 9: 2}})
    files.write_json(tmp_path / "r.json", value)
    assert records.read(tmp_path / "r.json")["result"] == {"by size": {"10": 1, "9": 2}}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "f.txt"
    files.write_atomic(path, "old")

    class Boom(Exception):
        pass

    with pytest.raises(Boom), files.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise Boom
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_attempt_number_rises_after_failures_and_changes_only(tmp_path):
    path = tmp_path / "r.json"
    assert records.next_attempt(path) == 0
    failed = {"status": "failed", "reason": "no", "result": None, "result_digest": None}
    files.write_json(path, record(attempt=0, **failed))
    assert records.next_attempt(path) == 1
    files.write_json(path, record(attempt=1))
    assert records.next_attempt(path) == records.next_attempt(path, {"x": 1}) == 1
    assert records.next_attempt(path, {"x": 2}) == 2  # made from something else
    files.write_json(path, record(attempt=2, **failed))
    assert records.next_attempt(path, {"x": 2}) == 3
    files.write_json(path, record(attempt=4, result={"images": [], "mean": {"psnr": 9.0}}))
    assert records.next_attempt(path) == 5      # edited


def test_what_of_a_spec_fixes_the_result():
    spec = {"protocol": {"id": "p@1", "title": "P", "source": "S", "task": "t"}, "code": "c",
            "model": {"name": "m", "title": "M", "note": "N", "published_as": "X", "options": {},
                      "in_paper": True, "checkpoint": {"kind": "file", "path": "f", "sha256": "d"}}}
    kept = {"protocol": {"id": "p@1", "task": "t"}, "code": "c",
            "model": {"name": "m", "options": {}, "checkpoint": {"kind": "file", "sha256": "d"}}}
    assert records.decisive(spec) == kept == records.decisive(kept)
    assert spec["model"]["checkpoint"]["path"] == "f"
    spec["model"]["checkpoint"]["sha256"] = None  # without a digest the place is all that is known
    assert records.decisive(spec)["model"]["checkpoint"]["path"] == "f"
    assert records.decisive({"dataset": {"name": "d"}}) == {"dataset": {"name": "d"}}


def test_weights_that_a_training_begins_with_or_learns_from_are_named_by_their_digest():
    place = {"path": "f", "url": "https://host.invalid/f", "peer": "p"}
    teacher = {"model": "large", "title": "Large", "arch": "a", "options": {"width": 9}}

    def spec(start, of_teacher):
        return {"model": {"name": "m", "training": {"steps": 5, "init": start, "teacher": {
            **teacher, "checkpoint": of_teacher}}}}

    given = spec({**place, "sha256": "d"}, {**place, "sha256": "e"})
    before = json.loads(json.dumps(given))
    assert records.decisive(given) == {"model": {"name": "m", "training": {
        "steps": 5, "init": {"sha256": "d"},
        "teacher": {"arch": "a", "options": {"width": 9}, "checkpoint": {"sha256": "e"}}}}}
    assert given == before
    # without a digest the place is all that is known; a start may also be the name of a model
    found = records.decisive(spec("other", place))["model"]["training"]
    assert (found["init"], found["teacher"]["checkpoint"]) == ("other", place)


def test_a_file_is_hashed_again_only_when_it_changed(tmp_path, monkeypatch):
    """More on it in tests/core/test_digest_cache.py."""
    monkeypatch.setattr(digest_cache, "SETTLED_NS", -1)
    path, reads = tmp_path / "f", []
    real = digests.file_digest
    monkeypatch.setattr(digests, "file_digest", lambda p: reads.append(p) or real(p))
    for content in (b"one", b"three"):
        path.write_bytes(content)
        for _ in range(3):
            assert digests.known_digest(path) == hashlib.sha256(content).hexdigest()
    assert len(reads) == 2
    os.utime(path, ns=(1, 1))
    assert digests.known_digest(path) and len(reads) == 3


def test_a_locked_file_is_anothers(tmp_path):
    with (tmp_path / "l").open("a") as one, (tmp_path / "l").open("a") as other:
        assert locks.lock(one) and not locks.lock(other)
        one.close()
        assert locks.lock(other, wait=True)
    lock = tmp_path / "run" / ".lock"
    locks.claim(lock)
    holder = rf"another run is working in this folder \(process {os.getpid()} on \S+\)\."
    for _ in range(2):      # a second claim of the same process names it once
        with pytest.raises(UserError, match=holder):
            locks.claim(lock)
        locks._claims.pop().close()
        locks.claim(lock)
    lock.write_text("a text of somebody else")
    with pytest.raises(UserError, match=r"in this folder\. When"):
        locks.claim(lock)
    locks._claims.pop().close()


def test_a_mean_of_what_is_no_metric_is_refused():
    with pytest.raises(UserError, match="'name' of an image is not a number"):
        records.make("cell", {}, {}, result={"images": [{"name": "b"}], "mean": {"name": None}})


def test_a_new_record_is_of_the_first_attempt_and_rounds_its_times():
    made = records.make("bench", {}, {}, result={}, seconds={"load": 1.23456})
    assert made["attempt"] == 0 and made["seconds"] == {"load": 1.2346}


def test_what_is_no_record_of_an_older_version_is_left_as_it_is():
    for value in ([1], None, {"schema_version": True}, {"schema_version": 99}):
        assert records.to_current(value) is value


def test_time_and_place_are_not_in_the_fingerprint():
    a, b = record(), record()
    b["provenance"]["time"] = "another"
    assert a["fingerprint"] == b["fingerprint"]
    assert records.make("bench", {}, {"x": 2}, result={})["fingerprint"] != a["fingerprint"]


def test_the_time_of_a_phase_adds_up(monkeypatch):
    clock = iter([0.0, 1.0, 5.0, 7.0, 20.0, 20.5])
    monkeypatch.setattr(records.time, "perf_counter", lambda: next(clock))
    phases = records.Phases()
    for name in ("load", "load", "score"):
        with phases(name):
            pass
    assert phases.seconds == {"load": 3.0, "score": 0.5}


def test_laps_are_what_came_since_the_last_one_and_told_seconds_are_in_none():
    phases = records.Phases()
    phases.seconds = {"load": 2.0, "score": 1.0}
    assert phases.lap() == {"load": 2.0, "score": 1.0} and phases.lap() == {}
    phases.seconds |= {"load": 2.5, "write": 4.0}
    assert phases.lap() == {"load": 0.5, "write": 4.0}
    phases.add({"load": 8.0, "forward": 3.0})       # of another process
    assert phases.seconds == {"load": 10.5, "score": 1.0, "write": 4.0, "forward": 3.0}
    assert phases.lap() == {}
    phases.seconds["forward"] += 1.0
    assert phases.lap() == {"forward": 1.0}


def test_a_record_serves_a_spec_that_wants_fewer_metrics():
    held = {"metrics": ["psnr", "lpips", "ssim"], "lpips_weights": "alex", "code": "c"}
    for wanted, serves in [
            (held, True),
            ({"metrics": ["ssim", "psnr"], "code": "c"}, True),     # another order, too
            (held | {"metrics": ["ssim", "psnr", "lpips"]}, True),
            ({"metrics": ["lpips"], "lpips_weights": "alex", "code": "c"}, True),
            ({"metrics": ["lpips"], "lpips_weights": None, "code": "c"}, False),
            ({"metrics": ["psnr"], "code": "d"}, False),
            ({"metrics": ["psnr", "mae"], "code": "c"}, False),
            ({"code": "c"}, False)]:
        assert records.serves(held, wanted) == serves, wanted
    assert not records.serves({"metrics": ["ssim"], "code": "c"}, held)
    assert records.serves({"x": 1}, {"x": 1}) and not records.serves({"x": 1}, {"x": 2})
    assert not records.serves({"metrics": "ssim"}, {"metrics": ["s"]})      # edited


@pytest.mark.parametrize(("images", "mean", "good"), [
    ([1.0, 2.0], 1.5, True), ([1.0, 2.0], 1.5001, False), ([1.0, None], None, True),
    ([1.0, None], 1.0, False), ([1.0, 2.0], None, False), ([], None, True), ([], 1.0, False),
    ([1.0, "2"], 1.5, False), ([0.1, 0.2], 0.15000000000000002, True),
])
def test_a_mean_is_that_of_its_images(images, mean, good):
    """Also with digests that fit, or of version 1, which has none."""
    result = {"images": [{"name": str(i), "mae": value} for i, value in enumerate(images)],
              "mean": {"mae": mean}}
    if good:
        assert records.make("cell", {}, {}, result=result)["result"] == result
    else:
        with pytest.raises(UserError, match="mean mae is|'images' of its result is"):
            records.make("cell", {}, {}, result=result)


def test_a_score_is_within_the_range_of_its_metric():
    """Of irbench's own by the table, of others by the row that the record holds."""
    def cell(name, value):
        return records.make("cell", {}, {}, result={"images": [{"name": "b", name: value}],
                                                    "mean": {name: value}})

    with pytest.raises(UserError, match=r"psnr of 'b' is 201.0, which is outside .* \[0.0, 200.0"):
        cell("psnr", 201.0)
    with pytest.raises(UserError, match="ssim of 'b' is -1.1, which is outside"):
        cell("ssim", -1.1)
    unknown = cell("mae", 256.0)
    row = {"name": "mae", "title": "MAE", "range": [0, 255]}
    with pytest.raises(UserError, match="mae of 'b' is 256.0, which is outside"):
        records.check(unknown | {"metrics": [row]}, "here")
    records.check(unknown | {"metrics": [row | {"range": [0, None]}]}, "here")


def test_a_cell_has_the_images_of_its_set():
    images = [{"name": "b"}, {"name": "a"}]
    held = records.make("cell", {}, {}, result={"images": images, "mean": {}})
    names = records.digest_of_names(["a", "b"])
    assert len(names) == 64 and names == records.digest_of_names(["b", "a"])
    for count, of_names in ((2, names), (None, names), (2, None), (None, None)):
        assert records.other_images(held, count, of_names) == ""
    assert records.other_images(held, 3, None) == "scored on 2 of 3 images"
    assert "are not those of the set" in records.other_images(
        held, 2, records.digest_of_names(["a", "c"]))
