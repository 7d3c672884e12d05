"""The executor over any transport: cache, budget, limits, retries and accounts, the same for every provider."""

import asyncio
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from aflow_ops.errors import BudgetExceededError, CallRefusedError, ExecutorError, FatalExecutorError
from aflow_ops.executor.cache import ResponseCache, cache_key
from aflow_ops.executor.config import ExecutorConfig
from aflow_ops.executor.endpoints import EndpointPool
from aflow_ops.executor.limits import RateLimiter
from aflow_ops.executor.transport import Call, Completion, Transport, TransportError
from aflow_ops.executor.types import ExecutorUsage, Message, Reply
from aflow_ops.fault_clock import FaultClock

# Of its own: how often calls are retried must not change what a seeded run samples.
_JITTER = random.Random()
# How often a transport may ask for another try of one call without a retry being spent.
MAX_LESSONS = 10


class MeteredExecutor:
    """An executor behind one or more transports. An async context manager, used on one event loop.

    Args:
        config (`ExecutorConfig`): the flags.
        transports (`Sequence[Transport]`): where calls go; several serve the same model.
        ledger (`Path`, *optional*): file over which the processes of this machine share their rate limits.

    Attributes:
        on_paid (`Callable`, *optional*): told the cache key (`None` without a cache) and the cost of each paid reply.
    """

    def __init__(self, config: ExecutorConfig, transports: Sequence[Transport], ledger: Path | None = None) -> None:
        self.config = config
        self.on_paid: Callable[[str | None, ExecutorUsage], None] | None = None
        self._pool = EndpointPool(transports, config.executor_outage_seconds)
        self._identity = config.executor_cache_namespace or ",".join(sorted({each.identity for each in transports}))
        self._ledger = ledger
        if config.price_per_token is None:
            print(
                f"warning: the price of {config.executor_model} is not in aflow_ops/executor/prices.yaml: its tokens "
                "are counted, its cost is not; --executor_price IN OUT (USD per million tokens) tells it",
                file=sys.stderr,
            )
        self._usage = ExecutorUsage()
        self._reserved_usd = 0.0
        self._in_flight: dict[str, asyncio.Future[Completion]] = {}

    async def __aenter__(self) -> "MeteredExecutor":
        config = self.config
        self._slots = asyncio.Semaphore(config.executor_max_concurrency)
        self._limiter = RateLimiter(config.executor_rpm, config.executor_tpm, self._ledger)
        folder = config.executor_cache_dir
        self._cache = None if folder == "none" else ResponseCache(Path(folder))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._pool.close()
        self._limiter.close()
        if self._cache is not None:
            self._cache.close()

    @property
    def prompt_set(self) -> str:
        """Name of the operator prompts that suit the model."""
        return self.config.prompt_set

    @property
    def temperature(self) -> float:
        """Temperature of operator calls that do not ask for another one."""
        return self.config.temperature

    @property
    def usage(self) -> ExecutorUsage:
        """Totals so far, of this process."""
        return self._usage

    def restore(self, usage: ExecutorUsage) -> None:
        """Go on counting from what earlier starts of a run used: it counts against the budget."""
        self._usage = usage

    @property
    def cache_statistics(self) -> dict[str, int] | None:
        """`entries` and `bytes` on disk, and `dropped`, the broken entries met so far; `None` without a cache."""
        return None if self._cache is None else self._cache.statistics()

    def price(self, prompt_tokens: int, completion_tokens: int) -> float:
        """USD for so many tokens; 0 when the model's price is unknown."""
        return self.config.price(prompt_tokens, completion_tokens)

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        temperature: float,
        max_tokens: int,
        stop: Sequence[str] = (),
        sample: int = 0,
        faults: FaultClock | None = None,
    ) -> Reply:
        """Return one reply: from the cache, from an equal call in flight, or from the endpoint.

        Raises:
            ExecutorError: no answer after all retries, or this call is refused.
            FatalExecutorError: the endpoint refuses the key or the model.
            BudgetExceededError: the call would pass the budget, or the account has no credit left.
        """
        start = time.monotonic()
        call = Call(messages, temperature, max_tokens, stop, faults)
        key = "" if self._cache is None else cache_key(self._identity, self.config.executor_model, call, sample)
        stored = await self._stored(key, call)
        cached = stored is not None
        cost = 0.0
        if stored is None:
            stored, cost = await self._fetch(key, call)
        paid = ExecutorUsage(1, 1) if cached else _usage_of(stored, cost, calls=1)
        self._usage += paid
        seconds = time.monotonic() - start
        return Reply(stored.text, stored.prompt_tokens, stored.completion_tokens, cost, seconds, cached, stored.tokens)

    def __str__(self) -> str:
        return f"{self.config.executor_model} at {self._pool}"

    async def preflight(self) -> None:
        """Make one tiny call, so that a wrong key, model or address stops the run before it starts.

        Raises:
            ExecutorError: with the reason and what to check.
        """
        await self._with_retries(Call([{"role": "user", "content": "Reply with OK."}], 0.0, 1, probe=True))

    async def _stored(self, key: str, call: Call) -> Completion | None:
        if self._cache is None:
            return None
        while (pending := self._in_flight.get(key)) is not None:
            # Wait for the equal call; when it fails or is cancelled this one makes its own attempt.
            with call.waiting():
                await asyncio.wait([pending])
        return self._cache.get(key)

    async def _fetch(self, key: str, call: Call) -> tuple[Completion, float]:
        pending: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        if self._cache is not None:
            self._in_flight[key] = pending
        try:
            reply, cost = await self._paid(call)
            if self.on_paid is not None:  # before it is stored: a kill in between must not hide a payment
                self.on_paid(None if self._cache is None else key, _usage_of(reply, cost, calls=1))
            if self._cache is not None:
                self._cache.put(key, reply)
            return reply, cost
        finally:
            self._in_flight.pop(key, None)
            pending.cancel()

    async def _paid(self, call: Call) -> tuple[Completion, float]:
        """Ask under the budget, the concurrency cap and the rate limits."""
        with self._reserved(call):
            with call.waiting():
                await self._slots.acquire()
            try:
                with call.waiting():
                    await self._limiter.wait(call.prompt_tokens + call.max_tokens + self._pool.room)
                reply, copies = await self._with_retries(call)
            finally:
                self._slots.release()
        return reply, copies * self.price(reply.prompt_tokens, reply.completion_tokens)

    @contextmanager
    def _reserved(self, call: Call) -> Iterator[None]:
        """Set aside what the call may cost while it is under way.

        Raises:
            BudgetExceededError: the budget has not so much left.
        """
        copies = 2 if self.config.executor_hedge_seconds else 1
        estimate = copies * self.price(call.prompt_tokens, call.max_tokens + self._pool.room)
        self._check_budget(estimate)
        self._reserved_usd += estimate
        try:
            yield
        finally:
            self._reserved_usd -= estimate

    def _check_budget(self, estimate: float) -> None:
        budget = self.config.executor_budget_usd
        if 0 < budget < self._usage.cost_usd + self._reserved_usd + estimate:
            raise BudgetExceededError(
                f"the executor budget of ${budget:g} is spent (${self._usage.cost_usd:.4f} so far); raise "
                "--executor_budget_usd to go on: what was paid for is in the cache"
            )

    async def _with_retries(self, call: Call) -> tuple[Completion, int]:
        """Try until an answer comes, waiting longer each time or as long as the endpoint asks for.

        Returns:
            `tuple` of the answer and how many requests its last attempt made: 2 when it was hedged.
        """
        attempts = self.config.executor_max_retries + 1
        attempt = lessons = 0
        while True:
            try:
                return await self._hedged(call)
            except TransportError as error:
                if call.probe and error.billed is not None:
                    return error.billed, 1
                if error.failure == "again" and lessons < MAX_LESSONS:
                    lessons += 1
                    continue
                attempt += 1
                told = f"executor {self}: {error}"
                if error.failure == "spent":
                    raise BudgetExceededError(told) from None
                if error.failure == "fatal":
                    raise FatalExecutorError(told) from None
                if self._pool.held_seconds > self._pool.patience:
                    raise ExecutorError(
                        f"{told}; it asks for a pause of {self._pool.held_seconds:.0f} s, which is longer than "
                        "--executor_outage_seconds: nothing is asked until then"
                    ) from None
                if error.failure == "call":
                    raise CallRefusedError(f"{told} (after {attempt} attempts)") from None
                if attempt == attempts:
                    raise ExecutorError(f"{told} (after {attempt} attempts)") from None
                self._check_budget(0.0)
                with call.waiting():
                    await asyncio.sleep(self._backoff(attempt - 1, error))

    def _backoff(self, attempt: int, error: TransportError) -> float:
        """Seconds to wait: what the endpoint asks for, else exponential with full jitter."""
        if error.retry_after is not None and error.retry_after <= self._pool.patience:
            return error.retry_after + _JITTER.uniform(0, 0.1)
        longest = self.config.executor_max_backoff
        return _JITTER.uniform(min(0.1, longest), min(longest, 0.5 * 2.0**attempt))

    async def _hedged(self, call: Call) -> tuple[Completion, int]:
        """Make one attempt, and where hedging is on a second one beside it when no reply comes in time.

        The tail of the latencies is cut by asking twice and taking the first reply (Dean & Barroso, "The Tail at
        Scale", 2013); the other request is cancelled, and counted as if it had cost the same.
        """
        patience = self.config.executor_hedge_seconds
        if not patience:
            return await self._attempt(call), 1
        attempts = [asyncio.ensure_future(self._attempt(call))]
        try:
            await asyncio.wait(attempts, timeout=patience)
            if not attempts[0].done():
                attempts.append(asyncio.ensure_future(self._attempt(call)))
            while not any(attempt.done() and attempt.exception() is None for attempt in attempts):
                waiting = [attempt for attempt in attempts if not attempt.done()]
                if not waiting:
                    break
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            best = min(attempts, key=lambda attempt: not attempt.done() or attempt.exception() is not None)
            return best.result(), len(attempts)
        finally:
            for attempt in attempts:
                attempt.cancel()
            await asyncio.gather(*attempts, return_exceptions=True)

    async def _attempt(self, call: Call) -> Completion:
        """Ask once an endpoint that works; a failure's time counts as lost, what it is billed as paid."""
        with call.waiting():
            admission = await self._pool.admitted()
        began = time.monotonic()
        try:
            async with self._pool.attempt(admission) as transport:
                return await transport.send(call)
        except TransportError as error:
            call.lost(time.monotonic() - began)
            if error.billed is not None:
                self._waste(error.billed)
            raise

    def _waste(self, billed: Completion) -> None:
        """Count what was paid for no answer: it costs, and is no call."""
        paid = _usage_of(billed, self.price(billed.prompt_tokens, billed.completion_tokens), calls=0)
        self._usage += paid
        if self.on_paid is not None:
            self.on_paid(None, paid)


def _usage_of(completion: Completion, cost: float, calls: int) -> ExecutorUsage:
    return ExecutorUsage(calls, 0, completion.prompt_tokens, completion.completion_tokens, cost)
