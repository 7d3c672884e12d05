"""A provider of one's own, and replies of any content; the modes of real servers are in endpoint_modes.py."""

import json
from typing import Any, get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aflow_ops.executor import Call, Completion, ExecutorConfig, Transport, TransportError, open_executor
from aflow_ops.executor.reading import MOST_TOKENS, read_completion
from aflow_ops.executor.refusals import failure_of, read_refusal
from aflow_ops.executor.transport import Failure

CALL = Call([{"role": "user", "content": "What is 6 * 7?"}], 0.0, 8)


class Parrot(Transport):
    """Repeats the last message."""

    async def send(self, call: Call) -> Completion:
        return Completion(call.messages[-1]["content"], call.prompt_tokens, 1)


@pytest.mark.parametrize("where", [__name__, __file__])
async def test_a_provider_of_ones_own_is_one_class_and_inherits_cache_and_accounts(where: str, tmp_path: Any) -> None:
    config = ExecutorConfig(
        executor=f"{where}:Parrot", executor_price=[1.0, 1.0], executor_cache_dir=str(tmp_path / "cache")
    )
    async with open_executor(config) as executor:
        first, second = [await executor.complete(CALL.messages, temperature=0, max_tokens=8) for _ in range(2)]
    assert (first.text, first.cached, second.cached) == ("What is 6 * 7?", False, True)
    assert first.cost_usd > 0 == second.cost_usd


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.fixed_dictionaries({}, optional={
    "content": JSON, "refusal": JSON, "reasoning": JSON, "tool_calls": JSON}), JSON, JSON, JSON)  # fmt: skip
def test_whatever_a_reply_holds_it_is_an_answer_or_an_error_and_costs_no_less_than_nothing(
    message: Any, ending: Any, usage: Any, error: Any
) -> None:
    body = {"choices": [{"message": message, "finish_reason": ending}], "usage": usage, "error": error}
    try:
        completion, _ = read_completion(json.dumps(body).encode(), CALL)
    except TransportError as failure:
        completion = failure.billed or Completion("", 0, 0)
    assert 0 <= completion.prompt_tokens <= MOST_TOKENS and 0 <= completion.completion_tokens <= MOST_TOKENS


@given(JSON | st.binary(max_size=40), st.integers(400, 599))
def test_whatever_an_error_says_it_has_a_meaning_and_a_reason_on_one_line(body: Any, status: int) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    refusal = read_refusal(status, content, {})
    assert failure_of(refusal, answered=True) in get_args(Failure)
    assert len(str(refusal).splitlines()) == 1


WORDS = ["sorry", "content policy", "content_filter", "I cannot", "insufficient quota", "<think", "error", "tool_calls"]


@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=9), min_size=1).map(" ".join))
def test_no_word_of_an_answer_makes_it_a_refusal(text: str) -> None:
    assume("think>" not in text)
    body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    completion, _ = read_completion(json.dumps(body).encode(), CALL)
    assert completion.text == text.encode("utf-8", "replace").decode()
