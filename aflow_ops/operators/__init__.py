"""The operators. `OPERATORS` maps class names to classes; it is what the checker, the DSL and the prompt read.

An operator is one class (`base.py`); `register_operator` makes one known, `load_operators` those of a module or file
outside the repository.
"""

from aflow_ops.operators.base import Operator, OperatorContext
from aflow_ops.operators.code import CustomCodeGenerate, Programmer, Test
from aflow_ops.operators.ensemble import MdEnsemble, ScEnsemble
from aflow_ops.operators.generate import AnswerGenerate, Custom
from aflow_ops.operators.refine import Format, Review, Revise
from aflow_ops.operators.registry import (
    OPERATORS,
    fitting_operators,
    load_operators,
    operator_argument,
    register_operator,
    spelled,
)

# AFlow's ten, in the order in which the prompt lists them.
for _operator in (
    Custom,
    AnswerGenerate,
    CustomCodeGenerate,
    Programmer,
    Test,
    Review,
    Revise,
    ScEnsemble,
    MdEnsemble,
    Format,
):
    register_operator(_operator)

__all__ = [
    "OPERATORS",
    "Operator",
    "OperatorContext",
    "fitting_operators",
    "load_operators",
    "operator_argument",
    "register_operator",
    "spelled",
]
