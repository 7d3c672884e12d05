"""What of a reply is an answer, and a provider of one's own."""

import json
from typing import Any

import pytest

from aflow_ops.executor import Call, Completion, ExecutorConfig, Transport, TransportError, open_executor
from aflow_ops.executor.reading import read_completion

CALL = Call([{"role": "user", "content": "What is 6 * 7?"}], 0.0, 8)


class Parrot(Transport):
    """Repeats the last message."""

    async def send(self, call: Call) -> Completion:
        return Completion(call.messages[-1]["content"], call.prompt_tokens, 1)


async def test_a_provider_of_ones_own_is_one_class_and_inherits_cache_and_accounts(tmp_path: Any) -> None:
    config = ExecutorConfig(
        executor=f"{__name__}:Parrot", executor_price=[1.0, 1.0], executor_cache_dir=str(tmp_path / "cache")
    )
    async with open_executor(config) as executor:
        first, second = [await executor.complete(CALL.messages, temperature=0, max_tokens=8) for _ in range(2)]
    assert (first.text, first.cached, second.cached) == ("What is 6 * 7?", False, True)
    assert first.cost_usd > 0 == second.cost_usd


def body(content: Any, ending: str = "stop", **message: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"content": content, **message}, "finish_reason": ending}]}).encode()


@pytest.mark.parametrize(
    "content",
    [
        body("42"),
        body("42", "length"),
        body("<think>six times seven</think>42"),
        body("six times seven</think>\n42"),
        body("42", reasoning_content="six times seven"),
        body([{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]),
        b'data: {"choices": [{"delta": {"content": "4"}}]}\n\ndata: {"choices": [{"delta": {"content": "2"}}]}\n\n'
        b"data: [DONE]\n",
    ],
)
def test_an_answer_is_read(content: bytes) -> None:
    assert read_completion(content, CALL)[0].text == "42"


@pytest.mark.parametrize(
    ("content", "failure"),
    [
        (body("", "error"), "outage"),
        (body("", "content_filter"), "call"),
        (body(None, refusal="I cannot help with that"), "call"),
        (body(None, "tool_calls", tool_calls=[{"id": "1"}]), "busy"),
        (body(None), "busy"),
        (body("<think>six times", "length"), "call"),
        (body("", "length", reasoning_content="six times"), "call"),
        (b"<html>502</html>", "outage"),
    ],
)
def test_what_is_no_answer_is_an_error(content: bytes, failure: str) -> None:
    with pytest.raises(TransportError) as caught:
        read_completion(content, CALL)
    assert caught.value.failure == failure


@pytest.mark.parametrize("count", ["x", [1], -5, float("inf"), float("nan"), None])
def test_a_count_that_cannot_be_true_is_estimated(count: Any) -> None:
    reply = {"choices": [{"message": {"content": "42"}}], "usage": {"prompt_tokens": count, "completion_tokens": count}}
    completion, _ = read_completion(json.dumps(reply).encode(), CALL)
    assert (completion.prompt_tokens, completion.completion_tokens) == (CALL.prompt_tokens, 1)
