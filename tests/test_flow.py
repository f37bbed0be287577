"""Waiting until a peer has taken what waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest
from fakes import FakeTransport

from bunpy.http.flow import Flow

DEADLINE = 5.0


def run(speedups: SimpleNamespace, test: Callable[[Flow], Awaitable[None]]) -> None:
    """Run a test with a flow, on a loop of its own and under a deadline."""

    async def main() -> None:
        outlet = speedups.Outlet(FakeTransport(), -1)
        flow = Flow(asyncio.get_running_loop(), outlet)
        assert flow.is_paused is outlet.is_paused is False
        await asyncio.wait_for(test(flow), DEADLINE)
        assert flow.is_paused is outlet.is_paused

    asyncio.run(main())


async def turns(count: int = 5) -> None:
    """Let every task run that can."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_there_is_no_wait_while_the_peer_takes_all(speedups: SimpleNamespace) -> None:
    async def test(flow: Flow) -> None:
        waiting = flow.drained()
        with pytest.raises(StopIteration):
            waiting.send(None)

    run(speedups, test)


def test_a_pause_lasts_until_it_is_resumed(speedups: SimpleNamespace) -> None:
    async def test(flow: Flow) -> None:
        flow.pause()
        assert flow.is_paused
        waiting = asyncio.create_task(flow.drained())
        await turns()
        assert not waiting.done()
        flow.resume()
        assert not flow.is_paused
        await waiting

    run(speedups, test)


def test_the_outlet_knows_of_it(speedups: SimpleNamespace) -> None:
    """What is written meanwhile is not written past what waits: the outlet asks itself."""

    async def main() -> None:
        outlet = speedups.Outlet(FakeTransport(), -1)
        flow = Flow(asyncio.get_running_loop(), outlet)
        flow.pause()
        assert outlet.is_paused
        flow.resume()
        assert not outlet.is_paused

    asyncio.run(main())


def test_pauses_follow_each_other(speedups: SimpleNamespace) -> None:
    async def test(flow: Flow) -> None:
        for _ in range(3):
            flow.pause()
            waiting = asyncio.create_task(flow.drained())
            await turns()
            assert not waiting.done()
            flow.resume()
            await waiting
            await flow.drained()

    run(speedups, test)


def test_it_may_be_paused_and_resumed_without_anyone_waiting(speedups: SimpleNamespace) -> None:
    async def test(flow: Flow) -> None:
        flow.resume()
        flow.pause()
        flow.pause()
        flow.resume()
        flow.resume()
        await flow.drained()

    run(speedups, test)


@pytest.mark.parametrize("resumes_first", [True, False])
def test_a_wait_may_be_cancelled(speedups: SimpleNamespace, resumes_first: bool) -> None:
    """As a stream's is, whose client leaves: before the connection's end resumes it, or in the same turn."""

    async def test(flow: Flow) -> None:
        flow.pause()
        waiting = asyncio.create_task(flow.drained())
        await turns()
        if resumes_first:
            flow.resume()
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        flow.resume()
        assert not flow.is_paused
        flow.pause()
        again = asyncio.create_task(flow.drained())
        await turns()
        assert not again.done()
        flow.resume()
        await again

    run(speedups, test)


def test_a_wait_may_time_out(speedups: SimpleNamespace) -> None:
    async def test(flow: Flow) -> None:
        flow.pause()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(flow.drained(), 0.01)
        assert flow.is_paused
        flow.resume()
        await flow.drained()

    run(speedups, test)


def test_a_paused_wait_that_has_not_begun_sees_the_resume(speedups: SimpleNamespace) -> None:
    async def test(flow: Flow) -> None:
        flow.pause()
        waiting = asyncio.create_task(flow.drained())
        flow.resume()
        await waiting

    run(speedups, test)
