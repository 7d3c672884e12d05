"""The executor over HTTP: any OpenAI-compatible chat-completions endpoint, or several that serve the same model."""

import asyncio
import dataclasses
import json
import os
import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from email.utils import parsedate_to_datetime
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any

import openai
import yaml
from httpx2 import Response  # comes with openai

from aflow_ops.errors import BudgetExceededError, ExecutorError, FatalExecutorError, UsageError
from aflow_ops.executor.cache import CachedReply, ResponseCache, cache_key
from aflow_ops.executor.config import KEY_VARIABLE, ExecutorConfig
from aflow_ops.executor.endpoints import EndpointPool, UnusableReplyError
from aflow_ops.executor.limits import RateLimiter
from aflow_ops.executor.requests import RequestForm
from aflow_ops.executor.types import ExecutorUsage, Message, Reply
from aflow_ops.fault_clock import FaultClock

MAX_BACKOFF_SECONDS = 30.0
# Of its own: how often calls are retried must not change what a seeded run samples.
_JITTER = random.Random()
NO_KEY = (
    f"no executor: {KEY_VARIABLE} is not set. Set it to use gpt-4o-mini (export {KEY_VARIABLE}=...), give "
    "--executor_base_url of an endpoint that needs no key, or use the embedded model with --executor local "
    "(recipes: --config recipes/configs/quickstart.yaml)"
)
_FATAL = (
    openai.AuthenticationError,
    openai.PermissionDeniedError,
    openai.NotFoundError,
)
_KEY_LIKE = re.compile(r"\b(?:sk|pk|key)-[\w*.-]{6,}|Bearer\s+\S+", re.IGNORECASE)


def check_key(config: ExecutorConfig) -> None:
    """Say at once that a key is missing, before anything slow starts.

    Raises:
        UsageError: OpenAI's own endpoint without a key.
    """
    if config.executor == "openai" and config.executor_base_url is None and not os.environ.get(KEY_VARIABLE):
        raise UsageError(NO_KEY)


def scrubbed(text: str) -> str:
    """Return text without the key or anything that looks like one."""
    key = os.environ.get(KEY_VARIABLE)
    if key:
        text = text.replace(key, "[key]")
    return _KEY_LIKE.sub("[key]", text)


def price_of(model: str) -> tuple[float, float] | None:
    """Return USD per token (input, output) of a model by `prices.yaml`, or `None` when it is not listed."""
    table: dict[str, list[float]] = yaml.safe_load(files(__package__).joinpath("prices.yaml").read_text())
    names = [name for name in table if model == name or model.startswith(name + "-")]
    if not names:
        return None
    per_million = table[max(names, key=len)]
    return per_million[0] / 1e6, per_million[1] / 1e6


