"""The operators' prompts: two YAML files, one for capable executors and one for a very small one.

One entry:

    answer_generate:
      system: "Answer the question."
      examples:
        - {user: "Question: What is 2 + 2?", assistant: "4"}
      user: "Question: $input"
      max_tokens: 64
      stop: ["\\n"]
      temperature: 0

`examples`, `stop` and `temperature` may be left out; without a temperature the executor's own one is used. What never
changes stands first and the problem last, so that servers can keep the beginning of the prompt in their cache.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

import yaml

from aflow_ops.executor.types import Message

PROMPT_SETS = ("standard", "small")


@dataclass(frozen=True)
class Prompt:
    """One request to the executor, with places for the problem in its last message.

    Args:
        head (`tuple[Message, ...]`): system message and worked examples, sent as they are.
        user (`Template`): the last message; `$name` stands for a field.
        max_tokens (`int`): most tokens in the reply.
        stop (`tuple[str, ...]`): strings that end the reply.
        temperature (`float`, *optional*): sampling temperature; `None` for the executor's own.
        field_chars (`int`): a longer field loses its middle, so that the request fits the executor's context.
    """

    head: tuple[Message, ...]
    user: Template
    max_tokens: int
    stop: tuple[str, ...]
    temperature: float | None
    field_chars: int

    def messages(self, fields: Mapping[str, str]) -> list[Message]:
        """Return the chat.

        Args:
            fields (`Mapping[str, str]`): text for every `$name`. It is put in once and never read as a template, so
                braces and dollar signs in it mean nothing.

        Raises:
            KeyError: a field is missing.
        """
        shortened = {name: shorten(text, self.field_chars) for name, text in fields.items()}
        return [*self.head, {"role": "user", "content": self.user.substitute(shortened).strip()}]


def shorten(text: str, limit: int) -> str:
    """Return the text, without its middle when it is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    keep = max(limit - 5, 0)
    head = keep - keep // 2
    return f"{text[:head]}\n...\n{text[len(text) - keep // 2 :]}"


@cache
def load_prompts(prompt_set: str) -> Mapping[str, Prompt]:
    """Return the prompts of one set by name.

    Args:
        prompt_set (`str`): `"standard"` or `"small"`.

    Raises:
        ValueError: there is no such set.
    """
    if prompt_set not in PROMPT_SETS:
        raise ValueError(f"prompt_set must be one of {', '.join(PROMPT_SETS)}, not {prompt_set!r}")
    path = Path(__file__).parent / "prompts" / f"{prompt_set}.yaml"
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    field_chars = entries.pop("field_chars")
    return {name: read_prompt(entry, field_chars) for name, entry in entries.items()}


def find_prompt(name: str, prompt_set: str, own: Mapping[str, Mapping[str, Any]]) -> Prompt:
    """Return a prompt that an operator brings along, or else the set's prompt of this name.

    Args:
        name (`str`): of the prompt.
        prompt_set (`str`): `"standard"` or `"small"`.
        own (`Mapping[str, Mapping[str, Any]]`): the operator's own entries by name.

    Raises:
        KeyError: neither has it.
    """
    prompts = load_prompts(prompt_set)
    return read_prompt(own[name], next(iter(prompts.values())).field_chars) if name in own else prompts[name]


def read_prompt(entry: Mapping[str, Any], field_chars: int = 0) -> Prompt:
    """Return the prompt of one entry.

    Args:
        entry (`Mapping[str, Any]`): see the example above.
        field_chars (`int`): most characters of a field.

    Raises:
        KeyError: it has no `user` or no `max_tokens`.
        ValueError: a dollar sign in `user` is no place for a field; `$$` stands for the sign itself.
    """
    user = Template(entry["user"])
    if not user.is_valid():
        raise ValueError("a `$` in `user` that no name follows; write `$$` for the sign itself")
    head: list[Message] = []
    if "system" in entry:
        head.append({"role": "system", "content": entry["system"].strip()})
    for example in entry.get("examples", ()):
        head.append({"role": "user", "content": example["user"].strip()})
        head.append({"role": "assistant", "content": example["assistant"].strip()})
    return Prompt(
        head=tuple(head),
        user=user,
        max_tokens=entry["max_tokens"],
        stop=tuple(entry.get("stop", ())),
        temperature=entry.get("temperature"),
        field_chars=field_chars,
    )
