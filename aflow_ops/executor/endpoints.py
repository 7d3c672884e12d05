"""The endpoints behind one executor: one client each, the least busy one that works gets the next call."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import openai
from httpx2 import Limits  # comes with openai
from openai import AsyncOpenAI, DefaultAioHttpClient

from aflow_ops.errors import ExecutorError
from aflow_ops.executor.breaker import CircuitBreaker
from aflow_ops.executor.config import KEY_VARIABLE, ExecutorConfig

# How often a held-back call looks whether it may go on.
LOOK_SECONDS = 0.05


class UnusableReplyError(Exception):
    """The endpoint answered, but not with a completion."""


@dataclass
class Endpoint:
    """One address with its client and the state of its health."""

    url: str | None
    client: AsyncOpenAI
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    in_flight: int = 0


Admission = tuple[Endpoint, bool]


class EndpointPool:
    """Balances calls over endpoints that serve the same model.

    Args:
        urls (`Sequence[str | None]`): their base URLs; `None` is OpenAI's own.
        config (`ExecutorConfig`): concurrency, timeout and patience.
    """

    def __init__(self, urls: Sequence[str | None], config: ExecutorConfig) -> None:
        self.patience = config.executor_outage_seconds
        limits = Limits(max_connections=config.executor_max_concurrency + 8, max_keepalive_connections=None)
        self.endpoints = [
            Endpoint(
                url,
                AsyncOpenAI(
                    api_key=os.environ.get(KEY_VARIABLE) or "none",
                    base_url=url,
                    max_retries=0,  # retries are the executor's: the SDK's would wait inside the timeout
                    timeout=config.executor_timeout,
                    http_client=DefaultAioHttpClient(timeout=config.executor_timeout, limits=limits),
                ),
            )
            for url in urls
        ]

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(endpoint.client.close() for endpoint in self.endpoints))

    @asynccontextmanager
    async def attempt(self, admission: Admission) -> AsyncIterator[Endpoint]:
        """Note how the attempt in the block ends."""
        endpoint, probe = admission
        endpoint.in_flight += 1
        try:
            yield endpoint
        except (openai.APIError, UnusableReplyError) as error:
            if is_outage(error):
                endpoint.breaker.failed(probe)
            else:
                endpoint.breaker.succeeded()
            raise
        except BaseException:
            endpoint.breaker.withdrawn(probe)
            raise
        else:
            endpoint.breaker.succeeded()
        finally:
            endpoint.in_flight -= 1

    async def admitted(self) -> Admission:
        """Wait for an endpoint that works: the least busy one.

        Returns:
            `tuple` of the endpoint and whether the attempt is a probe of one that was down.

        Raises:
            ExecutorError: all endpoints have been failing for longer than calls wait.
        """
        began = time.monotonic()
        while True:
            for endpoint in sorted(self.endpoints, key=lambda endpoint: endpoint.in_flight):
                admission = endpoint.breaker.try_admit()
                if admission is not None:
                    return endpoint, admission == "probe"
            down = min(endpoint.breaker.down_seconds for endpoint in self.endpoints)
            if down >= self.patience or time.monotonic() - began >= self.patience:
                raise ExecutorError(
                    f"{self} has been failing for {down:.0f} s; calls are held back until it answers again"
                )
            await asyncio.sleep(LOOK_SECONDS)

    def __str__(self) -> str:
        return ", ".join(endpoint.url or "api.openai.com" for endpoint in self.endpoints)


def is_outage(error: Exception) -> bool:
    """Whether a failure says that the endpoint is down: no connection, no reply in time, a server error, nonsense."""
    if isinstance(error, openai.APIStatusError):
        return error.status_code >= 500
    return True
