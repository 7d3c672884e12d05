"""What comes of every way in which a server may answer, over real HTTP: outcome, cost, cache entry and message."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aflow_ops.errors import BudgetExceededError, CallRefusedError, ExecutorError, FatalExecutorError
from aflow_ops.executor import ExecutorConfig, Message, MeteredExecutor, open_executor
from tests.aflow_ops.endpoint_modes import COUNTED, MODES, Mode, Outcome, said
from tests.conftest import KEY
from tests.patience import PATIENCE
from tests.stub_endpoint import Messages, StubEndpoint

QUESTION: list[Message] = [
    {"role": "system", "content": "Be brief, ok"},
    {"role": "user", "content": "What is 6 * 7?"},
]
ENDINGS: dict[type[Exception], Outcome] = {
    BudgetExceededError: "budget spent",
    FatalExecutorError: "run stops",
    ExecutorError: "no verdict",
    CallRefusedError: "no verdict",
}


@pytest.fixture(scope="module")
def server() -> Iterator[StubEndpoint]:
    with StubEndpoint() as endpoint:
        yield endpoint


def play(server: StubEndpoint, mode: Mode) -> None:
    """Have the server answer as the mode says, after what it answers first."""
    server.requests.clear()

    def answer(messages: Messages) -> Any:
        turn = len(server.requests) - 1 - mode.after
        if turn < 0:
            return said("42")
        response = mode.script[min(turn, len(mode.script) - 1)]
        return response(server.requests[-1]) if callable(response) else response

    server.answer = answer
    server.slow_seconds = 1.0


def settings(server: StubEndpoint, cache: Path, mode: Mode) -> ExecutorConfig:
    values: dict[str, Any] = {
        "executor_base_url": server.url,
        "executor_cache_dir": str(cache),
        "executor_max_retries": 1,
        "executor_max_backoff": 0,
        "executor_outage_seconds": PATIENCE,
        "executor_timeout": PATIENCE,
        "executor_price": [1e6, 1e6],
        "executor_thinking_tokens": 64,
    }
    return ExecutorConfig(**values | mode.settings)


async def ask(executor: MeteredExecutor, messages: list[Message] = QUESTION) -> str:
    reply = await executor.complete(messages, temperature=0, max_tokens=100, stop=["\n\n\n"])
    return reply.text


async def outcome_of(executor: MeteredExecutor, mode: Mode) -> tuple[Outcome, str]:
    """Ask the question; returns what came of it, and the answer or the message."""
    try:
        return "answer", await ask(executor)
    except ExecutorError as error:
        return ENDINGS[type(error)], str(error)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
async def test_what_comes_of_it(
    server: StubEndpoint, mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    play(server, mode)
    async with open_executor(settings(server, tmp_path, mode)) as executor:
        for number in range(mode.after):
            await ask(executor, [{"role": "user", "content": f"before {number}"}])
        outcome, text = await outcome_of(executor, mode)
        statistics = executor.cache_statistics
        cost = executor.usage.cost_usd
    assert (outcome, len(server.requests) - mode.after) == (mode.outcome, mode.requests), text
    assert cost - mode.after * COUNTED == pytest.approx(mode.cost)
    assert statistics is not None
    assert statistics["entries"] - mode.after == (1 if outcome == "answer" else 0)
    if outcome == "answer":
        assert text == mode.text
    else:
        assert re.search(mode.says, text), text
        assert len(text.splitlines()) == 1 and KEY not in text


def test_the_table_names_each_mode_once() -> None:
    names = [mode.name for mode in MODES]
    assert len(names) == len(set(names)) >= 60
