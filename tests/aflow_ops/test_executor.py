import asyncio
import dataclasses
import json
import logging
import re
import sqlite3
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_ops.errors import BudgetExceededError, ExecutorError, FatalExecutorError, UsageError
from aflow_ops.executor import (
    Call,
    Completion,
    ExecutorConfig,
    ExecutorUsage,
    Message,
    Reply,
    check_executor,
    check_key,
    open_executor,
)
from aflow_ops.executor.limits import RateLimiter
from aflow_ops.executor.reading import read_completion
from tests.conftest import KEY
from tests.patience import PATIENCE
from tests.stub_endpoint import Broken, Failure, Messages, StubEndpoint

HELLO: list[Message] = [{"role": "user", "content": "hello"}]


async def ask(config: ExecutorConfig, *contents: str, temperature: float = 0.0, sample: int = 0) -> list[Reply]:
    async with open_executor(config) as executor:
        return list(
            await asyncio.gather(
                *(
                    executor.complete(
                        [{"role": "user", "content": content}], temperature=temperature, max_tokens=8, sample=sample
                    )
                    for content in contents
                )
            )
        )


async def test_a_cache_that_cannot_be_made_names_its_flag(config: ExecutorConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="--executor_cache_dir"):
        await ask(dataclasses.replace(config, executor_cache_dir=str(tmp_path / "file" / "cache")), "one")


async def test_the_query_of_an_address_goes_with_every_request(config: ExecutorConfig, stub: StubEndpoint) -> None:
    address = f"{stub.url}/chat/completions?api-version=2024-10-21&tenant="
    azure = dataclasses.replace(config, executor_base_url=address, executor_cache_dir="none")
    await ask(azure, "one", "two")
    await check_executor(azure)
    assert stub.queries == [{"api-version": "2024-10-21", "tenant": ""}] * 3
    await ask(dataclasses.replace(config, executor_cache_dir="none"), "three")
    assert stub.queries[3:] == [{}]


def test_the_documentation_has_every_flag_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "aflow_ops" / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (`--executor[^|]*) \| ([^|]*) \|", page, re.MULTILINE))
    told = {name: default for flags, default in rows.items() for name in re.findall(r"--(\w+)", flags)}
    flags = {setting.name: setting.default for setting in dataclasses.fields(ExecutorConfig)}
    assert told.keys() == flags.keys()
    for name, default in flags.items():
        if default is not None:
            shown = f"{default:g}" if isinstance(default, float) else str(default)
            assert told[name].strip("`").startswith(shown), name


async def test_a_reply_has_text_tokens_and_price(config: ExecutorConfig, stub: StubEndpoint) -> None:
    (reply,) = await ask(config, "hello there")
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens, reply.cached) == ("42", 2, 1, False)
    assert reply.cost_usd == pytest.approx(2 * 0.15e-6 + 1 * 0.60e-6)  # gpt-4o-mini
    assert stub.keys == [f"Bearer {KEY}"]
    assert stub.requests[0]["model"] == "gpt-4o-mini"
    assert stub.requests[0]["max_tokens"] == 8


async def test_the_second_run_pays_nothing(config: ExecutorConfig, stub: StubEndpoint) -> None:
    await ask(config, "a", "b")
    replies = await ask(config, "a", "b")
    assert len(stub.requests) == 2
    assert all(reply.cached and reply.cost_usd == 0 and reply.prompt_tokens == 1 for reply in replies)


async def test_equal_calls_in_flight_are_made_once(config: ExecutorConfig, stub: StubEndpoint) -> None:
    stub.latency = 0.2
    await ask(config, *["same"] * 5)
    assert len(stub.requests) == 1


async def test_samples_are_kept_apart_above_temperature_zero_only(config: ExecutorConfig, stub: StubEndpoint) -> None:
    for sample in range(3):
        await ask(config, "a", temperature=0.7, sample=sample)
    assert len(stub.requests) == 3
    for sample in range(3):
        await ask(config, "a", temperature=0.0, sample=sample)
    assert len(stub.requests) == 4


