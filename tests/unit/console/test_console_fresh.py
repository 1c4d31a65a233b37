import asyncio

import pytest

from console.fresh import Fresh


async def test_many_who_ask_at_once_share_one_answer_and_who_leaves_takes_it_from_nobody():
    fresh: Fresh[int] = Fresh(shared_s=60)
    computed = 0
    may_end = asyncio.Event()

    async def compute() -> int:
        nonlocal computed
        computed += 1
        await may_end.wait()
        return computed

    asking = [asyncio.create_task(fresh.get("key", compute)) for _ in range(10)]
    await asyncio.sleep(0)
    asking[0].cancel()
    may_end.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [1] * 9
    assert await fresh.get("key", compute) == 1
    assert await fresh.get("other key", compute) == 2


async def test_an_error_is_handed_on_and_not_kept():
    fresh: Fresh[int] = Fresh(shared_s=60)

    async def fail() -> int:
        raise ValueError("not now")

    async def answer() -> int:
        return 7

    with pytest.raises(ValueError, match="not now"):
        await fresh.get("key", fail)
    assert await fresh.get("key", answer) == 7