class OpenAIExecutor:
    """An executor behind an endpoint. An async context manager, used on one event loop.

    Attributes:
        on_paid (`Callable`, *optional*): told the cache key (`None` without a cache) and the cost of each paid reply.

    Args:
        config (`ExecutorConfig`): the flags.
        base_url (`str`, *optional*): endpoint; those of `config.executor_base_url` by default.
        ledger (`Path`, *optional*): file over which the processes of this machine share their rate limits.
    """

    def __init__(self, config: ExecutorConfig, base_url: str | None = None, ledger: Path | None = None) -> None:
        check_key(config) if base_url is None else None
        self.config = config
        self.base_url = base_url or config.executor_base_url
        self.on_paid: Callable[[str | None, ExecutorUsage], None] | None = None
        self._ledger = ledger
        self._price = price_of(config.executor_model)
        if self._price is None:
            print(
                f"warning: the price of {config.executor_model} is not in aflow_ops/executor/prices.yaml: its tokens "
                "are counted, its cost is not",
                file=sys.stderr,
            )
        self._form = RequestForm(config.executor_model)
        self._usage = ExecutorUsage()
        self._reserved_usd = 0.0
        self._in_flight: dict[str, asyncio.Future[CachedReply]] = {}

    async def __aenter__(self) -> "OpenAIExecutor":
        config = self.config
        urls = [url.strip() for url in (self.base_url or "").split(",") if url.strip()]
        self._pool = EndpointPool(urls or [None], config)
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
        """USD for so many tokens by the price table; 0 when the model is not in it."""
        if self._price is None:
            return 0.0
        return prompt_tokens * self._price[0] + completion_tokens * self._price[1]

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
            ExecutorError: no usable reply after all retries.
            FatalExecutorError: the endpoint refuses the key or the model, or the budget is spent.
        """
        start = time.monotonic()
        key = cache_key(
            self.config.executor_model,
            messages,
            temperature=temperature,
            max_tokens=max_tokens,
            stop=stop,
            sample=sample,
        )
        call = _Call(messages, temperature, max_tokens, list(stop), faults)
        stored = await self._stored(key, call)
        cached = stored is not None
        cost = 0.0
        if stored is None:
            stored, cost = await self._fetch(key, call)
        self._count(stored, cached, cost)
        seconds = time.monotonic() - start
        return Reply(stored.text, stored.prompt_tokens, stored.completion_tokens, cost, seconds, cached)

    async def _stored(self, key: str, call: "_Call") -> CachedReply | None:
        if self._cache is None:
            return None
        while (pending := self._in_flight.get(key)) is not None:
            # Wait for the equal call; when it fails or is cancelled this one makes its own attempt.
            with call.waiting():
                await asyncio.wait([pending])
        return self._cache.get(key)

    async def _fetch(self, key: str, call: "_Call") -> tuple[CachedReply, float]:
        pending: asyncio.Future[CachedReply] = asyncio.get_running_loop().create_future()
        if self._cache is not None:
            self._in_flight[key] = pending
        try:
            reply, cost = await self._paid(call)
            if self.on_paid is not None:  # before it is stored: a kill in between must not hide a payment
                usage = ExecutorUsage(1, 0, reply.prompt_tokens, reply.completion_tokens, cost)
                self.on_paid(None if self._cache is None else key, usage)
            if self._cache is not None:
                self._cache.put(key, reply)
            return reply, cost
        finally:
            self._in_flight.pop(key, None)
            pending.cancel()

    async def _paid(self, call: "_Call") -> tuple[CachedReply, float]:
        """Call the endpoint under the budget, the concurrency cap and the rate limits."""
        copies = 2 if self.config.executor_hedge_seconds else 1
        estimate = copies * self.price(call.prompt_tokens, call.max_tokens)
        budget = self.config.executor_budget_usd
        if 0 < budget < self._usage.cost_usd + self._reserved_usd + estimate:
            raise BudgetExceededError(
                f"the executor budget of ${budget:g} is spent (${self._usage.cost_usd:.4f} so far); raise "
                "--executor_budget_usd to go on: what was paid for is in the cache"
            )
        self._reserved_usd += estimate
        try:
            with call.waiting():
                await self._slots.acquire()
            try:
                with call.waiting():
                    await self._limiter.wait(call.prompt_tokens + call.max_tokens)
                reply, copies = await self._with_retries(call)
            finally:
                self._slots.release()
        finally:
            self._reserved_usd -= estimate
        return reply, copies * self.price(reply.prompt_tokens, reply.completion_tokens)

    async def _with_retries(self, call: "_Call") -> tuple[CachedReply, int]:
        """Try until a usable reply comes, waiting longer each time or as long as the endpoint asks for.

        Returns:
            `tuple` of the reply and how many requests its last attempt made: 2 when it was hedged.
        """
        attempts = self.config.executor_max_retries + 1
        attempt = 0
        while True:
            try:
                return await self._hedged(call)
            except _FATAL as error:
                raise FatalExecutorError(self._explained(error)) from None
            except (openai.APIError, UnusableReplyError) as error:
                if isinstance(error, openai.BadRequestError) and self._form.adapt(str(error)):
                    continue  # the same call, as this model wants it; costs no retry
                attempt += 1
                if not _is_passing(error) or attempt == attempts:
                    raise ExecutorError(f"{self._explained(error)} (after {attempt} attempts)") from None
                with call.waiting():
                    await asyncio.sleep(_backoff(attempt - 1, error))

    async def _hedged(self, call: "_Call") -> tuple[CachedReply, int]:
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

    async def _attempt(self, call: "_Call") -> CachedReply:
        """Send the request once to an endpoint that works; a failure's time counts as lost."""
        with call.waiting():
            admission = await self._pool.admitted()
        began = time.monotonic()
        try:
            async with self._pool.attempt(admission) as endpoint:
                request = self._form.request(call.messages, call.temperature, call.max_tokens, call.stop)
                # Not `chat.completions.create`: checking each message against its schema is a third of a call's work.
                sent = endpoint.client.post("/chat/completions", body=request, cast_to=Response)
                try:
                    response = await asyncio.wait_for(sent, self.config.executor_timeout + 5)
                except TimeoutError:
                    raise UnusableReplyError(f"no reply in {self.config.executor_timeout:g} s") from None
                return read_reply(response.content, call)
        except (openai.APIError, UnusableReplyError):
            call.lost(time.monotonic() - began)
            raise

    def _explained(self, error: Exception) -> str:
        """One line: what went wrong, with what, and what to do."""
        where = f"executor {self.config.executor_model} at {self._pool}"
        text = scrubbed(" ".join(str(error).split()))[:300]
        if isinstance(error, (openai.AuthenticationError, openai.PermissionDeniedError)):
            return f"{where} refuses the key in {KEY_VARIABLE}: {text}"
        if isinstance(error, openai.NotFoundError):
            return f"{where}: model or path not found; check --executor_model and --executor_base_url: {text}"
        if isinstance(error, openai.APIConnectionError):
            # The SDK says "timed out" also when the connection was refused; its cause knows.
            cause = scrubbed(str(error.__cause__ or error))[:200]
            return f"{where} cannot be reached; check --executor_base_url and the network: {cause}"
        return f"{where}: {text}"

    async def preflight(self) -> None:
        """Make one tiny call, so that a wrong key, model or address stops the run before it starts.

        Raises:
            ExecutorError: with the reason and what to check.
        """
        await self._with_retries(_Call([{"role": "user", "content": "Reply with OK."}], 0.0, 1, [], None))

    def _count(self, reply: CachedReply, cached: bool, cost: float) -> None:
        usage = self._usage
        self._usage = dataclasses.replace(
            usage,
            calls=usage.calls + 1,
            cache_hits=usage.cache_hits + cached,
            prompt_tokens=usage.prompt_tokens + (0 if cached else reply.prompt_tokens),
            completion_tokens=usage.completion_tokens + (0 if cached else reply.completion_tokens),
            cost_usd=usage.cost_usd + cost,
        )


