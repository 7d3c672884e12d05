"""What servers answer to a plain request, as they were seen to, and what must come of it.

A mode is a script of responses: the last one is repeated. A token costs a dollar. A counted reply takes 7
tokens in and 2 out, one that is estimated 9 in (the question and a system message) and one for each three bytes out.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.stub_endpoint import Broken, Raw

Outcome = Literal["answer", "no verdict", "run stops", "budget spent"]
Response = Raw | Broken
Script = tuple[Response | Callable[[dict[str, Any]], Response], ...]

USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
ESTIMATED_PROMPT = 9
COUNTED, ESTIMATED = 9, ESTIMATED_PROMPT + 1


@dataclass(frozen=True)
class Mode:
    """One way to answer.

    Args:
        name: what the server does.
        script: its responses.
        outcome: what comes of the call.
        says: pattern in the error's message.
        requests: how many it takes; 2 is one retry.
        cost: what it costs, in tokens.
        text: the answer.
        after: answered this many other calls before.
        settings: flags of the executor.
    """

    name: str
    script: Script
    outcome: Outcome
    says: str = ""
    requests: int = 1
    cost: int = COUNTED
    text: str = "42"
    after: int = 0
    settings: dict[str, Any] = field(default_factory=dict)


def said(content: Any, ending: Any = "stop", usage: Any = USAGE, **message: Any) -> Raw:
    """A completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": ending}
    return Raw({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage})


def failed(status: int, body: Any = None, **headers: str) -> Raw:
    """An error response; text is taken for the message of OpenAI's form."""
    shaped = {"error": {"message": body, "type": "error", "code": None}} if isinstance(body, str) else body
    return Raw(shaped, status, {name.replace("_", "-"): value for name, value in headers.items()})


def retry_info(delay: Any) -> list[dict[str, Any]]:
    """An error of Gemini's that asks for a pause in its details."""
    kind = "type.googleapis.com/google.rpc."
    details = [{"@type": f"{kind}Help", "links": []}, {"@type": f"{kind}RetryInfo", "retryDelay": delay}]
    return [{"error": {"code": 429, "message": "Resource exhausted.", "status": "RESOURCE_EXHAUSTED",
                       "details": details}}]  # fmt: skip


def plain(text: str | bytes, status: int = 200, kind: str = "text/html") -> Raw:
    """A response that is no JSON."""
    return Raw(text, status, {"Content-Type": kind})


def events(*chunks: Any, done: bool = True, kind: str = "text/event-stream") -> Raw:
    """Server-sent events."""
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + ["data: [DONE]\n\n"] * done
    return Raw("".join(lines), headers={"Content-Type": kind})


def piece(ending: str | None = None, **delta: Any) -> dict[str, Any]:
    """A chunk of a stream."""
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": ending}]}


def unless(refuses: Callable[[dict[str, Any]], bool], refusal: Response) -> Callable[[dict[str, Any]], Response]:
    """A server that refuses requests of one form and answers all others."""
    return lambda request: refusal if refuses(request) else said("42")


def roles(request: dict[str, Any]) -> list[str]:
    return [message["role"] for message in request["messages"]]


GOOD = said("42")
THINK = said("<think>6 * 7 = 42")

