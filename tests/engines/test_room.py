"""Back-pressure: no more inside than there are places, and no place is ever lost."""

from __future__ import annotations

import asyncio
import threading
import time

from rostok.engines.room import Room


def test_threads_and_tasks_wait_for_a_place() -> None:
    """Prevents: a hundred thousand requests in memory at once, or a place that is given twice."""
    room, inside, most = Room(3), 0, 0
    lock = threading.Lock()

    def enter() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)

    def leave() -> None:
        nonlocal inside
        with lock:
            inside -= 1
        room.leave()

    def thread() -> None:
        room.enter()
        enter()
        time.sleep(0.002)
        leave()

    async def task() -> None:
        await room.entered()
        enter()
        await asyncio.sleep(0.002)
        leave()

    async def many() -> None:
        await asyncio.gather(*(task() for _ in range(20)))

    threads = [threading.Thread(target=thread) for _ in range(20)]
    for one in threads:
        one.start()
    asyncio.run(many())
    for one in threads:
        one.join(timeout=10)
    assert (inside, most) == (0, 3)


def test_a_cancelled_task_loses_no_place() -> None:
    """Prevents: a queue that shrinks with every request that was broken off while it waited, until nobody gets in."""
    async def run() -> None:
        room = Room(1)
        await room.entered()
        waiting = [asyncio.ensure_future(room.entered()) for _ in range(5)]
        await asyncio.sleep(0)
        for task in waiting[:4]:
            task.cancel()
        room.leave()  # given to one that may have been cancelled in this very moment
        await asyncio.wait_for(waiting[4], 5)
        room.leave()
        await asyncio.wait_for(room.entered(), 5)

    asyncio.run(run())


def test_places_are_given_in_the_order_of_asking() -> None:
    """Prevents: an early request that is overtaken by all later ones."""
    async def run() -> list[int]:
        room, order = Room(1), []

        async def ask(number: int) -> None:
            await room.entered()
            order.append(number)
            room.leave()

        await room.entered()
        tasks = [asyncio.ensure_future(ask(number)) for number in range(6)]
        await asyncio.sleep(0.01)
        room.leave()
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(run()) == [0, 1, 2, 3, 4, 5]
