"""The form of a request: what every provider takes, and what a model says that it does not take.

Reasoning models refuse a temperature and want `max_completion_tokens`, some models refuse a system message or stop
strings, chat templates want roles that alternate. The form starts from the model's name and learns from refusals: each
costs one request, once a run.
"""

import re
from collections.abc import Sequence
from typing import Any

from aflow_ops.executor.transport import Call
from aflow_ops.executor.types import Message

# OpenAI's reasoning models, which refuse what others take.
_OPENAI_REASONING = re.compile(r"^(?:.*/)?(?:o[1-9](?:-|$)|gpt-5)")
# Models that think before they answer, on the same allowance, by what their makers call them.
_THINKING = re.compile(r"deepseek-r\d|reasoner|reasoning|thinking|qwq|qwen3|magistral|gpt-oss|grok-[34]|\br1\b", re.I)
_REFUSES = re.compile(
    r"unsupported|not support|unrecognized|unknown|invalid|not allowed|not permitted|not enabled|extra|"
    r"only the default|must alternate|should alternate|alternating|deprecated|first message must|only user "
    r"and assistant|roles are supported",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(
    r"context|too large|too long|exceed|at most|maximum|must be <=|(?:valid|supported) range", re.IGNORECASE
)
_ABOUT_TOKENS = re.compile(r"tokens|context_length_exceeded", re.IGNORECASE)
# It thought until the end of its room, and the server has no status for that but an error.
_CUT_OFF = re.compile(r"higher max_tokens|output limit was reached", re.IGNORECASE)
_NO_SUCH_FIELD = re.compile(r"unsupported|not supported|unrecognized|unknown|extra", re.IGNORECASE)
_RATE = re.compile(r"per.minute|rate.?limit", re.IGNORECASE)
_MOST_COMPLETION = re.compile(
    r"at most (\d+) completion tokens|maximum (?:value )?(?:for|of) .?max_(?:completion_)?tokens.? "
    r"(?:is|must be) (?:less than or equal to )?.?(\d+)|less than or equal to .?(\d+)|range .{0,20}?(?:1|0), ?(\d+)|"
    r"to (\d+) \(exclusive\)",
    re.IGNORECASE,
)
_CONTEXT = re.compile(
    r"(?:context length|context window|context size|maximum context)\D{0,40}(\d+)|(\d+) (?:tokens?|maximum) context|"
    r"max_new_tokens\D{0,20}<= (\d+)",
    re.IGNORECASE,
)
_INPUT = re.compile(
    r"(\d+) (?:tokens )?(?:in the messages|in the prompt|.?inputs?.? tokens|prompt tokens)|"
    r"(?:request|input|contains|keep the first) \(?(\d+) tokens",
    re.IGNORECASE,
)


class RequestForm:
    """Writes requests as a model wants them.

    Args:
        model (`str`): its name at the endpoint.
        thinking_tokens (`int`): room for a reasoning model's thoughts, beyond a call's own limit.

    Attributes:
        version (`int`): raised by every change, so that a request of an older form is told from one of this.
        room (`int`): tokens that every request has beyond its own limit.
    """

    def __init__(self, model: str, thinking_tokens: int) -> None:
        self.model = model
        reasoning = bool(_OPENAI_REASONING.match(model))
        self.limit_name = "max_completion_tokens" if reasoning else "max_tokens"
        self.temperature = self.stop = not reasoning
        self.system = True
        self.alternating = False
        self.version = 0
        self._renamed = False  # the limit, on a mere guess
        self._thinking_tokens = thinking_tokens
        self.room = thinking_tokens if reasoning or _THINKING.search(model) else 0

    def request(self, call: Call, limit: int) -> dict[str, Any]:
        """Return the fields of one request of at most `limit` completion tokens."""
        request: dict[str, Any] = {
            "model": self.model,
            "messages": self._messages(call.messages),
            self.limit_name: limit,
        }
        if self.temperature:
            request["temperature"] = call.temperature
        if call.stop and self.stop:
            request["stop"] = list(call.stop)
        return request

    def give_room(self) -> bool:
        """Leave room for thoughts from now on; whether there was none before."""
        given = self.room < self._thinking_tokens
        self.room = self._thinking_tokens
        return given

    def adapt(self, refusal: str) -> bool:
        """Change the form after a refused request; whether there was something to change."""
        if _CUT_OFF.search(refusal):
            return self.give_room()
        refusal = refusal.replace("invalid_request_error", "")  # the type of any refusal
        if not _REFUSES.search(refusal):
            return False
        if "max_completion_tokens" in refusal and self.limit_name == "max_tokens":
            self.limit_name = "max_completion_tokens"
        elif "max_tokens" in refusal and self.limit_name == "max_completion_tokens":
            self.limit_name = "max_tokens"
        elif (
            self.limit_name == "max_tokens"
            and not self._renamed
            and "max_tokens" in refusal
            and _NO_SUCH_FIELD.search(refusal)
        ):
            self.limit_name, self._renamed = "max_completion_tokens", True
        elif "temperature" in refusal and self.temperature:
            self.temperature = False
        elif re.search(r"\bstop\b", refusal) and self.stop:
            self.stop = False
        elif re.search(r"alternat", refusal, re.I) and not self.alternating:
            self.alternating, self.system = True, False
        elif re.search(r"system|developer|first message must|only user and assistant", refusal, re.I) and self.system:
            self.system = False
        else:
            return False
        self.version += 1
        return True

    def _messages(self, messages: Sequence[Message]) -> list[Message]:
        """The chat; without a system role, what it says stands above the first user message."""
        chat = list(messages)
        if not self.system:
            said = "\n\n".join(message["content"] for message in chat if message["role"] == "system")
            chat = [message for message in chat if message["role"] != "system"] or [{"role": "user", "content": ""}]
            if said:
                chat[0] = {"role": chat[0]["role"], "content": f"{said}\n\n{chat[0]['content']}".strip()}
        return _alternating(chat) if self.alternating else chat


def _alternating(messages: Sequence[Message]) -> list[Message]:
    """The chat with messages of one role in a row as one message, the user's first."""
    chat: list[Message] = []
    for message in messages:
        if chat and chat[-1]["role"] == message["role"]:
            joined = f"{chat[-1]['content']}\n\n{message['content']}"
            chat[-1] = {"role": message["role"], "content": joined}
        elif chat or message["role"] == "user":
            chat.append(message)
        else:
            chat.append({"role": "user", "content": message["content"]})
    return chat


def fitting_limit(refusal: str, limit: int) -> int | None:
    """Return a limit of completion tokens that fits, when the refusal says that this one does not; else `None`.

    Args:
        refusal (`str`): what the provider says, such as "maximum context length is 4096 tokens ... 1000 in the
            messages".
        limit (`int`): the limit that was asked for.
    """
    if not _ABOUT_TOKENS.search(refusal) or not _TOO_LONG.search(refusal) or _RATE.search(refusal):
        return None
    most = _MOST_COMPLETION.search(refusal)
    context, used = _CONTEXT.search(refusal), _INPUT.search(refusal)
    if most is not None:
        fitting = int(next(filter(None, most.groups()))) - ("(exclusive)" in most.group())
    elif context is not None and used is not None:
        fitting = int(next(filter(None, context.groups()))) - int(next(filter(None, used.groups())))
    else:
        fitting = limit // 2
    return fitting if 0 < fitting < limit else None
