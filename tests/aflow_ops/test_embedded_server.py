"""The embedded executor's server, as a client of OpenAI's protocol sees it."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio

from aflow_ops.executor.embedded import embedded_server
from tests.patience import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
STORY = [{"role": "user", "content": "Tell me a story about a river."}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        embedded_server(Path(tmp_path_factory.mktemp("server"))) as url,
        openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=PATIENCE) as opened,
    ):
        yield opened


async def ask(client: openai.AsyncOpenAI, messages: Any = STORY, **fields: Any) -> Any:
    return await client.chat.completions.create(model="SmolLM2", messages=messages, **{"max_tokens": 24, **fields})


def text(reply: Any) -> str:
    return str(reply.choices[0].message.content)


async def test_replies_say_what_they_cost_and_many_are_given_at_once(client: openai.AsyncOpenAI) -> None:
    counts = [[{"role": "user", "content": f"Count from {i} to 100."}] for i in range(24)]
    replies = await asyncio.gather(*(ask(client, messages, temperature=0) for messages in counts))
    assert all(text(reply) for reply in replies)
    assert all(reply.usage.completion_tokens <= 24 < reply.usage.prompt_tokens for reply in replies)
    assert "length" in {reply.choices[0].finish_reason for reply in replies}


async def test_samples_of_one_request_differ_and_a_seed_repeats_one(client: openai.AsyncOpenAI) -> None:
    samples = await asyncio.gather(*(ask(client, temperature=1.0) for _ in range(4)))
    assert len({text(sample) for sample in samples}) > 1
    first, second, other = [text(await ask(client, temperature=1.0, seed=seed)) for seed in (7, 7, 8)]
    assert first == second != other


async def test_a_reply_ends_at_a_stop_string_and_at_its_own_end(client: openai.AsyncOpenAI) -> None:
    whole = text(await ask(client, temperature=0))
    stop = " ".join(whole.split()[3:5])
    stopped = await ask(client, temperature=0, stop=[stop])
    assert whole.startswith(text(stopped))
    assert stop not in text(stopped)
    ended = await ask(client, [{"role": "user", "content": "Say only: yes"}], temperature=0, max_tokens=200)
    assert {stopped.choices[0].finish_reason, ended.choices[0].finish_reason} == {"stop"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"messages": [{"role": "user", "content": "river " * 3000}]}, "maximum context length is 2048"),
        ({"messages": "no list"}, "messages"),
        ({"temperature": "warm"}, "warm"),
        ({"max_tokens": -3}, "max_tokens is at least 1"),
    ],
)
async def test_what_cannot_be_answered_is_refused_with_the_reason(
    client: openai.AsyncOpenAI, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=said):
        await ask(client, **fields)


async def test_a_client_that_leaves_takes_its_request_along(client: openai.AsyncOpenAI) -> None:
    gone = [asyncio.create_task(ask(client, temperature=1.0, max_tokens=1500)) for _ in range(16)]
    await asyncio.sleep(0.5)
    for task in gone:
        task.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    assert text(await ask(client, temperature=0))


WATCHED = """
import asyncio, importlib, sys, time
from types import SimpleNamespace

embedded_server = importlib.import_module("aflow_ops.executor.embedded_server")
embedded_server.STUCK_SECONDS, embedded_server.BEAT_SECONDS = 5.0, 0.05
engine = SimpleNamespace(steps=0, busy=True)


async def main(kind):
    watching = asyncio.create_task(embedded_server.watch(engine))
    for beat in range(120):
        await asyncio.sleep(0.05)
        engine.steps += kind == "decodes"
        engine.busy = kind != "waits"
    while kind == "stands still":
        await asyncio.sleep(0.05)
    if kind == "does not come round":
        time.sleep({patience})
    watching.cancel()

asyncio.run(main(sys.argv[1]))
print("ended by itself")
"""


@pytest.mark.parametrize(
    ("kind", "ends"),
    [("decodes", True), ("waits", True), ("stands still", False), ("does not come round", False)],
)
async def test_a_process_that_is_stuck_ends_and_says_where(kind: str, ends: bool) -> None:
    program = WATCHED.replace("{patience}", str(PATIENCE))
    ran = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program, kind], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (ran.returncode == 0) == ends, ran.stderr
    assert ("ended by itself" in ran.stdout) == ends
    assert ("Timeout" in ran.stderr and "most recent call first" in ran.stderr) != ends