ANSWERS = [
    Mode("a plain completion", (GOOD,), "answer"),
    Mode("cut off at the token limit", (said("42", "length"),), "answer"),
    Mode("no finish_reason", (said("42", None),), "answer"),
    Mode("another name for the end", (said("42", "eos"),), "answer"),
    Mode("an empty text", (said("", usage={"prompt_tokens": 7, "completion_tokens": 0}),), "answer", text="", cost=7),
    Mode("apologises in an answer", (said("I'm sorry, I cannot help but admire 42"),), "answer",
         text="I'm sorry, I cannot help but admire 42"),
    Mode("an answer about content policy", (said("The content policy was flagged: content_filter"),), "answer",
         text="The content policy was flagged: content_filter"),
    Mode("an answer about errors", (said('{"error": {"code": 401}}'),), "answer", text='{"error": {"code": 401}}'),
    Mode("an answer that quotes the tag", (said('Write "<think>" first, then 42'),), "answer",
         text='Write "<think>" first, then 42'),
    Mode("an answer in tags of its own", (said("<thought>why</thought><answer>42</answer>"),), "answer",
         text="<thought>why</thought><answer>42</answer>"),
    Mode("filter results that found nothing", (Raw({"choices": [{"message": {"content": "42", "refusal": None},
         "finish_reason": "stop", "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}],
         "usage": USAGE}),), "answer"),
    Mode("empty lists of tool calls", (said("42", tool_calls=[], function_call=None, refusal=""),), "answer"),
    Mode("error: null", (Raw({"error": None, "choices": [{"message": {"content": "42"}}], "usage": USAGE}),), "answer"),
    Mode("the old form of completions", (Raw({"choices": [{"text": "42"}], "usage": USAGE}),), "answer"),
    Mode("text around the JSON", (plain("\n\n  " + json.dumps(GOOD.body) + "\n", kind="text/plain"),), "answer"),
    Mode("a byte order mark", (Raw(b"\xef\xbb\xbf" + json.dumps(GOOD.body).encode()),), "answer"),
    Mode("half a surrogate pair", (said("42 \ud83d"),), "answer", text="42 ?"),
    Mode("vLLM's further fields", (Raw({"choices": [{"index": 0, "message": {"role": "assistant", "content": "42",
         "reasoning_content": None, "tool_calls": []}, "logprobs": None, "finish_reason": "stop", "stop_reason": "\n"}],
         "usage": {**USAGE, "prompt_tokens_details": None}, "prompt_logprobs": None}),), "answer"),
    Mode("a choice that is not the first", (Raw({"choices": [{"index": 1, "message": {"content": "41"}}, {"index": 0,
         "message": {"content": "42"}}], "usage": USAGE}),), "answer"),
    Mode("a delta in a whole completion", (Raw({"choices": [{"delta": {"content": "42"}, "finish_reason": "stop"}],
         "usage": USAGE}),), "answer"),
    Mode("half a hundred empty lines first", (plain("\n" * 50 + json.dumps(GOOD.body)),), "answer"),
    Mode("the end in capitals", (said("42", "STOP"),), "answer"),
    Mode("the token limit in capitals", (said("42", "MAX_TOKENS"),), "answer"),
    Mode("an end that is an object", (said("42", {"type": "stop", "matched": 1}),), "answer"),
]  # fmt: skip

THOUGHTS = [
    Mode("closed think tags", (said("<think>6 * 7\n= 42</think>\n\n42"),), "answer"),
    Mode("only a closing think tag", (said("6 * 7 = 42\n</think>\n42"),), "answer"),
    Mode("two thoughts", (said("<think>a</think>no<think>b</think>42"),), "answer", text="no42"),
    Mode("think tags, cut off in the answer", (said("<think>a</think>42", "length"),), "answer"),
    Mode("thinking tags", (said("<thinking>a</thinking>42"),), "answer"),
    Mode("Magistral's tags", (said("[THINK]a[/THINK]42"),), "answer"),
    Mode("Kimi's tags", (said("◁think▷a◁/think▷42"),), "answer"),
    Mode("Seed's tags", (said("<seed:think>a</seed:think>42"),), "answer"),
    Mode("gpt-oss channels", (said("<|channel|>analysis<|message|>a<|end|><|start|>assistant"
         "<|channel|>final<|message|>42"),), "answer"),
    Mode("gpt-oss, cut off in its analysis", (said("<|channel|>analysis<|message|>6 times", "length"),), "no verdict",
         says="done thinking.*--executor_thinking_tokens", requests=2, cost=2 * COUNTED),
    Mode("reasoning_content", (said("42", reasoning_content="6 * 7"),), "answer"),
    Mode("reasoning", (said("42", reasoning="6 * 7"),), "answer"),
    Mode("reasoning_details", (said("42", reasoning_details=[{"type": "reasoning.text", "text": "6 * 7"}]),), "answer"),
    Mode("an unclosed thought, then room for it", (THINK, GOOD), "answer", requests=2, cost=2 * COUNTED),
    Mode("an unclosed thought each time", (THINK,), "no verdict", says="done thinking.*--executor_thinking_tokens",
         requests=2, cost=2 * COUNTED),
    Mode("cut off while thinking in tags", (said("<think>6 *", "length"),), "no verdict", says="done thinking",
         requests=2, cost=2 * COUNTED),
    Mode("cut off while thinking beside the content", (said("", "length", reasoning_content="6 *"),), "no verdict",
         says="done thinking", requests=2, cost=2 * COUNTED),
    Mode("cut off before any content", (said(None, "length"),), "no verdict", says="done thinking", requests=2,
         cost=2 * COUNTED),
    Mode("thought and said nothing", (said("<think>42</think>"),), "no verdict", says="without content", requests=2,
         cost=2 * COUNTED),
    Mode("an empty thought first", (said("<think>\n\n</think>\n\n42"),), "answer"),
    Mode("the thought twice", (said("<think>6 * 7</think>42", reasoning_content="6 * 7"),), "answer"),
    Mode("thoughts without an answer beside them", (said("", reasoning_content="42"),), "no verdict", requests=2,
         says="without content", cost=2 * COUNTED),
    Mode("no content, its thoughts in the total", (Raw({"choices": [{"finish_reason": "length", "message": {}}],
         "usage": {"prompt_tokens": 7, "completion_tokens": 0, "total_tokens": 107}}),), "no verdict",
         says="done thinking", requests=2, cost=2 * 107),
    Mode("thinking tags in capitals", (said("<THINK>a</THINK>42"),), "answer"),
    Mode("Cohere's tags", (said("<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>42<|END_RESPONSE|>"),), "answer"),
    Mode("OpenThinker's tags", (said("<|begin_of_thought|>a<|end_of_thought|>\n<|begin_of_solution|>42"
         "<|end_of_solution|>"),), "answer"),
    Mode("a thought in a thought", (said("<think>a<think>b</think>c</think>42"),), "answer"),
]  # fmt: skip

PARTS = [
    Mode("content as a list of parts", (said([{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]),),
         "answer"),
    Mode("content as a list of texts", (said(["4", "2"]),), "answer"),
    Mode("output_text parts", (said([{"type": "output_text", "text": "42", "annotations": []}]),), "answer"),
    Mode("content as one part", (said({"type": "text", "text": "42"}),), "answer"),
    Mode("a thinking part before the text", (said([{"type": "thinking", "thinking": [{"type": "text", "text": "6"}]},
         {"type": "text", "text": "42"}]),), "answer"),
    Mode("a refusal as a part", (said([{"type": "refusal", "refusal": "I can't"}]),), "no verdict", says="refusal"),
    Mode("an image part alone", (said([{"type": "image_url", "image_url": {"url": "x"}}]),), "no verdict",
         says="without content", requests=2, cost=2 * COUNTED),
    Mode("an empty list of parts", (said([]),), "no verdict", says="without content", requests=2, cost=2 * COUNTED),
    Mode("content that is no text", (said(42.5),), "no verdict", says="no text", requests=2, cost=0),
    Mode("texts that are objects", (said([{"type": "text", "text": {"value": "42", "annotations": []}}]),), "answer"),
    Mode("a text part without a text", (said([{"type": "text", "text": None}]),), "no verdict", says="without content",
         requests=2, cost=2 * COUNTED),
    Mode("a text part without a text, then one", (said([{"type": "text", "text": None}, {"type": "text", "text":
         "42"}]),), "answer"),
]  # fmt: skip

STREAMS = [
    Mode("events for a plain request", (events(piece(content="4"), piece(content="2"), piece("stop"),
         {"choices": [], "usage": USAGE}),), "answer"),
    Mode("events called JSON", (events(piece(content="42"), piece("stop"), kind="application/json"),), "answer",
         cost=ESTIMATED),
    Mode("events that end without [DONE]", (events(piece(content="42"), piece("stop"), done=False),), "answer",
         cost=ESTIMATED),
    Mode("events with [DONE] only", (events(piece(content="42")),), "answer", cost=ESTIMATED),
    Mode("one event with a whole completion", (events(GOOD.body),), "answer"),
    Mode("events with CRLF, names and comments", (plain(b": keep-alive\r\n\r\nevent: message\r\ndata: "
         + json.dumps(piece(content="42")).encode() + b"\r\n\r\ndata:[DONE]\r\n\r\n", kind="text/event-stream"),),
         "answer", cost=ESTIMATED),
    Mode("comments before the JSON", (plain(": PROCESSING\n\n: PROCESSING\n\n" + json.dumps(GOOD.body)),), "answer"),
    Mode("events with reasoning", (events(piece(reasoning_content="6 * "), piece(reasoning_content="7"),
         piece(content="42"), piece("stop")),), "answer", cost=ESTIMATED_PROMPT + 3),
    Mode("a stream that breaks off", (events(piece(content="4"), done=False), GOOD), "answer", requests=2),
    Mode("a stream that always breaks off", (events(piece(content="4"), done=False),), "no verdict", requests=2, cost=0,
         says="no completion"),
    Mode("a stream that ends in an error", (events(piece(content="4"), {"error": {"message": "GPU fell off"}}),),
         "no verdict", says="GPU fell off", requests=2, cost=0),
    Mode("a stream of a tool call", (events(piece(tool_calls=[{"id": "1"}]), piece("tool_calls")),), "no verdict",
         says="tool call", requests=2, cost=2 * ESTIMATED_PROMPT),
    Mode("an empty stream", (events(),), "no verdict", requests=2, cost=2 * ESTIMATED_PROMPT),
    Mode("events of two choices", (events({"choices": [{"index": 1, "delta": {"content": "no"}}]}, piece(content="42"),
         piece("stop")),), "answer", cost=ESTIMATED),
    Mode("an event that is an error", (plain('event: error\ndata: {"error": {"message": "full", "code": 503}}\n\n'),
         GOOD), "answer", requests=2),
    Mode("events cut off while thinking", (events(piece(reasoning="6"), piece("length")),), "no verdict",
         says="done thinking", requests=2, cost=2 * ESTIMATED),
    Mode("events of parts", (events(piece(content=[{"type": "text", "text": "4"}]), piece("stop", content=[{"type":
         "text", "text": "2"}])),), "answer", cost=ESTIMATED),
    Mode("events of texts and parts", (events(piece(content="4"), piece("stop", content=[{"type": "text", "text":
         "2"}])),), "answer", cost=ESTIMATED),
]  # fmt: skip

COUNTS = [
    Mode("usage as text", (said("42", usage={"prompt_tokens": "7", "completion_tokens": "2"}),), "answer"),
    Mode("usage as floats", (said("42", usage={"prompt_tokens": 7.0, "completion_tokens": 1.5}),), "answer"),
    Mode("usage absent", (said("42", usage=None),), "answer", cost=ESTIMATED),
    Mode("usage as a list", (said("42", usage=[7, 2]),), "answer", cost=ESTIMATED),
    Mode("usage as a word", (said("42", usage="n/a"),), "answer", cost=ESTIMATED),
    Mode("usage of lists", (said("42", usage={"prompt_tokens": [7], "completion_tokens": {"n": 2}}),), "answer",
         cost=ESTIMATED),
    Mode("usage of nulls", (said("42", usage={"prompt_tokens": None, "completion_tokens": None}),), "answer",
         cost=ESTIMATED),
    Mode("negative usage", (said("42", usage={"prompt_tokens": -7, "completion_tokens": -2}),), "answer",
         cost=ESTIMATED),
    Mode("infinite usage", (plain('{"choices": [{"message": {"content": "42"}}], "usage": {"prompt_tokens": 1e999, '
         '"completion_tokens": Infinity}}'),), "answer", cost=ESTIMATED),
    Mode("usage that is no number", (plain('{"choices": [{"message": {"content": "42"}}], "usage": {"prompt_tokens": '
         'NaN, "completion_tokens": NaN}}'),), "answer", cost=ESTIMATED),
    Mode("absurd usage", (said("42", usage={"prompt_tokens": 10**30, "completion_tokens": 10**12}),), "answer",
         cost=ESTIMATED),
    Mode("usage of zeros", (said("42", usage={"prompt_tokens": 0, "completion_tokens": 0}),), "answer", cost=ESTIMATED),
    Mode("one side of the usage", (said("42", usage={"prompt_tokens": 7}),), "answer", cost=8),
    Mode("the other names of usage", (said("42", usage={"input_tokens": 7, "output_tokens": 2}),), "answer"),
    Mode("thoughts counted in the total only", (said("42", usage={"prompt_tokens": 7, "completion_tokens": 2,
         "total_tokens": 29}),), "answer", cost=29),
    Mode("usage of truths", (said("42", usage={"prompt_tokens": True, "completion_tokens": True}),), "answer",
         cost=ESTIMATED),
    Mode("a total below its parts", (said("42", usage={**USAGE, "total_tokens": 3}),), "answer"),
    Mode("usage in words", (said("42", usage={"prompt_tokens": "7 tokens", "completion_tokens": "two"}),), "answer",
         cost=ESTIMATED),
    Mode("usage of infinities as text", (said("42", usage={"prompt_tokens": "inf", "completion_tokens": "-inf"}),),
         "answer", cost=ESTIMATED),
    Mode("a negative side of the usage", (said("42", usage={"prompt_tokens": 7, "completion_tokens": -2}),), "answer",
         cost=8),
]  # fmt: skip

NO_ANSWERS = [
    Mode("finish_reason error", (said("", "error"),), "no verdict", says="'error'", requests=2, cost=2 * COUNTED),
    Mode("finish_reason error, then an answer", (said("4", "error"), GOOD), "answer", requests=2, cost=2 * COUNTED),
    Mode("finish_reason abort", (said("4", "abort"),), "no verdict", says="'abort'", requests=2, cost=2 * COUNTED),
    Mode("finish_reason content_filter", (said("", "content_filter"),), "no verdict", says="content_filter"),
    Mode("content_filter after some text", (said("The answer is", "content_filter"),), "no verdict",
         says="content_filter"),
    Mode("finish_reason SAFETY", (said(None, "SAFETY"),), "no verdict", says="SAFETY"),
    Mode("a refusal", (said(None, refusal="I can't help with that"),), "no verdict", says="I can't help"),
    Mode("a refusal beside a text", (said("", refusal="I can't"),), "no verdict", says="I can't"),
    Mode("a tool call", (said(None, "tool_calls", tool_calls=[{"id": "1"}]),), "no verdict", says="tool call",
         requests=2, cost=2 * COUNTED),
    Mode("a function call", (said(None, "function_call", function_call={"name": "f"}),), "no verdict",
         says="tool call", requests=2, cost=2 * COUNTED),
    Mode("a tool call called the end", (said("", "stop", tool_calls=[{"id": "1"}]),), "no verdict", says="tool call",
         requests=2, cost=2 * COUNTED),
    Mode("null content", (said(None),), "no verdict", says="without content", requests=2, cost=2 * COUNTED),
    Mode("null content, then an answer", (said(None), GOOD), "answer", requests=2, cost=2 * COUNTED),
    Mode("no message", (Raw({"choices": [{"finish_reason": "stop"}], "usage": USAGE}),), "no verdict", requests=2,
         says="without content", cost=2 * COUNTED),
    Mode("no choices", (Raw({"choices": [], "usage": USAGE}),), "no verdict", says="no completion", requests=2, cost=0),
    Mode("choices: null", (Raw({"choices": None}),), "no verdict", says="no completion", requests=2, cost=0),
    Mode("a choice that is null", (Raw({"choices": [None]}),), "no verdict", requests=2, cost=0),
    Mode("an error of status 200", (Raw({"error": {"message": "Provider returned error", "code": 502}}),),
         "no verdict", says="502: Provider returned error", requests=2, cost=0),
    Mode("a rate limit of status 200", (Raw({"error": {"message": "slow down", "code": 429}}), GOOD), "answer",
         requests=2),
    Mode("an error beside choices", (Raw({"error": {"message": "upstream died"}, "choices": [{"message":
         {"content": "The ans"}, "finish_reason": None}]}),), "no verdict", says="upstream died", requests=2, cost=0),
    Mode("an error inside the choice", (Raw({"choices": [{"message": {"content": "The ans"}, "finish_reason": "error",
         "error": {"code": 502, "message": "upstream died"}}]}),), "no verdict", says="upstream died", requests=2,
         cost=0),
    Mode("an error as text", (Raw({"error": "model is loading"}),), "no verdict", says="model is loading", requests=2,
         cost=0),
    Mode("a code and a message of status 200", (Raw({"code": 50501, "msg": "system busy", "data": None}),),
         "no verdict", says="system busy", requests=2, cost=0),
    Mode("a balance of status 200", (Raw({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"},
         "choices": None}),), "budget spent", says="insufficient balance", cost=0),
    Mode("a page of status 200", (plain("<html><title>Sign in</title></html>"),), "no verdict", says="no completion",
         requests=2, cost=0),
    Mode("JSON that breaks off", (plain('{"choices": [{"message": {"content": "4'),), "no verdict", requests=2, cost=0,
         says="no completion"),
    Mode("JSON that is a list", (Raw([GOOD.body]),), "no verdict", requests=2, cost=0),
    Mode("an empty body", (plain(""),), "no verdict", requests=2, cost=0),
    Mode("status 204", (Raw("", 204),), "no verdict", requests=2, cost=0),
    Mode("bytes that are no text", (plain(b"\xff\xfe\x00\x01"),), "no verdict", requests=2, cost=0),
    Mode("a body that is no gzip", (Raw(b"42", headers={"Content-Encoding": "gzip"}),), "no verdict", requests=2,
         cost=0),
    Mode("JSON a thousand deep", (plain("[" * 100_000),), "no verdict", requests=2, cost=0),
    Mode("a closed connection", (Broken("cut"),), "no verdict", says="cannot be reached", requests=2, cost=0),
    Mode("a closed connection, then an answer", (Broken("cut"), GOOD), "answer", requests=2),
    Mode("no reply in time", (Broken("slow"),), "no verdict", says=r"no reply in 0\.2 s", requests=2, cost=0,
         settings={"executor_timeout": 0.2}),
    *(Mode(f"finish_reason {reason}", (said(None, reason),), "no verdict", says=reason.split()[-1])
      for reason in ("RECITATION", "BLOCKLIST", "SPII", "content_filter: PROHIBITED_CONTENT")),
    *(Mode(f"finish_reason {reason}", (said(None, reason),), "no verdict", requests=2, cost=2 * COUNTED)
      for reason in ("OTHER", "MALFORMED_FUNCTION_CALL")),
    Mode("no room behind the model", (said("4", "insufficient_system_resource"), GOOD), "answer", requests=2,
         cost=2 * COUNTED),
    Mode("a path of another API", (Raw({"error": "Unexpected endpoint or method. Returning 200 anyway"}),),
         "no verdict", says="Unexpected endpoint", requests=2, cost=0),
    Mode("Ollama's own form", (Raw({"message": {"role": "assistant", "content": "42"}, "done": True}),), "no verdict",
         says="no completion", requests=2, cost=0),
    Mode("moderation of status 200", (Raw({"error": {"message": "Input flagged", "code": 403, "metadata": {"reasons":
         ["violence"]}}}),), "no verdict", says="violence", cost=0),
    Mode("JSON that is nothing", (Raw("null"),), "no verdict", says="no completion", requests=2, cost=0),
    Mode("a job that is accepted", (Raw({"requestId": "x", "status": "pending"}, 202),), "no verdict", requests=2,
         cost=0),
]  # fmt: skip

FILTER = {"error": {"message": "The response was filtered due to the prompt triggering Azure OpenAI's content "
          "management policy.", "code": "content_filter", "status": 400,
          "innererror": {"code": "ResponsibleAIPolicyViolation"}}}  # fmt: skip
MODERATED = {"error": {"message": "Your chosen model requires moderation and your input was flagged", "code": 403,
             "metadata": {"reasons": ["violence"], "flagged_input": "What is"}}}  # fmt: skip
QUOTA = {"error": {"message": "You exceeded your current quota, please check your plan and billing details.",
         "type": "insufficient_quota", "code": "insufficient_quota"}}  # fmt: skip
PER_MINUTE = [{"error": {"code": 429, "message": "You exceeded your current quota, please check your plan and billing "
              "details. Please retry in 7s.", "status": "RESOURCE_EXHAUSTED"}}]  # fmt: skip

REFUSALS = [
    Mode("a content filter's 400", (failed(400, FILTER),), "no verdict", says="content management", cost=0),
    Mode("a moderation's 403", (failed(403, MODERATED),), "no verdict", says="moderation", cost=0),
    Mode("a content policy's 400", (failed(400, {"error": {"message": "Rejected by the safety system.", "code":
         "content_policy_violation"}}),), "no verdict", says="safety system", cost=0),
    Mode("a guardrail's 422", (failed(422, "Guardrail intervened"),), "no verdict", says="Guardrail", cost=0),
    Mode("status 451", (failed(451, "Unavailable here"),), "no verdict", cost=0),
    Mode("a wordless 403 after an answer", (failed(403, plain("").body),), "no verdict", after=1, requests=2, cost=0),
    Mode("a wrong key", (failed(401, "Incorrect API key provided"),), "run stops", says="refuses the key in "
         "OPENAI_API_KEY.*Incorrect API key", cost=0),
    Mode("a key that is wrong in a 400", (failed(400, [{"error": {"code": 400, "message": "API key not valid. Please "
         "pass a valid API key."}}]),), "run stops", says="API key not valid", cost=0),
    Mode("a key without rights", (failed(403, "Project does not have access to model m"),), "run stops", requests=2,
         says="OPENAI_API_KEY.*access to model", cost=0),
    Mode("status 407", (failed(407, "Proxy authentication"),), "run stops", cost=0),
    Mode("no such model", (failed(404, {"error": {"message": "The model `m` does not exist", "code":
         "model_not_found"}}),), "run stops", requests=2, says="--executor_model.*does not exist", cost=0),
    Mode("no such model, in a 400", (failed(400, "gpt-9 is not a valid model ID"),), "run stops",
         says="not a valid model", cost=0),
    Mode("a wrong path", (plain("404 page not found", 404, "text/plain"),), "run stops", requests=2,
         says="--executor_base_url.*page not found", cost=0),
    Mode("one stray 404", (failed(404, "no healthy upstream"), GOOD), "answer", requests=2),
    Mode("a 404 after an answer", (failed(404, "no healthy upstream"),), "no verdict", after=1, requests=2, cost=0),
    Mode("one stray 404 after an answer", (failed(404), GOOD), "answer", after=1, requests=2),
    Mode("status 405", (failed(405, "Method Not Allowed"),), "run stops", requests=2, cost=0),
    Mode("status 402", (failed(402, "Insufficient credits"),), "budget spent", says="no credit left.*Insufficient",
         cost=0),
    Mode("insufficient_quota", (failed(429, QUOTA),), "budget spent", says="insufficient_quota|current quota", cost=0),
    Mode("insufficient_quota in the code only", (failed(429, {"error": {"message": "No.", "code":
         "insufficient_quota"}}),), "budget spent", says="insufficient_quota", cost=0),
    Mode("a 403 for an empty balance", (failed(403, "Insufficient account balance"),), "budget spent", cost=0),
    Mode("a low credit balance", (failed(400, "Your credit balance is too low to access the API"),), "budget spent",
         cost=0),
    Mode("a daily limit", (failed(429, "Rate limit exceeded: free-models-per-day"),), "budget spent", says="per-day",
         cost=0),
    Mode("Gemini's quota a minute", (failed(429, PER_MINUTE), GOOD), "answer", requests=2),
    Mode("a request that is wrong", (failed(400, "Invalid value for 'messages[0].content'"),), "no verdict",
         says="messages", cost=0),
    Mode("a prompt beyond the context", (failed(400, "prompt is too long: 210000 tokens > 200000 maximum"),),
         "no verdict", says="too long|no limit", requests=6, cost=0),
    Mode("status 413", (failed(413, plain("<html><title>413 Request Entity Too Large</title></html>").body),),
         "no verdict", says="Too Large", cost=0),
    Mode("a model that is not loaded", (failed(400, {"error": {"message": "No models loaded. Please load a model in "
         "the developer page.", "type": "invalid_request_error", "code": "model_not_found"}}),), "run stops",
         says="--executor_model.*No models loaded", cost=0),
    Mode("a model that is gone", (failed(400, "The model `m` has been decommissioned and is no longer supported."),),
         "run stops", says="--executor_model.*decommissioned", cost=0),
    Mode("an organization that is restricted", (failed(400, "Organization has been restricted."),), "run stops",
         says="restricted", cost=0),
    Mode("a country that is not served", (failed(400, "User location is not supported for the API use."),),
         "run stops", says="location", cost=0),
    Mode("a key's own limit", (failed(403, "Key limit exceeded (total limit)"),), "budget spent", says="Key limit",
         cost=0),
    Mode("a workspace's limit", (failed(400, "You have reached your specified API usage limits. You will regain access "
         "on 2026-12-01."),), "budget spent", says="usage limits", cost=0),
    Mode("requests of a day, as Gemini counts", (failed(429, [{"error": {"code": 429, "message": "Quota", "status":
         "RESOURCE_EXHAUSTED", "details": [{"violations": [{"quotaId": "GenerateRequestsPerDayPerModel"}]}]}}]),),
         "budget spent", says="PerDay", cost=0),
    Mode("tokens of a day", (failed(429, "Rate limit reached on tokens per day (TPD): Limit 9", Retry_After="808"),),
         "budget spent", says="per day", cost=0),
    Mode("more than a minute's tokens at once", (failed(413, {"error": {"message": "Request too large for model `m` on "
         "tokens per minute (TPM): Limit 6000, Requested 9000", "code": "rate_limit_exceeded"}}),), "no verdict",
         says="Request too large", cost=0),
    Mode("a prompt that was flagged", (failed(400, "Invalid prompt: flagged as potentially violating our policy"),),
         "no verdict", says="flagged", cost=0),
    *(Mode(f"no credit, as {who} says it", (failed(status, body),), "budget spent", says="no credit left", cost=0)
      for who, status, body in (
          ("DashScope", 400, {"error": {"message": "Access denied, please make sure your account is in good standing.",
           "type": "Arrearage", "code": "Arrearage"}}),
          ("Zhipu", 429, {"error": {"code": "1113", "message": "您的账户已欠费，请充值后重试。"}}),
          ("xAI", 403, {"code": "The caller does not have permission", "error": "Your newly created team doesn't have "
           "any credits yet."}),
          ("Fireworks", 412, "Account is suspended, possibly due to reaching the monthly spending limit"),
          ("Cloudflare", 429, {"errors": [{"message": "you have used up your daily free allocation of 9 neurons"}]}),
          ("GitHub", 429, "Rate limit of 50 per 86400s exceeded for UserByModelByDay. Please wait 43200 seconds"),
          ("Perplexity", 401, {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota"}}),
          ("Cohere", 429, {"message": "You are using a Trial key, which is limited to 1000 API calls / month."}),
          ("Volcengine", 403, {"error": {"code": "AccountOverdueError", "message": "The request failed."}}),
          ("Moonshot", 429, {"error": {"type": "exceeded_current_quota_error", "message": "Your account org-x is "
           "suspended, please check your plan and billing details"}}))),
]  # fmt: skip

BUSY = [
    *(Mode(f"status {status}, then an answer", (failed(status, "later"), GOOD), "answer", requests=2)
      for status in (408, 409, 425, 429, 498, 499, 500, 502, 503, 504, 520, 524, 529)),
    *(Mode(f"status {status} each time", (failed(status, "later"),), "no verdict", says=f"{status}: later", requests=2,
           cost=0) for status in (429, 500, 503, 529)),
    Mode("retry-after-ms", (failed(429, "later", retry_after_ms="20"), GOOD), "answer", requests=2),
    Mode("Retry-After in fractions", (failed(503, "later", Retry_After="0.02"), GOOD), "answer", requests=2),
    Mode("Retry-After: 3600", (failed(429, "later", Retry_After="3600"),), "no verdict",
         says="asks for a pause of 3[56]\\d\\d s", cost=0),
    Mode("retry-after-ms: 3600000", (failed(503, "later", retry_after_ms="3600000"),), "no verdict",
         says="asks for a pause of 3[56]\\d\\d s", cost=0),
    Mode("Retry-After in the past", (failed(429, "x", Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"), GOOD), "answer",
         requests=2),
    *(Mode(f"Retry-After: {value}", (failed(429, "later", Retry_After=value), GOOD), "answer", requests=2)
      for value in ("soon", "-5", "nan", "inf", "1e400", "")),
    Mode("Retry-After: 3600s", (failed(429, "later", Retry_After="3600s"),), "no verdict",
         says="pause of 3600 s, which is longer than --executor_outage_seconds", cost=0),
    *(Mode(f"retryDelay of Gemini, {status}", (failed(status, retry_info("0.02s")), GOOD), "answer", requests=2)
      for status in (429, 503)),
    *(Mode(f"retryDelay: {value}", (failed(429, retry_info(value)), GOOD), "answer", requests=2)
      for value in ("soon", "-5s", "nans", "9" * 400 + "s", "", None, {"seconds": "3600"})),
    *(Mode(f"retryDelay: 3600s, {status}", (failed(status, retry_info("3600s")),), "no verdict",
           says="asks for a pause of 3[56]\\d\\d(?:\\.\\d+)? s", cost=0) for status in (429, 503)),
    Mode("retryDelay that a gateway quotes", (failed(429, {"error": {"message": "Provider returned error", "metadata": {
         "raw": json.dumps(retry_info("3600s"))}}}),), "no verdict", says="asks for a pause of 3[56]\\d\\d", cost=0),
    Mode("a header goes before retryDelay", (failed(429, retry_info("3600s"), Retry_After="0.02"), GOOD), "answer",
         requests=2),
]  # fmt: skip

REASONS = [
    Mode("reason in detail", (failed(400, {"detail": "the widget is bent"}),), "no verdict",
         says="400: the widget is bent", cost=0),
    Mode("reasons in a list of details", (failed(422, {"detail": [{"loc": ["body", "n"], "msg": "n is bent"}]}),),
         "no verdict", says=r"body\.n: n is bent", cost=0),
    Mode("reason in message", (failed(400, {"object": "error", "message": "the widget is bent", "code": 40}),),
         "no verdict", says="the widget is bent", cost=0),
    Mode("reason as error", (failed(400, {"error": "the widget is bent"}),), "no verdict", says="the widget is bent",
         cost=0),
    Mode("reason in a list", (failed(400, [{"error": {"message": "the widget is bent"}}]),), "no verdict",
         says="the widget is bent", cost=0),
    Mode("reason in errors", (failed(400, {"errors": ["the widget is bent"]}),), "no verdict",
         says="the widget is bent", cost=0),
    Mode("reason in metadata.raw", (failed(400, {"error": {"message": "Provider returned error", "metadata": {"raw":
         '{"error": {"message": "the widget is bent"}}'}}}),), "no verdict", says="the widget is bent", cost=0),
    Mode("reason in faultstring", (failed(400, {"fault": {"faultstring": "the widget is bent"}}),), "no verdict",
         says="the widget is bent", cost=0),
    Mode("reason in error_msg", (failed(400, {"error_code": 336, "error_msg": "the widget is bent"}),), "no verdict",
         says="the widget is bent", cost=0),
    Mode("reason in Message", (failed(400, {"Message": "the widget is bent"}),), "no verdict",
         says="the widget is bent", cost=0),
    Mode("reason as plain text", (plain("the widget\nis bent", 400, "text/plain"),), "no verdict",
         says="the widget is bent", cost=0),
    Mode("reason as a page's title", (plain("<html><title>the widget is bent</title><p>x", 500),), "no verdict",
         says="500: the widget is bent", requests=2, cost=0),
    Mode("reason in a code", (failed(400, {"error": {"code": "widget_bent", "message": ""}}),), "no verdict",
         says="widget_bent", cost=0),
    Mode("no reason", (plain("", 400),), "no verdict", says="no reason given", cost=0),
]  # fmt: skip

FORMS = [
    Mode("no temperature", (unless(lambda r: "temperature" in r, failed(400, {"error": {"message": "Unsupported value: "
         "'temperature' does not support 0 with this model.", "param": "temperature", "code": "unsupported_value"}})),),
         "answer", requests=2),
    Mode("no temperature, in a 422", (unless(lambda r: "temperature" in r, failed(422, {"detail": [{"loc": ["body",
         "temperature"], "msg": "Extra inputs are not permitted"}]})),), "answer", requests=2),
    Mode("max_completion_tokens", (unless(lambda r: "max_tokens" in r, failed(400, "Unsupported parameter: 'max_tokens'"
         " is not supported with this model. Use 'max_completion_tokens' instead.")),), "answer", requests=2),
    Mode("no stop strings", (unless(lambda r: "stop" in r, failed(400, "Unsupported parameter: 'stop'")),), "answer",
         requests=2),
    Mode("no system message", (unless(lambda r: "system" in roles(r), failed(400, "System role not supported")),),
         "answer", requests=2),
    Mode("no developer instruction", (unless(lambda r: "system" in roles(r), failed(400, [{"error": {"code": 400,
         "message": "Developer instruction is not enabled for models/gemma-3-27b-it"}}])),), "answer", requests=2),
    Mode("roles that alternate", (unless(lambda r: roles(r) != ["user"], failed(400, "Conversation roles must "
         "alternate user/assistant/user/assistant/...")),), "answer", requests=2),
    Mode("roles that alternate, in a 500", (unless(lambda r: roles(r) != ["user"], failed(500, "Jinja Exception: "
         "Conversation roles must alternate user/assistant/user/assistant/...")),), "answer", requests=2),
    Mode("three refusals, one after the other", (unless(lambda r: "temperature" in r, failed(400, "temperature is not "
         "supported")), unless(lambda r: "stop" in r, failed(400, "stop is not supported")),
         unless(lambda r: "system" in roles(r), failed(400, "system role is not supported")), GOOD), "answer",
         requests=4),
    Mode("a limit that never suits", (failed(400, "temperature is not supported"),), "no verdict", requests=2, cost=0,
         says="temperature is not supported"),
    Mode("a temperature that is deprecated", (unless(lambda r: "temperature" in r, failed(400, "`temperature` is "
         "deprecated for this model.")),), "answer", requests=2),
    Mode("max_tokens is an extra field", (unless(lambda r: "max_tokens" in r, failed(422, {"detail": [{"type":
         "extra_forbidden", "loc": ["body", "max_tokens"], "msg": "Extra inputs are not permitted"}]})),), "answer",
         requests=2),
    Mode("the user speaks first", (unless(lambda r: roles(r) != ["user"], failed(400, 'messages: first message must '
         'use the "user" role')),), "answer", requests=2),
    Mode("two roles only", (unless(lambda r: "system" in roles(r), failed(400, "Only user and assistant roles are "
         "supported!")),), "answer", requests=2),
]  # fmt: skip

LIMITS = [
    Mode(name, (unless(lambda r, most=most: r["max_tokens"] > most, failed(status, told)),), "answer",  # type: ignore[misc]
         requests=requests)
    for name, status, told, most, requests in (
        ("a limit beyond the context", 400, "This model's maximum context length is 60 tokens. However, you requested "
         "108 tokens (8 in the messages, 100 in the completion).", 52, 2),
        ("vLLM's limit", 400, "'max_tokens' or 'max_completion_tokens' is too large: 100. This model's maximum context "
         "length is 60 tokens and your request has 8 input tokens (100 > 60 - 8).", 52, 2),
        ("Groq's limit", 400, "`max_tokens` must be less than or equal to `50`, the maximum value for `max_tokens` is "
         "less than the `context_window` for this model", 50, 2),
        ("DeepSeek's limit", 400, "Invalid max_tokens value, the valid range of max_tokens is [1, 50]", 50, 2),
        ("OpenAI's limit", 400, "max_tokens is too large: 100. This model supports at most 50 completion tokens, "
         "whereas you provided 100.", 50, 2),
        ("Anthropic's limit", 400, "max_tokens: 100 > 50, which is the maximum allowed number of output tokens", 50, 2),
        ("TGI's limit", 422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 60. Given: 8 "
         "`inputs` tokens and 100 `max_new_tokens`", 52, 2),
        ("Together's limit", 422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 30. Given: 8 "
         "`inputs` tokens and 100 `max_new_tokens`", 22, 2),
        ("a limit that only a code names", 400, {"error": {"code": "context_length_exceeded", "message": "Please "
         "reduce the length of the messages or completion."}}, 30, 3),
        ("a limit without a number", 400, "the requested tokens exceed the context window", 30, 3),
    )
]  # fmt: skip


def told(message: str, **more: Any) -> dict[str, Any]:
    """The body of an error in OpenAI's form."""
    return {"error": {"message": message, **more}}


def capped(limit: int, message: str, status: int = 400) -> Callable[[dict[str, Any]], Response]:
    """A server that refuses more completion tokens than it has room for."""
    return unless(lambda request: request["max_tokens"] > limit, failed(status, told(message)))


INVALID = "invalid_request_error"

# What providers are known to say, each in its own words.
PROVIDERS = [
    Mode("llama.cpp: a prompt beyond the context", (failed(400, told("request (120 tokens) exceeds the available "
         "context size (64 tokens), try increasing it", code=400, type="exceed_context_size_error", n_prompt_tokens=120,
         n_ctx=64)),), "no verdict", says="available context size", cost=0),
    Mode("llama.cpp: the same as a server's error", (failed(500, told("the request exceeds the available context "
         "size. try increasing the context size or enable context shift", code=500,
         type="exceed_context_size_error")),), "no verdict", says="available context size", cost=0),
    Mode("a template of user, assistant and tool", (unless(lambda r: "system" in roles(r), failed(400, {"object":
         "error", "message": "Only user, assistant and tool roles are supported, got system.", "type":
         "BadRequestError"})),), "answer", requests=2),
    Mode("Ollama: a model that cannot chat", (failed(400, told('"m" does not support chat', type=INVALID)),),
         "run stops", says="--executor_model.*does not support chat", cost=0),
    Mode("Ollama: the model was only loaded", (said("", "load"),), "no verdict", says="'load'", requests=2, cost=2 *
         COUNTED),
    Mode("LM Studio: a prompt beyond the context", (failed(400, {"error": "Trying to keep the first 111490 tokens "
         "when context the overflows. However, the model is loaded with context length of only 32768 tokens, which "
         "is not enough. Try to load the model with a larger context length, or provide a shorter input."}),),
         "no verdict", says="context length of only", cost=0),
    Mode("LM Studio: a model that crashed", (failed(400, {"error": "The model has crashed without additional "
         "information. (Exit code: null)"}), GOOD), "answer", requests=2),
    Mode("LM Studio: a model that was unloaded", (failed(400, told("Model unloaded.")), GOOD), "answer", requests=2),
    Mode("Azure: a model without chat", (failed(400, told("The chatCompletion operation does not work with the "
         "specified model, m. Please choose different model and try again.", code="OperationNotSupported")),),
         "run stops", says="--executor_model", cost=0),
    Mode("a gateway's failed dependency", (failed(424, {"error": "Request failed during generation: Server error: "
         "CUDA out of memory", "error_type": "generation"}), GOOD), "answer", requests=2),
    Mode("Together: a model of another kind", (failed(400, told("Unable to access non-serverless model m. Please "
         "visit the page to create and start a new dedicated endpoint for the model.", type=INVALID, code=
         "model_not_available")),), "run stops", says="--executor_model.*non-serverless", cost=0),
    Mode("Together: length as a 403", (capped(50, "Input token count + max_tokens parameter must be less than the "
         "context length of the model being queried.", 403),), "answer", requests=2),
    Mode("Groq: a tool call that nobody asked for", (failed(400, told("Tool choice is none, but model called a tool",
         type=INVALID, code="tool_use_failed", failed_generation="{}")), GOOD), "answer", requests=2),
    Mode("Groq: a reply that it cannot read", (failed(400, told("Parsing failed. The model generated output that "
         "could not be parsed.", type=INVALID, code="output_parse_failed")),), "no verdict", says=
         "could not be parsed", requests=2, cost=0),
    Mode("DeepSeek: no such model", (failed(400, told("Model Not Exist", type=INVALID, code=INVALID)),), "run stops",
         says="--executor_model.*Model Not Exist", cost=0),
    Mode("Gemini: a header that is missing", (failed(400, [told("Missing or invalid Authorization header.", code=400,
         status="INVALID_ARGUMENT")]),), "run stops", says="Authorization header", cost=0),
    Mode("Vertex: a range of output tokens", (capped(63, "Unable to submit request because it has a maxOutputTokens "
         "value of 100 but the supported range is from 1 (inclusive) to 64 (exclusive). Update the value and try "
         "again."),), "answer", requests=2),
    Mode("OpenAI: thoughts up to the limit, as a 400", (failed(400, told("Could not finish the message because "
         "max_tokens or model output limit was reached. Please try again with higher max_tokens.", type=INVALID)),
         GOOD), "answer", requests=2),
    Mode("OpenAI: the same, every time", (failed(400, told("Could not finish the message because max_tokens or model "
         "output limit was reached. Please try again with higher max_tokens.", type=INVALID)),), "no verdict", says=
         "output limit", requests=2, cost=0),
    Mode("OpenAI: the safety system", (failed(400, told("Your request was rejected as a result of our safety system.",
         type=INVALID, code="content_policy_violation")),), "no verdict", says="safety system", cost=0),
    Mode("OpenAI: a stop that is about nothing", (failed(400, told("The system could not stop at this temperature",
         type=INVALID)),), "no verdict", says="temperature", cost=0),
    Mode("Mistral: a prompt beyond the context", (failed(400, {"object": "error", "message": "Prompt contains 33000 "
         "tokens and 0 draft tokens, too large for model with 32768 maximum context length", "type":
         "invalid_request_prompt_tokens_length"}),), "no verdict", says="too large", cost=0),
    Mode("SGLang: an input beyond the context", (failed(400, {"object": "error", "message": "The input (120 tokens) "
         "is longer than the model's context length (64 tokens).", "type": "BadRequestError", "code": 400}),),
         "no verdict", says="longer than", cost=0),
    Mode("Hugging Face: a model of no provider", (failed(400, told("The requested model 'm' is not supported by any "
         "provider you have enabled.", type=INVALID, param="model", code="model_not_supported")),), "run stops", says=
         "--executor_model.*any provider", cost=0),
    Mode("LiteLLM: a budget", (failed(400, told("Budget has been exceeded! Current cost: 10.0, Max budget: 5.0", type=
         "budget_exceeded", code="400")),), "budget spent", says="Max budget", cost=0),
    Mode("gpt-oss: channels that lost their marks", (said("analysis6 * 7 is 42.assistantfinal42"),), "answer"),
    Mode("Azure: a filter that could not look", (Raw({"choices": [{"finish_reason": "stop", "index": 0,
         "content_filter_results": {"error": {"code": "content_filter_error", "message":
         "The contents are not filtered"}}, "message": {"content": "42"}}], "usage": USAGE}),), "answer"),
    Mode("OpenRouter: more credits, or fewer tokens", (failed(402, told("This request requires more credits, or "
         "fewer max_tokens. You requested up to 4096 tokens, but can only afford 1000.", code=402)),), "budget spent",
         says="can only afford", cost=0),
    Mode("an answer that begins with analysis", (said("analysis: 42"),), "answer", text="analysis: 42"),
]  # fmt: skip

MODES = [
    *ANSWERS, *THOUGHTS, *PARTS, *STREAMS, *COUNTS, *NO_ANSWERS, *REFUSALS, *BUSY, *REASONS, *FORMS, *LIMITS,
    *PROVIDERS,
]  # fmt: skip
