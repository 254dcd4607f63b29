"""What many coroutines ask for one by one is worked on in batches."""

from __future__ import annotations

import asyncio
import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from lingo_hitl.models.loop import LONGEST_WAIT, Batcher


@given(st.lists(st.tuples(st.integers(0, 3), st.integers()), max_size=40), st.integers(1, 7))
@settings(max_examples=30, deadline=None)
def test_everybody_gets_its_own_result_from_a_batch_of_its_own_group(items, most):
    batches = []

    def work(batch):
        batches.append(batch)
        return [(group, -number) for group, number in batch]

    async def ask_all():
        batcher = Batcher(work, most=most, group=lambda item: item[0])
        return await asyncio.gather(*map(batcher, items))

    assert asyncio.run(ask_all()) == [(group, -number) for group, number in items]
    assert all(len(batch) <= most and len({group for group, _ in batch}) == 1 for batch in batches)


def test_the_fullest_group_comes_first_and_a_small_one_in_the_end_too():
    order, started, gathered = [], threading.Event(), threading.Event()

    def work(batch):
        started.set()
        gathered.wait(60)
        order.append(batch[0])
        return batch

    async def ask_all():
        batcher = Batcher(work, most=4, group=lambda item: item)
        first = asyncio.create_task(batcher("first"))
        while not started.is_set():
            await asyncio.sleep(0)
        others = [asyncio.create_task(batcher(name)) for name in ["small", *["large"] * 4 * 2 * LONGEST_WAIT]]
        await asyncio.sleep(0)
        gathered.set()
        await asyncio.gather(first, *others)

    asyncio.run(ask_all())
    assert order[:2] == ["first", "large"]
    assert order.index("small") == 1 + LONGEST_WAIT
