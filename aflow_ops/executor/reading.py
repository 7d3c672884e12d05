"""Reading replies: what of it is the answer, what it took, and what is no answer at all.

A completion object, `{"choices": [{"message": {"content": "42"}, "finish_reason": "stop"}], "usage": {"prompt_tokens":
5, "completion_tokens": 1}}`, or the same in server-sent events. An answer is text that the model finished, or that its
token limit cut off. A filter's refusal, a tool call, an error, nothing, or a thought that never came to an end is none:
it must be neither graded nor cached.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aflow_ops.executor.refusals import failure_of, read_refusal
from aflow_ops.executor.transport import Call, Completion, TransportError, estimated_tokens

# Counts above this are taken for nonsense.
MOST_TOKENS = 10**8
# Providers' names for the ends of a reply.
_FILTERED = re.compile(
    r"content.?filter|safety|recitation|prohibited|blocklist|sensitive|moderat|refusal|spii|guard", re.I
)
_FAILED = re.compile(r"error|abort|cancel|insufficient_system_resource|malformed|unexpected|load", re.IGNORECASE)
_CUT_OFF = re.compile(r"length|max_?(?:output_)?tokens", re.IGNORECASE)
_TOOLS = re.compile(r"tool|function", re.IGNORECASE)
# The tags of DeepSeek and most others, Magistral's, Kimi's, Seed's, Cohere's and OpenThinker's. A tag that is quoted is
# text about tags.
_OPEN = (
    r"(?<![\"'`])(?:<(?:seed:)?think(?:ing)?>|<THINK>|\[THINK\]|◁think▷|<\|START_THINKING\|>|<\|begin_of_thought\|>)"
)
_CLOSE = (
    r"(?<![\"'`])(?:</(?:seed:)?think(?:ing)?>|</THINK>|\[/THINK\]|◁/think▷|<\|END_THINKING\|>|<\|end_of_thought\|>)"
)
_MAY_THINK = re.compile(r"think|THINK|_of_thought")
# What two of them put around the answer.
_AROUND = re.compile(r"<\|(?:begin_of_solution|end_of_solution|START_RESPONSE|END_RESPONSE)\|>")
_THOUGHT = re.compile(f"{_OPEN}.*?{_CLOSE}", re.DOTALL)
_THOUGHT_END, _THOUGHT_START = re.compile(_CLOSE), re.compile(_OPEN)
# gpt-oss where the server does not take its channels apart.
_CHANNELS = re.compile(r"\s*(?:<\|start\|>assistant)?<\|channel\|>")
_FINAL_CHANNEL = re.compile(r".*<\|channel\|>final[^<]*<\|message\|>(.*?)(?:<\|(?:end|return)\|>\s*)?\Z", re.DOTALL)
# Where the server lost the marks of its channels: what they begin with, and what comes before the answer.
_BARE_ANALYSIS, _BARE_FINAL = "analysis", "assistantfinal"
# What some servers send to keep the connection busy, before the reply itself.
_COMMENTS = re.compile(r"\A(?:\s*:[^\n]*\n)+")


class CutOffThinkingError(TransportError):
    """The reply ended before the model was done thinking."""


@dataclass(frozen=True)
class _Said:
    """The parts of a reply's message."""

    text: str | None
    thought: str
    refusal: str
    tools: bool
    ending: str


def read_completion(content: bytes, call: Call) -> tuple[Completion, bool]:
    """Read the body of a reply.

    Returns:
        `tuple` of the first choice's answer with the tokens used, and whether the model thought before it.

    Raises:
        CutOffThinkingError: the token limit came before the answer.
        TransportError: there is no answer in it; says why.
    """
    body = _body(content)
    choice = _choice(body) or {}
    if (error := body.get("error") or choice.get("error")) and not _is_finished(choice):
        refusal = read_refusal(200, json.dumps({"error": error}).encode(), {})
        raise TransportError(failure_of(refusal, answered=True), str(refusal))
    if not choice:
        refusal = read_refusal(200, content, {})
        raise TransportError(
            failure_of(refusal, answered=True), f"a reply that is no completion: {_shown(refusal.reason)}"
        )
    said = _said(choice)
    usage = _usage(body.get("usage"), call, f"{said.thought}{said.text or ''}{said.refusal}")
    answer = None if said.text is None else _without_thoughts(said.text)
    thought = bool(said.thought) or answer != said.text or _THOUGHT_START.search(said.text or "") is not None
    if (failure := _no_answer(said, answer, usage)) is not None:
        raise failure
    assert answer is not None
    writable = answer.encode("utf-8", "replace").decode("utf-8")  # half an emoji, cut off at the token limit
    return Completion(writable, usage.prompt_tokens, usage.completion_tokens), thought