async def test_the_cache_can_be_turned_off(config: ExecutorConfig, stub: StubEndpoint) -> None:
    off = dataclasses.replace(config, executor_cache_dir="none")
    await ask(off, "a")
    await ask(off, "a")
    assert len(stub.requests) == 2


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_passing_failures_are_retried(config: ExecutorConfig, stub: StubEndpoint, status: int) -> None:
    def answer(messages: Messages) -> str | Failure:
        return Failure(status, headers={"Retry-After": "0"}) if len(stub.requests) == 1 else "42"

    stub.answer = answer
    (reply,) = await ask(config, "a")
    assert reply.text == "42"
    assert len(stub.requests) == 2


async def test_a_retry_waits_until_the_date_that_the_endpoint_names(config: ExecutorConfig, stub: StubEndpoint) -> None:
    def answer(messages: Messages) -> str | Failure:
        until = formatdate(time.time() + 2, usegmt=True)  # in whole seconds
        return Failure(429, headers={"Retry-After": until}) if len(stub.requests) == 1 else "42"

    stub.answer = answer
    start = time.monotonic()
    (reply,) = await ask(config, "a")
    assert reply.text == "42"
    assert time.monotonic() - start > 0.9


def test_a_reply_without_counts_is_a_reply() -> None:
    body = {"choices": [{"message": {"content": "42"}}], "usage": {"prompt_tokens": None, "completion_tokens": None}}
    call = Call([{"role": "user", "content": "What is 6 * 7?"}], 0.0, 8)
    assert read_completion(json.dumps(body).encode(), call) == (Completion("42", call.prompt_tokens, 1), False)


async def test_retries_end(config: ExecutorConfig, stub: StubEndpoint) -> None:
    stub.answer = lambda messages: Failure(500, headers={"Retry-After": "0"})
    with pytest.raises(ExecutorError, match="after 2 attempts"):
        await ask(config, "a")
    assert len(stub.requests) == 2


async def test_a_check_takes_the_first_denial_for_final(config: ExecutorConfig, stub: StubEndpoint) -> None:
    for status in (401, 403, 404):
        stub.requests.clear()
        stub.answer = lambda messages, status=status: Failure(status)  # type: ignore[misc]
        with pytest.raises(FatalExecutorError):
            await check_executor(config)
        assert len(stub.requests) == 1


async def test_after_a_check_a_denial_is_about_one_call(config: ExecutorConfig, stub: StubEndpoint) -> None:
    stub.answer = lambda messages: Failure(404)
    async with open_executor(config, proven=True) as executor:
        for content in "ab":
            with pytest.raises(ExecutorError) as caught:
                await executor.complete([{"role": "user", "content": content}], temperature=0, max_tokens=8)
            assert not isinstance(caught.value, FatalExecutorError)


async def test_an_unreachable_endpoint_says_what_to_check(config: ExecutorConfig) -> None:
    nowhere = dataclasses.replace(config, executor_base_url="http://127.0.0.1:9/v1", executor_max_retries=0)
    with pytest.raises(ExecutorError, match="cannot be reached; check --executor_base_url"):
        await check_executor(nowhere)


async def test_the_budget_stops_before_it_is_passed(config: ExecutorConfig, stub: StubEndpoint) -> None:
    tight = dataclasses.replace(config, executor_budget_usd=2e-5)
    async with open_executor(tight) as executor:
        with pytest.raises(BudgetExceededError, match="executor_budget_usd"):
            for index in range(100):
                await executor.complete([{"role": "user", "content": str(index)}], temperature=0, max_tokens=8)
        assert 0 < executor.usage.cost_usd <= 2e-5


async def test_the_concurrency_cap_holds(config: ExecutorConfig, stub: StubEndpoint) -> None:
    stub.latency = 0.05
    await ask(dataclasses.replace(config, executor_max_concurrency=3), *map(str, range(12)))
    assert stub.most_in_flight <= 3


