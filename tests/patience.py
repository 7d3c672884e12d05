"""How long a test waits for what only a fault would delay: no test passes or fails by the speed of the machine."""

import asyncio
from collections.abc import Callable

# Seconds. Far more than the slowest machine needs; only something that hangs ever uses them up.
PATIENCE = 300.0


async def patiently(true: Callable[[], bool]) -> None:
    """Wait until something is true, which only a fault would keep from happening."""
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110 - what is waited for knows nothing of the test
            await asyncio.sleep(0.02)
