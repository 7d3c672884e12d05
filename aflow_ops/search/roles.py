"""What a registered operator can be in a plan, read from its class (`operators/base.py`)."""

from aflow_ops.errors import WorkflowError
from aflow_ops.language.calls import operator_call
from aflow_ops.operators import Operator
from aflow_ops.operators.base import FEEDBACK

# The argument that a plan gives text of its own.
INSTRUCTION = "instruction"


def can_write(operator: type[Operator], *, has_draft: bool) -> bool:
    """Whether its main result is a solution, made from the problem, or from the problem and a draft."""
    if not operator.rewrites() or operator.drafts() is not None or not _fillable(operator):
        return False
    return has_draft or not needs_draft(operator)


def can_choose(operator: type[Operator]) -> bool:
    """Whether it makes one solution of several."""
    return operator.rewrites() and operator.drafts() is not None and _fillable(operator)


def can_check(operator: type[Operator]) -> bool:
    """Whether it says if a draft is fine."""
    return operator.verdict is not None and operator.draft in operator.signature().parameters and _fillable(operator)


def can_revise(operator: type[Operator]) -> bool:
    """Whether it makes a better draft of one and of what a checker said."""
    return can_write(operator, has_draft=True) and FEEDBACK in operator.signature().parameters


def needs_draft(operator: type[Operator]) -> bool:
    """Whether it works on a draft only."""
    parameter = operator.signature().parameters.get(operator.draft)
    return parameter is not None and parameter.default is parameter.empty


def _fillable(operator: type[Operator]) -> bool:
    try:
        operator_call(operator, has_entry_point=True, draft="draft")
    except WorkflowError:
        return False
    return True