async def test_a_slow_reply_counts_as_none(config: ExecutorConfig, stub: StubEndpoint) -> None:
    stub.latency = 5
    with pytest.raises(ExecutorError):
        await ask(dataclasses.replace(config, executor_timeout=0.3, executor_max_retries=0), "a")


async def test_the_key_reaches_neither_log_nor_cache_nor_error(
    config: ExecutorConfig, stub: StubEndpoint, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    stub.answer = lambda messages: Failure(401, f"Incorrect API key provided: {KEY}")
    with pytest.raises(FatalExecutorError) as caught:
        await ask(config, "a")
    stub.answer = lambda messages: "42"
    await ask(config, "a")
    assert KEY not in str(caught.value)
    assert KEY not in caplog.text
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not any(KEY.encode() in content for content in files)


def test_processes_share_the_budget_and_the_rate_limits() -> None:
    config = ExecutorConfig(executor_budget_usd=10, executor_rpm=100, executor_tpm=0)
    part = config.shared_by(4, nodes=2)
    assert (part.executor_budget_usd, part.executor_rpm, part.executor_tpm) == (2.5, 50, 0)
    assert config.shared_by(1) == config
    assert ExecutorUsage(1, 2, 3, 4, 0.5) + ExecutorUsage(1, 0, 0, 1, 0.5) == ExecutorUsage(2, 2, 3, 5, 1.0)


def test_no_key_names_both_ways_forward() -> None:
    with pytest.raises(UsageError, match=r"(?s)OPENAI_API_KEY.*--executor local"):
        check_key(ExecutorConfig())


def test_another_endpoint_needs_no_key() -> None:
    check_key(ExecutorConfig(executor_base_url="http://localhost:8000/v1"))


@pytest.mark.parametrize(
    "values", [{"executor": "magic"}, {"executor_timeout": 0}, {"executor_rpm": -1}, {"executor_max_concurrency": 0}]
)
def test_values_out_of_range_are_named(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        ExecutorConfig(**values)  # type: ignore[arg-type]


async def test_the_rate_limiter_keeps_to_requests_a_minute() -> None:
    now, slept = 0.0, []

    async def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    limiter = RateLimiter(60, 0, clock=lambda: now, sleep=sleep)
    for _ in range(180):
        await limiter.wait(10)
    assert now >= 119  # the first minute's worth may go at once


async def test_one_heavy_request_passes_alone() -> None:
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    limiter = RateLimiter(0, 100, clock=lambda: now, sleep=sleep)
    for tokens in (60, 60, 1000, 60):
        await limiter.wait(tokens)
    assert now == 180


@given(
    requests=st.integers(1, 5),
    tokens=st.integers(10, 50),
    sizes=st.lists(st.tuples(st.integers(1, 10), st.integers(0, 30)), min_size=1, max_size=40),
)
def test_no_minute_of_two_processes_has_more_than_the_limits(
    requests: int, tokens: int, sizes: list[tuple[int, int]]
) -> None:
    now, passed = 0.0, []

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    async def spend(ledger: Path) -> None:
        nonlocal now
        limiters = [RateLimiter(requests, tokens, ledger, clock=lambda: now, sleep=sleep) for _ in range(2)]
        for turn, (size, pause) in enumerate(sizes):
            now += pause
            await limiters[turn % 2].wait(size)
            passed.append((now, size))
        for limiter in limiters:
            limiter.close()

    with TemporaryDirectory() as folder:
        asyncio.run(spend(Path(folder) / "rates"))
    for at, _ in passed:
        window = [size for other, size in passed if at <= other < at + 60]
        assert len(window) <= requests
        assert sum(window) <= tokens


def test_processes_share_one_ledger(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys, time; from pathlib import Path; from aflow_ops.executor.limits import RateLimiter\n"
        "async def run():\n"
        "    limiter = RateLimiter(40, 0, Path(sys.argv[1]))\n"
        "    count = 0\n"
        "    while limiter._take(1) == 0: count += 1\n"
        "    print(count)\n"
        "asyncio.run(run())"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "rates")]
    ranks = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sum(int(rank.communicate(timeout=PATIENCE)[0]) for rank in ranks) == 40


async def test_a_slow_call_is_sent_again_and_the_first_reply_is_taken(
    config: ExecutorConfig, stub: StubEndpoint
) -> None:
    stub.slow_seconds = 5
    stub.answer = lambda messages: Broken("slow") if len(stub.requests) == 1 else "42"
    hedged = dataclasses.replace(config, executor_hedge_seconds=0.2)
    async with open_executor(hedged) as executor:
        reply = await executor.complete([{"role": "user", "content": "x"}], temperature=0, max_tokens=8)
        assert reply.cost_usd == pytest.approx(2 * executor.price(reply.prompt_tokens, reply.completion_tokens))
        quick = await executor.complete([{"role": "user", "content": "y"}], temperature=0, max_tokens=8)
        assert quick.cost_usd == pytest.approx(executor.price(quick.prompt_tokens, quick.completion_tokens))
    assert len(stub.requests) == 3


async def test_hedging_changes_neither_errors_nor_retries(config: ExecutorConfig, stub: StubEndpoint) -> None:
    stub.answer = lambda messages: Failure(500)
    hedged = dataclasses.replace(config, executor_hedge_seconds=5, executor_max_retries=1)
    async with open_executor(hedged) as executor:
        with pytest.raises(ExecutorError, match="after 2 attempts"):
            await executor.complete([{"role": "user", "content": "x"}], temperature=0, max_tokens=8)
    assert len(stub.requests) == 2


async def test_a_broken_cache_entry_is_dropped_fetched_again_and_counted(
    config: ExecutorConfig, stub: StubEndpoint
) -> None:
    await ask(config, "a")
    with sqlite3.connect(Path(config.executor_cache_dir) / "cache.db") as database:
        database.execute("UPDATE Cache SET value = ?", (b"\x00 no json",))
    async with open_executor(config) as executor:
        message: Message = {"role": "user", "content": "a"}
        assert (await executor.complete([message], temperature=0, max_tokens=8)).text == "42"
        assert not executor.usage.cache_hits
        assert (await executor.complete([message], temperature=0, max_tokens=8)).cached
        statistics = executor.cache_statistics
    assert statistics is not None
    assert (statistics["entries"], statistics["dropped"]) == (1, 1)
    assert statistics["bytes"] > 0


@pytest.mark.long
async def test_the_embedded_executor_comes_back_when_it_is_killed(tmp_path: Path) -> None:
    patient = {"executor_timeout": PATIENCE, "executor_outage_seconds": PATIENCE, "executor_max_retries": 1000}
    config = ExecutorConfig(executor="local", executor_cache_dir="none", **patient)  # type: ignore[arg-type]
    async with open_executor(config, run_dir=tmp_path) as executor:

        async def ask(index: int) -> str:
            message: list[Message] = [{"role": "user", "content": f"Say {index}."}]
            return (await executor.complete(message, temperature=0, max_tokens=16)).text

        first = asyncio.gather(*(ask(index) for index in range(6)))
        await asyncio.sleep(0.3)
        server = next(p for p in psutil.Process().children() if "aflow_ops.executor.embedded_server" in p.cmdline())
        server.kill()
        assert all(await first)
        assert await ask(99)


def test_half_a_surrogate_pair_in_a_reply_is_not_the_policys_fault() -> None:
    body = json.dumps({"choices": [{"message": {"content": "72 \ud83d"}}], "usage": {"prompt_tokens": 1}})
    completion, _ = read_completion(body.encode(), Call(HELLO, 0.0, 8))
    assert completion.text == "72 ?"
