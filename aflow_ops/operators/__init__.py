"""The ten AFlow operators. `OPERATORS` maps class names to classes; it is what the checker and the prompt read."""

from aflow_ops.operators.base import Operator, OperatorContext
from aflow_ops.operators.code import CustomCodeGenerate, Programmer, Test
from aflow_ops.operators.ensemble import MdEnsemble, ScEnsemble
from aflow_ops.operators.generate import AnswerGenerate, Custom
from aflow_ops.operators.refine import Format, Review, Revise
from data.problem import Domain

OPERATORS: dict[str, type[Operator]] = {
    operator.__name__: operator
    for operator in (
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
    )
}


def fitting_operators(domain: Domain, has_entry_point: bool) -> list[type[Operator]]:
    """Return the operators that a workflow for such a problem may call, in the order of `OPERATORS`."""
    return [operator for operator in OPERATORS.values() if operator.misfit(domain, has_entry_point) is None]


__all__ = ["OPERATORS", "Operator", "OperatorContext", "fitting_operators"]
