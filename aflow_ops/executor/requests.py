"""The form of a request: what every provider takes, and what a model says that it does not take.

Reasoning models refuse a temperature and want `max_completion_tokens`, some models refuse a system message or stop
strings. The form starts from the model's name and learns from refusals: each costs one request, once a run.
"""

import re
from collections.abc import Sequence
from typing import Any

from aflow_ops.executor.types import Message

# Reasoning models think before they answer, on the same allowance.
REASONING_TOKENS = 4096
_REASONING = re.compile(r"^(?:.*/)?(?:o[1-9](?:-|$)|gpt-5)")
_REFUSES = re.compile(r"unsupported|not support|unrecognized|unknown|invalid|not allowed|extra|only the default", re.I)


class RequestForm:
    """Writes requests as a model wants them.

    Args:
        model (`str`): its name at the endpoint.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        reasoning = bool(_REASONING.match(model))
        self.limit_name = "max_completion_tokens" if reasoning else "max_tokens"
        self.temperature = not reasoning
        self.system = True
        self.stop = not reasoning

    def request(
        self, messages: Sequence[Message], temperature: float, max_tokens: int, stop: Sequence[str]
    ) -> dict[str, Any]:
        """Return the fields of one request."""
        request: dict[str, Any] = {"model": self.model, "messages": self._messages(messages)}
        thinking = self.limit_name == "max_completion_tokens" and not self.temperature
        request[self.limit_name] = max_tokens + (REASONING_TOKENS if thinking else 0)
        if self.temperature:
            request["temperature"] = temperature
        if stop and self.stop:
            request["stop"] = list(stop)
        return request

    def adapt(self, refusal: str) -> bool:
        """Change the form after a refused request; whether there was something to change."""
        if not _REFUSES.search(refusal):
            return False
        if "max_completion_tokens" in refusal and self.limit_name == "max_tokens":
            self.limit_name = "max_completion_tokens"
        elif "max_tokens" in refusal and self.limit_name == "max_completion_tokens" and "use" in refusal.lower():
            self.limit_name = "max_tokens"
        elif "temperature" in refusal and self.temperature:
            self.temperature = False
        elif re.search(r"\bstop\b", refusal) and self.stop:
            self.stop = False
        elif re.search(r"system|developer", refusal, re.I) and self.system:
            self.system = False
        else:
            return False
        return True

    def _messages(self, messages: Sequence[Message]) -> list[Message]:
        """The chat; without a system role, what it says stands above the first user message."""
        if self.system:
            return list(messages)
        said = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
        rest = [message for message in messages if message["role"] != "system"]
        if said and rest:
            rest[0] = {"role": rest[0]["role"], "content": f"{said}\n\n{rest[0]['content']}"}
        return rest
