"""The steps of a cell: order, errors, memory and interruption, with and without threads."""

import threading
import time

import pytest

from irbench.jobs.cells import pipeline
from irbench.jobs.cells.pipeline import Steps, in_order

WORKERS = (0, 1, 2, 5)


def slow_at(places, seconds=0.05):
    return lambda item: time.sleep(seconds if item in places else 0)


def steps(before=lambda i: None, main=lambda i: None, behind=lambda i: None):
    """Steps that note nothing and hand the item on; each may raise or wait."""
    def loaded(item):
        before(item)
        return item

    def run(item, value):
        assert item == value
        main(item)
        return value

    def ended(item, value):
        assert item == value
        behind(item)
        return 10 * item

    return Steps(loaded, run, ended)


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("count", [0, 1, 2, 17])
def test_results_come_in_order(workers, count):
    one = steps(slow_at({0, 5}), slow_at({3}), slow_at({1, 4}))
    assert list(in_order(range(count), one, workers)) == [10 * i for i in range(count)]


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("where", ["before", "main", "behind"])
def test_the_first_item_that_fails_is_the_one_reported(workers, where):
    """Item 3 fails late and in any step; items 4 and 5 fail at once."""
    def fail(item):
        if item == 3:
            time.sleep(0.1)
        if item >= 3:
            raise ValueError(item)

    found = []
    with pytest.raises(ValueError, match="^3$"):
        for one in in_order(range(9), steps(**{where: fail}), workers):
            found.append(one)
    assert found == [0, 10, 20]


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_behind_comes_before_a_later_one_of_the_network(workers):
    def behind(item):
        time.sleep(0.1)
        if item == 1:
            raise ValueError("behind 1")

    def main(item):
        if item == 2:
            raise ValueError("main 2")

    with pytest.raises(ValueError, match="behind 1"):
        list(in_order(range(5), steps(main=main, behind=behind), workers))


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_main_step_stays_in_this_thread_and_the_others_run_beside_it(workers):
    here, threads = threading.get_ident(), {"before": set(), "main": set(), "behind": set()}
    mark = {name: lambda item, name=name: threads[name].add(threading.get_ident())
            for name in threads}
    list(in_order(range(12), steps(**mark), workers))
    assert threads["main"] == {here}
    assert here not in threads["before"] | threads["behind"]
    assert len(threads["before"] | threads["behind"]) <= workers


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_few_items_are_in_memory(workers):
    """Counted from the begin of the first step to the moment at which the result is taken."""
    lock, inside, most = threading.Lock(), set(), [0]

    def enter(item):
        with lock:
            inside.add(10 * item)
            most[0] = max(most[0], len(inside))

    for result in in_order(range(40), steps(enter, behind=slow_at(range(40), 0.002)), workers):
        inside.discard(result)
    assert most[0] <= 2 * (workers + 1)


def test_large_items_are_alone(monkeypatch):
    monkeypatch.setattr(pipeline, "ROOM", 100)
    lock, inside, most = threading.Lock(), {}, [0]
    size = [60, 60, 30, 30, 30, 500, 10, 95, 10].__getitem__

    def enter(item):
        with lock:
            inside[10 * item] = size(item)
            if len(inside) > 1:
                most[0] = max(most[0], sum(inside.values()))

    for result in in_order(range(9), steps(enter), 3, size):
        inside.pop(result)
    assert 60 <= most[0] <= 100


@pytest.mark.parametrize("workers", [1, 3])
def test_an_interruption_ends_soon_and_leaves_no_thread(workers):
    def main(item):
        if item == 2:
            raise KeyboardInterrupt

    begun = time.monotonic()
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        list(in_order(range(1000), steps(slow_at(range(1000), 0.01), main), workers))
    assert threading.active_count() == before
    assert time.monotonic() - begun < 2


def test_the_network_does_not_wait():
    """Three steps of 20 ms each take little more than one, beside two threads."""
    wait = slow_at(range(25), 0.02)
    begun = time.monotonic()
    list(in_order(range(25), steps(wait, wait, wait), 2))
    assert time.monotonic() - begun < 25 * 0.02 * 2
