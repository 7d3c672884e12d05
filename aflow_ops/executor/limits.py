"""Rate limits: requests and tokens a minute, over a sliding window."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

WINDOW_SECONDS = 60.0


class RateLimiter:
    """Lets a request pass once the last minute has room for it.

    Args:
        requests_per_minute (`int`): 0 for no limit.
        tokens_per_minute (`int`): 0 for no limit; a single request above it passes alone.
        clock (`Callable[[], float]`): seconds, monotonic.
        sleep (`Callable[[float], Awaitable[None]]`): waits that many seconds.
    """

    def __init__(
        self,
        requests_per_minute: int,
        tokens_per_minute: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.requests_per_minute, self.tokens_per_minute = requests_per_minute, tokens_per_minute
        self._clock, self._sleep = clock, sleep
        self._passed: deque[tuple[float, int]] = deque()
        self._tokens = 0

    async def wait(self, tokens: int) -> None:
        """Wait for room for one request of about `tokens` tokens, and take it."""
        while (delay := self._delay(tokens)) > 0:
            await self._sleep(delay)
        self._passed.append((self._clock(), tokens))
        self._tokens += tokens

    def _delay(self, tokens: int) -> float:
        """Seconds until the window may have room; 0 when it has."""
        now = self._clock()
        while self._passed and self._passed[0][0] <= now - WINDOW_SECONDS:
            self._tokens -= self._passed.popleft()[1]
        if not self._passed:
            return 0.0
        full = 0 < self.requests_per_minute <= len(self._passed)
        heavy = 0 < self.tokens_per_minute < self._tokens + tokens
        return self._passed[0][0] + WINDOW_SECONDS - now if full or heavy else 0.0
