"""The endpoints behind one executor: the least busy one that works gets the next call."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aflow_ops.errors import ExecutorError
from aflow_ops.executor.breaker import CircuitBreaker
from aflow_ops.executor.transport import Transport, TransportError

# How often a held-back call looks whether it may go on.
LOOK_SECONDS = 0.05


@dataclass
class Endpoint:
    """One transport and the state of its health."""

    transport: Transport
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    in_flight: int = 0


Admission = tuple[Endpoint, bool]


class EndpointPool:
    """Balances calls over endpoints that serve the same model.

    Args:
        transports (`Sequence[Transport]`): one per endpoint.
        patience (`float`): seconds for which calls wait while all are down.
    """

    def __init__(self, transports: Sequence[Transport], patience: float) -> None:
        self.patience = patience
        self.endpoints = [Endpoint(transport) for transport in transports]

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(endpoint.transport.close() for endpoint in self.endpoints))

    @property
    def room(self) -> int:
        """Completion tokens beyond a call's own limit that a request may use."""
        return max(endpoint.transport.room for endpoint in self.endpoints)

    @property
    def held_seconds(self) -> float:
        """Seconds until the first endpoint takes calls again, where all have asked for a pause; else 0."""
        return min(endpoint.breaker.held_seconds for endpoint in self.endpoints)

    @asynccontextmanager
    async def attempt(self, admission: Admission) -> AsyncIterator[Transport]:
        """Note how the attempt in the block ends."""
        endpoint, probe = admission
        endpoint.in_flight += 1
        try:
            yield endpoint.transport
        except TransportError as error:
            if error.failure == "outage":
                endpoint.breaker.failed(probe)
            else:
                endpoint.breaker.succeeded()
            if error.retry_after is not None and error.retry_after > self.patience:
                endpoint.breaker.hold(error.retry_after)
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
            ExecutorError: all endpoints have been failing for longer than calls wait, or ask for a longer pause.
        """
        began = time.monotonic()
        while True:
            for endpoint in sorted(self.endpoints, key=lambda endpoint: endpoint.in_flight):
                admission = endpoint.breaker.try_admit()
                if admission is not None:
                    return endpoint, admission == "probe"
            if self.held_seconds > self.patience:
                raise ExecutorError(f"{self} asked for a pause, of {self.held_seconds:.0f} s more")
            down = min(endpoint.breaker.down_seconds for endpoint in self.endpoints)
            if down >= self.patience or time.monotonic() - began >= self.patience:
                raise ExecutorError(
                    f"{self} has been failing for {down:.0f} s; calls are held back until it answers again"
                )
            await asyncio.sleep(LOOK_SECONDS)

    def __str__(self) -> str:
        return ", ".join(str(endpoint.transport) for endpoint in self.endpoints)
