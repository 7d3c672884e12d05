"""How long a test waits for what only a fault would delay: no test passes or fails by the speed of the machine."""

import asyncio
import time
from collections.abc import Callable

# Seconds. Far more than the slowest machine needs; only something that hangs ever uses them up.
PATIENCE = 300.0


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what comes sooner or later, without a word about when.

    Raises:
        TimeoutError: it never came.
    """
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


def within(condition: Callable[[], bool]) -> None:
    """Wait likewise, where there is no event loop.

    Raises:
        TimeoutError: it never came.
    """
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.01)
