"""The text of one operator call, its arguments filled by what they are (`operators/base.py`)."""

import json
from collections.abc import Mapping

from aflow_ops.errors import WorkflowError
from aflow_ops.operators import Operator
from aflow_ops.operators.base import FEEDBACK

# What an operator works on when no reviewer came before it.
DEFAULT_FEEDBACK = "Check every step and correct what is wrong."


def quoted(text: str) -> str:
    """Return a string's literal, in the double quotes that workflows are written with."""
    return json.dumps(text, ensure_ascii=False) if text.isprintable() else repr(text)


def operator_call(
    operator: type[Operator],
    *,
    has_entry_point: bool,
    draft: str | None = None,
    drafts: str | None = None,
    feedback: str | None = None,
    options: Mapping[str, str] | None = None,
) -> str:
    """Return the call of an operator by its short name, without `await`.

    Args:
        operator (`type[Operator]`): what is called.
        has_entry_point (`bool`): whether the problem names a function to write.
        draft (`str`, *optional*): expression of the solution so far; `None` before the first one.
        drafts (`str`, *optional*): expression of a list of solutions, for an ensemble.
        feedback (`str`, *optional*): expression of what a reviewer said.
        options (`Mapping[str, str]`, *optional*): expressions of arguments that are given by name.

    Raises:
        WorkflowError: stage `"check"`: an argument without a default is nothing that a pipeline has.
    """
    parameters, options = operator.signature().parameters, options or {}
    takes_draft = operator.drafts() is not None or operator.draft in parameters
    solution = draft or "problem"
    given, has_question = [], False
    for name, parameter in parameters.items():
        required = parameter.default is parameter.empty
        if name in options:
            given.append(f"{name}={options[name]}")
        elif name == operator.drafts():
            given.append(f"{name}={drafts or f'[{solution}]'}")
        elif name == operator.draft:
            if required or draft is not None:
                given.append(f"{name}={solution}" if required else f"{name}=str({solution})")
        elif name == FEEDBACK:
            given.append(f"{name}={feedback or quoted(DEFAULT_FEEDBACK)}")
        elif name == "entry_point":
            if has_entry_point or required:
                given.append(f"{name}=entry_point")
        elif not has_question:
            has_question = True
            alone = takes_draft or draft is None
            given.append(f"{name}=problem" if alone else f'{name}=problem + "\\n\\nDraft:\\n" + str({draft})')
        elif required:
            raise WorkflowError(
                "check", f"{operator.__name__} cannot stand in a pipeline: nothing there is its argument {name!r}"
            )
    return f"{operator.snake_name()}({', '.join(given)})"