def read_tokens(content: bytes) -> tuple[tuple[int, float], ...] | None:
    """Return id and log-probability of every token of a reply, as vLLM gives them; `None` where they are not there.

    vLLM says `{"choices": [{"logprobs": {"content": [{"token": "token_id:42", "logprob": -0.1}]}}]}`.
    """
    try:
        listed = _body(content)["choices"][0]["logprobs"]["content"]
        tokens = tuple((int(item["token"].split("token_id:")[1]), float(item["logprob"])) for item in listed)
    except (TransportError, KeyError, TypeError, ValueError, AttributeError, IndexError):
        return None
    return tokens if tokens and all(math.isfinite(value) for _, value in tokens) else None


def _no_answer(said: _Said, answer: str | None, usage: Completion) -> TransportError | None:
    """What is wrong with the message, if anything."""
    if said.refusal or _FILTERED.search(said.ending):
        return TransportError("call", f"a refusal ({said.ending or 'refusal'}): {said.refusal[:200]}", billed=usage)
    if _FAILED.search(said.ending):
        return TransportError("outage", f"a reply that ended in finish_reason {said.ending!r}", billed=usage)
    if said.tools or _TOOLS.search(said.ending):
        return TransportError("busy", "a tool call instead of an answer", billed=usage)
    is_cut = _CUT_OFF.fullmatch(said.ending) is not None
    if (said.text is not None and answer is None) or (is_cut and not answer):
        return CutOffThinkingError("call", "the reply ended before the model was done thinking", billed=usage)
    if answer is None or (not answer.strip() and (said.thought or answer != said.text)):
        return TransportError("busy", f"a reply without content (finish_reason {said.ending!r})", billed=usage)
    return None


def _body(content: bytes) -> dict[str, Any]:
    """The reply's JSON object, put together from server-sent events where it comes in them."""
    text = _COMMENTS.sub("", content.decode("utf-8-sig", "replace")).strip()
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = _from_events(text) if re.search(r"^data:", text, re.MULTILINE) else None
    if not isinstance(body, dict):
        raise TransportError("outage", f"a reply that is no completion: {_shown(text)}")
    return body


def _from_events(text: str) -> dict[str, Any] | None:
    """The completion that a stream of chunks spells; `None` when it breaks off."""
    parts: dict[str, list[Any]] = {}
    ending: Any = None
    usage: Any = None
    done = False
    for line in text.splitlines():
        event = line.removeprefix("data:").strip()
        if not line.startswith("data:") or not event:
            continue
        if event == "[DONE]":
            done = True
            break
        try:
            chunk = json.loads(event)
        except (ValueError, RecursionError):
            return None
        if not isinstance(chunk, dict):
            return None
        if chunk.get("error"):
            return {"error": chunk["error"]}
        usage = chunk.get("usage") or usage
        if (choice := _choice(chunk)) is not None and choice.get("index", 0) == 0:
            ending = choice.get("finish_reason") or ending
            for name, value in (choice.get("delta") or choice.get("message") or {}).items():
                if value is not None:
                    parts.setdefault(name, []).append(value)
    if ending is None and not done:
        return None
    message = {name: _joined(values) for name, values in parts.items()}
    return {"choices": [{"message": message, "finish_reason": ending}], "usage": usage}


