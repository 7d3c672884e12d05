"""The prompt that asks a language model for one modification of a workflow, and what is read from its reply.

It shows the parent with its score, what was tried on it before and what that came to, the operators, and a few problems
that the parent did not solve, each with what its run said. The reply names the modification in a `<modification>` tag
and gives the whole changed workflow in a fence, with a `<prompt>` block where it uses `prompt_custom`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from aflow_ops.executor.types import Message
from aflow_ops.operators import fitting_operators
from aflow_ops.policy_prompt import describe_operator
from aflow_ops.search.expand import Context, Failure, Proposal, as_completion
from aflow_ops.search.plan import without_plan
from data.problem import Domain

# What the prompt holds of one text that others wrote: a problem, an error, an operator's output.
MAX_SHOWN_CHARS = 600
MAX_SHOWN_CHILDREN = 12
# Scores that differ by less are the same number, summed in another order.
EQUAL = 1e-9
# A longer reply is cut: a workflow is a few kilobytes.
MAX_REPLY_CHARS = 64_000
# A model is shown so much of a reply of its own that was refused: prose without end must not fill its context.
MAX_SHOWN_REPLY_CHARS = 8_000

_USED = re.compile(r"\bprompt_custom\.([A-Za-z_]\w*)")
# A block that is not fenced within itself.
_BLOCK = re.compile(r"<prompts?>(?!\s*(?:`{3}|~{3}))", re.IGNORECASE)
_MODIFICATION = re.compile(r"<modification>(.{0,2000}?)</modification>", re.DOTALL | re.IGNORECASE)

_TASK = """\
You improve agent workflows. A workflow is a short Python program that calls operators; a language model answers inside
them. It is run on many problems of one kind and judged by the share of right answers.

Operators (coroutines; each returns a dict with the keys shown):
{operators}

Rules:
- The program defines `async def workflow(problem{entry_point})`, calls operators by these names with `await` and
  keyword arguments, and returns the final answer as text. It must fit every problem of the kind: it names no answer.
- Plain Python around the calls is fine, with re, json, math, random, collections and asyncio. There are no files, no
  network and no other modules.
- A workflow of class `Workflow` may stay one; a `prompt_custom.NAME` that is new or changed stands in a <prompt> block
  as NAME = "...".
- Change one thing. Learn from what was tried before; do not try it again.
- Calls cost money: add one only where it can make answers right that are wrong now.

Reply with
<modification>what you change and why, in one sentence</modification>
and then the whole changed workflow in one ```python block."""


def edit_messages(
    context: Context,
    kinds: Sequence[tuple[Domain, bool]],
    refused: Sequence[tuple[Proposal, str]] = (),
    offered: Mapping[str, str] | None = None,
) -> list[Message]:
    """Return the chat that asks for one modification.

    Args:
        context (`Context`): the parent and what is known of it.
        kinds (`Sequence[tuple[Domain, bool]]`): domain, and whether there is an entry point, of each kind of problem.
        refused (`Sequence[tuple[Proposal, str]]`): earlier replies with what was wrong with them.
        offered (`Mapping[str, str]`, *optional*): no other operators than these, each with what is said of it.
    """
    parts = [
        f"The workflow scores {context.score:.3f} (1 is best):\n"
        f"```python\n{as_completion(without_plan(context.parent.workflow), context.parent.prompts)}\n```",
        _experience(context),
        *(_failure(number, failure) for number, failure in enumerate(context.failures, start=1)),
        "Give one modification that makes it better.",
    ]
    messages: list[Message] = [
        {"role": "system", "content": _system(kinds, offered)},
        {"role": "user", "content": "\n\n".join(part for part in parts if part)},
    ]
    for proposal, error in refused:
        said = f"<modification>{proposal.modification}</modification>\n{proposal.completion}"
        messages.append({"role": "assistant", "content": said[:MAX_SHOWN_REPLY_CHARS]})
        messages.append(
            {"role": "user", "content": f"This cannot be used: {_shown(error)}\nReply again, in the form asked for."}
        )
    return messages


def read_reply(text: str) -> tuple[str, str]:
    """Return the modification and the text that should hold the workflow.

    Args:
        text (`str`): the reply, whatever it is.
    """
    text = text[:MAX_REPLY_CHARS]
    found = _MODIFICATION.search(text)
    if found is None:
        first = next((line.strip() for line in text.splitlines() if line.strip()), "")
        return first[:200], text
    return " ".join(found.group(1).split()), text[: found.start()] + text[found.end() :]


def with_kept_prompts(completion: str, prompts: Mapping[str, Any]) -> str:
    """Return a reply with the prompts of its parent that it uses as they were: a node's prompts are complete.

    Args:
        completion (`str`): the reply without its modification.
        prompts (`Mapping[str, Any]`): the parent's.
    """
    known = [name for name in dict.fromkeys(_USED.findall(completion)) if name in prompts]
    kept = [name for name in known if re.search(rf"^\s*{name}\s*[:=]", completion, re.MULTILINE) is None]
    if not kept:
        return completion
    block = "\n".join(f"{name} = {prompts[name]!r}" for name in kept).replace("</", "<\\x2f")
    if "<prompt" in completion.lower():
        return _BLOCK.sub(lambda tag: f"{tag.group()}\n{block}\n", completion, count=1)
    return f"{completion}\n<prompt>\n{block}\n</prompt>"


def _system(kinds: Sequence[tuple[Domain, bool]], offered: Mapping[str, str] | None) -> str:
    listed = dict.fromkeys(operator for kind in kinds for operator in fitting_operators(*kind))
    told = {operator: _shown((offered or {}).get(operator.__name__, "")) for operator in listed}
    return _TASK.format(
        operators="\n".join(
            describe_operator(operator, said)
            for operator, said in told.items()
            if offered is None or operator.__name__ in offered
        ),
        entry_point=", entry_point" if kinds and all(flag for _, flag in kinds) else "",
    )


def _experience(context: Context) -> str:
    """What was tried on the parent: successes as successes, failures as failures, each with its score."""
    if not context.children:
        return ""
    lines = []
    for modification, score in context.children[-MAX_SHOWN_CHILDREN:]:
        if score is None:
            lines.append(f"- did not run: {_shown(modification)}")
        else:
            gain = score - context.score
            word = "better" if gain > EQUAL else "worse" if gain < -EQUAL else "no change"
            lines.append(f"- {word} ({score:.3f}): {_shown(modification)}")
    return "Tried on it before:\n" + "\n".join(lines)


def _failure(number: int, failure: Failure) -> str:
    sample = failure.sample
    ran = "\n".join(f"  {_shown(call)}" for call in sample.calls[:6])
    end = f"It failed: {_shown(sample.error)}" if sample.error else f"It answered: {_shown(sample.answer or '')}"
    steps = f"\nOperators called:\n{ran}" if ran else ""
    head = f"Problem {number} that it does not solve (reward {sample.reward:g}):"
    return f"{head}\n<problem>\n{_shown(failure.problem)}\n</problem>{steps}\n{end}"


def _shown(text: str) -> str:
    if len(text) <= MAX_SHOWN_CHARS:
        return text
    half = MAX_SHOWN_CHARS // 2
    return f"{text[:half]} ... {text[-half:]}"
