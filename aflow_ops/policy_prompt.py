"""The policy's prompt: what a workflow is, the operators that fit the problem, one worked example, the problem.

The operator list is made from the operators' own signatures and summaries, so the prompt cannot drift from the code.
Only a `ProblemView` goes in: a prompt cannot hold the gold answer or a hidden test.
"""

import inspect
from typing import Literal

from aflow_ops.domains import domain_prompt
from aflow_ops.executor.types import Message
from aflow_ops.operators import Operator, fitting_operators
from data.problem import ProblemView

PromptStyle = Literal["full", "brief"]
PROMPT_STYLES: tuple[PromptStyle, ...] = ("full", "brief")

_TASK = """\
You design agent workflows. You do not solve the problem yourself: you write a short Python program that calls
operators, and a language model answers inside them. Your program is run on the problem and judged by its answer.

Operators (all are coroutines; each returns a dict with the keys shown):
{operators}

Rules:
- Define `async def workflow({parameters})` and nothing else at the top level. `problem` is the problem's text{about}.
- Call at least one operator, with `await` and keyword arguments, and return the final answer as text.
- Plain Python around the calls is fine: if, for, try, lists, f-strings, `asyncio.gather`, re, json, math. There are no
  files, no network and no other modules.
- A call costs money and time: use several only where they make the answer better.

Example, for {example_problem}:
```python
{example}
```

Reply with one ```python block that holds the workflow for the problem below, and nothing else."""


def policy_messages(view: ProblemView, style: PromptStyle = "full") -> list[Message]:
    """Return the chat that asks the policy for a workflow.

    Args:
        view (`ProblemView`): the problem's public part.
        style (`str`): `"full"` explains the operators and shows an example; `"brief"` only names the domain and its
            operators and leaves out the passage that a question is about, which the executor reads: for a policy that a
            warm start has taught the language, and for which every token counts.

    Raises:
        ValueError: an unknown style.
    """
    if style not in PROMPT_STYLES:
        raise ValueError(f"prompt_style must be one of {', '.join(PROMPT_STYLES)}, not {style!r}")
    system, user = (_brief_system(view), view.question) if style == "brief" else (_full_system(view), view.text)
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def describe_operator(operator: type[Operator], said: str = "") -> str:
    """Return one line of the prompt: call, returned keys, what it is for.

    Args:
        operator (`type[Operator]`): which.
        said (`str`): what it is for, in other words than its own.
    """
    arguments = []
    for name, parameter in operator.signature().parameters.items():
        if name == "mode":
            continue  # AFlow's, without a meaning here
        optional = parameter.default is not inspect.Parameter.empty
        arguments.append(f"{name}={parameter.default!r}" if optional else name)
    keys = ", ".join(f'"{key}"' for key in operator.returns)
    return f"- {operator.snake_name()}({', '.join(arguments)}) -> {{{keys}}}: {said or operator.summary}"


def _fitting(view: ProblemView) -> list[type[Operator]]:
    return fitting_operators(view.domain, view.entry_point is not None)


def _brief_system(view: ProblemView) -> str:
    return f"{view.domain}: {', '.join(operator.snake_name() for operator in _fitting(view))}"


def _full_system(view: ProblemView) -> str:
    has_entry_point = view.entry_point is not None
    prompt = domain_prompt(view.domain).without_function if not has_entry_point else None
    prompt = prompt or domain_prompt(view.domain)
    return _TASK.format(
        operators="\n".join(describe_operator(operator) for operator in _fitting(view)),
        parameters="problem, entry_point" if has_entry_point else "problem",
        about=prompt.about,
        example_problem=prompt.example_problem,
        example=prompt.example,
    )