def _joined(values: list[Any]) -> Any:
    """What the pieces of one field make: a text, the list of all parts, or the last one of anything else."""
    if all(isinstance(value, str) for value in values):
        return "".join(values)
    if all(isinstance(value, (str, list)) for value in values):
        return [part for value in values for part in (value if isinstance(value, list) else [value])]
    return values[-1]


def _is_finished(choice: Mapping[str, Any]) -> bool:
    """Whether it has a text that the model ended itself."""
    ending = str(choice.get("finish_reason") or "")
    return bool((choice.get("message") or {}).get("content") and ending) and not _FAILED.search(ending)


def _choice(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first choice: of several, the one that says so."""
    listed = body.get("choices")
    choices = [choice for choice in listed if isinstance(choice, dict)] if isinstance(listed, list) else []
    return next((choice for choice in choices if choice.get("index") == 0), choices[0] if choices else None)


def _said(choice: Mapping[str, Any]) -> _Said:
    message = choice.get("message") or choice.get("delta")
    if not isinstance(message, dict):
        message = {"content": choice.get("text")}
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    texts: list[str] = []
    thoughts = [value for name in ("reasoning_content", "reasoning") if isinstance(value := message.get(name), str)]
    refusals = [message["refusal"]] if isinstance(message.get("refusal"), str) else []
    for part in parts:
        if isinstance(part, dict):
            kind = str(part.get("type", "text"))
            text = _text_of(part)
            into = refusals if "refusal" in kind else thoughts if re.search("reason|think", kind) else texts
            if into is not texts or ("text" in kind and text is not None):
                into.append(text or "")
        elif isinstance(part, str):
            texts.append(part)
        elif part is not None:
            raise TransportError("busy", f"a reply whose content is no text: {str(part)[:80]}")
    return _Said(
        text="".join(texts) if texts else None,
        thought="".join(thoughts),
        refusal="".join(refusals),
        tools=bool(message.get("tool_calls") or message.get("function_call")),
        ending=str(choice.get("finish_reason") or ""),
    )


def _text_of(part: Mapping[str, Any]) -> str | None:
    """The text of one part, as `{"text": "42"}` or `{"text": {"value": "42"}}`; `None` where there is none."""
    for name in ("text", "content", "refusal", "thinking"):
        value = part.get(name)
        value = value.get("value") if isinstance(value, dict) else value
        if isinstance(value, str):
            return value
    return None


def _without_thoughts(text: str) -> str | None:
    """The answer in a text with thoughts between tags, or only closed; `None` when a thought is still open."""
    if _CHANNELS.match(text):
        final = _FINAL_CHANNEL.match(text)
        return final and final.group(1).strip()
    if text.startswith(_BARE_ANALYSIS) and _BARE_FINAL in text:
        return text.rpartition(_BARE_FINAL)[2].strip()
    if not _MAY_THINK.search(text):
        return text
    # Behind the last end no thought has one: each beginning there would be followed through all the rest.
    last = max((end.end() for end in _THOUGHT_END.finditer(text)), default=0)
    answer = _THOUGHT.sub("", text[:last]) + text[last:]
    for end in list(_THOUGHT_END.finditer(answer))[-1:]:
        answer = answer[end.end() :]
    if _THOUGHT_START.search(answer):
        return None
    return text if answer == text else _AROUND.sub("", answer).strip()


def _usage(usage: Any, call: Call, said: str) -> Completion:
    """The tokens used as the provider counts them, else estimated."""
    counts = usage if isinstance(usage, dict) else {}
    prompt = _count(counts.get("prompt_tokens", counts.get("input_tokens")))
    completion = _count(counts.get("completion_tokens", counts.get("output_tokens")))
    if prompt:  # some count thoughts, which they bill, in the total only
        completion = max(completion, _count(counts.get("total_tokens")) - prompt)
    return Completion(
        "",
        prompt or call.prompt_tokens,
        completion if completion or not said else estimated_tokens(said),
    )


def _count(value: Any) -> int:
    """A count in whatever form it comes; 0 when it is none that can be true."""
    try:
        number = 0.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return 0
    return math.ceil(number) if 0 < number <= MOST_TOKENS else 0


def _shown(text: str) -> str:
    return " ".join(text[:300].split())[:120]
