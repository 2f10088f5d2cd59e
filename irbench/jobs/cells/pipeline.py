"""One step in this thread, the steps before and behind it in others: the network never waits.

Decoding, degrading, scoring and writing PNG files release Python's lock, so threads suffice.
Results come in the order of the items, and so do errors: the first item that fails ends the work as
if one item had been worked on after the other. What is in memory at a time is bounded, by the
number of items and by their size. Reads and writes nothing itself.

Try: ``python -c "from irbench.jobs.cells.pipeline import Steps, in_order; print(list(in_order(
range(5), Steps(lambda i: i + 1, lambda i, x: 2 * x, lambda i, x: -x), 2)))"``
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
ROOM = 2**24    # pixels of all images in memory; a larger one is alone


@dataclass(frozen=True)
class Steps:
    """What is done with an item.

    Attributes:
        before: called with the item, in any thread.
        main: called with the item and what ``before`` returned, in this thread, in order.
        behind: called with the item and what ``main`` returned, in any thread.
    """

    before: Callable
    main: Callable
    behind: Callable


def in_order(items: Sequence[T], steps: Steps, workers: int,
             size: Callable[[T], int] = lambda item: 0) -> Iterator:
    """Yield what the last step returns for each item, in order.

    Args:
        items: the items.
        steps: what is done with each.
        workers: the number of threads; without any, everything happens here in turn.
        size: the pixels of an item.

    Raises what a step raises for the first item, in their order, that fails; then, and when the
    iterator is closed, work that has not begun is dropped, and what has begun is waited for.
    """
    if not workers:
        for item in items:
            yield steps.behind(item, steps.main(item, steps.before(item)))
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="images")
    try:
        yield from _overlapped(pool, items, steps, workers + 1, size)
    finally:
        pool.shutdown(cancel_futures=True)


def _overlapped(pool: ThreadPoolExecutor, items: Sequence[T], steps: Steps, most: int,
                size: Callable[[T], int]) -> Iterator:
    """Do the same with threads; ``most`` items are loaded ahead, and as many wait for their end."""
    waiting = deque(items)
    pixels = size(waiting[0]) if waiting else 0     # of the next item
    sizes: deque[int] = deque()     # of all items in memory
    loading: deque[tuple[T, Future]] = deque()
    ending: deque[Future] = deque()
    failed: Exception | None = None
    while waiting or loading or ending:
        while waiting and len(loading) < most and (
                not sizes or sum(sizes) + pixels <= ROOM):
            item = waiting.popleft()
            loading.append((item, pool.submit(steps.before, item)))
            sizes.append(pixels)
            pixels = size(waiting[0]) if waiting else 0
        if loading and len(ending) < most:
            item, future = loading.popleft()
            try:
                ending.append(pool.submit(steps.behind, item, steps.main(item, future.result())))
            except Exception as error:
                failed = error
                waiting.clear()
                for _, dropped in loading:
                    dropped.cancel()
                loading.clear()
            del future
        # no item can be loaded, or none may be restored: wait for the first one's end
        while ending and (ending[0].done() or len(ending) == most or not loading):
            result = ending.popleft().result()
            sizes.popleft()
            yield result
            del result
    if failed is not None:
        raise failed
