import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irbench import records
from irbench.errors import UserError

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@given(plain)
def test_canonical_json_is_a_round_trip_and_ignores_order(value):
    text = records.canonical(value)
    assert json.loads(text) == value
    if isinstance(value, dict):
        assert records.canonical(dict(reversed(value.items()))) == text


def record(**changes):
    return {**records.make("cell", {"model": "a"}, {"x": 1}, result={"mean": {"psnr": 1.0}}),
            **changes}


def test_write_and_read(tmp_path):
    path = tmp_path / "a" / "b.json"
    value = record()
    records.write_json(path, value)
    assert records.read(path) == value


@pytest.mark.parametrize(("changes", "message"), [
    ({"schema_version": 99}, "schema_version is 99"),
    ({"status": "fine"}, "status 'fine' is not one of ok, unavailable, failed"),
    ({"status": "failed"}, "needs a reason and no result"),
    ({"result": None}, "no result"),
    ({"spec": {"x": 2}}, "the file was edited"),
    ({"result": {"psnr": float("inf")}}, "record.result.psnr is inf"),
    ({"key": None}, "'key' is missing"),
])
def test_what_is_no_record(changes, message):
    with pytest.raises(UserError, match=message):
        records.check(record(**changes), "here")


def test_broken_files_are_named(tmp_path):
    path = tmp_path / "r.json"
    with pytest.raises(UserError, match="no such record"):
        records.read(path)
    path.write_text('{"schema')
    with pytest.raises(UserError, match=r"r.json: not readable as JSON.*Delete the file"):
        records.read(path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "f.txt"
    records.write_atomic(path, "old")

    class Boom(Exception):
        pass

    with pytest.raises(Boom), records.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise Boom
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_attempt_number_rises_after_failures_only(tmp_path):
    path = tmp_path / "r.json"
    assert records.next_attempt(path) == 0
    records.write_json(path, record(attempt=0, status="failed", reason="no", result=None))
    assert records.next_attempt(path) == 1
    records.write_json(path, record(attempt=1))
    assert records.next_attempt(path) == 1


def test_time_and_place_are_not_in_the_fingerprint():
    a, b = record(), record()
    b["provenance"]["time"] = "another"
    assert a["fingerprint"] == b["fingerprint"]
    assert records.make("cell", {}, {"x": 2}, result={})["fingerprint"] != a["fingerprint"]