@dataclasses.dataclass(frozen=True)
class _Call:
    """One request and the clock of the run that it belongs to."""

    messages: Sequence[Message]
    temperature: float
    max_tokens: int
    stop: list[str]
    faults: FaultClock | None

    @property
    def prompt_tokens(self) -> int:
        """A safe estimate, before the endpoint has counted."""
        return sum(len(message["content"]) for message in self.messages) // 3

    def waiting(self) -> Any:
        return nullcontext() if self.faults is None else self.faults.waiting()

    def lost(self, seconds: float) -> None:
        if self.faults is not None:
            self.faults.add(seconds)


def read_reply(content: bytes, call: _Call) -> CachedReply:
    """Read the body of a reply: the first choice's text and the tokens used.

    Raises:
        UnusableReplyError: it is no completion.
    """
    try:
        body = json.loads(content)
        message = body["choices"][0]["message"]
        text, usage = message.get("content") or "", body.get("usage") or {}
        tokens = int(usage.get("prompt_tokens") or call.prompt_tokens), int(usage.get("completion_tokens") or 0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        shown = content[:80].decode("utf-8", "replace")
        raise UnusableReplyError(f"a reply that is no completion ({type(error).__name__}): {shown}") from None
    if not isinstance(text, str):
        raise UnusableReplyError(f"a reply whose content is no text: {str(text)[:80]}")
    writable = text.encode("utf-8", "replace").decode("utf-8")  # half an emoji, cut off at the token limit
    return CachedReply(writable, *tokens)


def _is_passing(error: Exception) -> bool:
    """Whether the same call may succeed later."""
    if isinstance(error, openai.APIStatusError):
        daily = "per day" in str(error) or "insufficient_quota" in str(error)
        return (error.status_code in (408, 409, 429) or error.status_code >= 500) and not daily
    return True


def _seconds(retry_after: str) -> float:
    """The wait that `Retry-After` asks for, in seconds or as a date (RFC 9110, 10.2.3); -1 when it is neither."""
    try:
        return float(retry_after)
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return -1.0


def _backoff(attempt: int, error: Exception) -> float:
    """Seconds to wait: what `Retry-After` says, else exponential with full jitter."""
    if isinstance(error, openai.APIStatusError):
        asked = _seconds(error.response.headers.get("retry-after", ""))
        if 0 <= asked <= 10 * MAX_BACKOFF_SECONDS:
            return asked + _JITTER.uniform(0, 0.1)
    return _JITTER.uniform(0.1, min(MAX_BACKOFF_SECONDS, 0.5 * 2.0**attempt))
