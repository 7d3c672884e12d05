"""The kinds of problems that a search is for, domain and whether there is an entry point; what it may start from."""

from collections.abc import Callable, Collection, Iterable, Sequence

from aflow_ops.errors import UsageError, WorkflowError
from aflow_ops.language import Workflow, parse_workflow
from aflow_ops.operators import OPERATORS, Operator, fitting_operators
from aflow_ops.search.plan import call, least_plan, print_plan
from data.problem import Domain, Problem


def kinds_of(problems: Iterable[Problem]) -> list[tuple[Domain, bool]]:
    """Return domain, and whether there is an entry point, of every kind among some problems."""
    return sorted({(problem.domain, problem.entry_point is not None) for problem in problems})


def common_operators(
    kinds: Sequence[tuple[Domain, bool]], offered: Collection[str] | None = None
) -> dict[str, type[Operator]]:
    """Return the registered operators that fit every kind of problem, by name.

    Args:
        kinds (`Sequence[tuple[Domain, bool]]`): domain, and whether there is an entry point.
        offered (`Collection[str]`, *optional*): no others than these.
    """
    allowed = [{operator.__name__ for operator in fitting_operators(*kind)} for kind in kinds]
    allowed += [] if offered is None else [set(offered)]
    common = set.intersection(*allowed) if kinds else set()
    return {name: operator for name, operator in OPERATORS.items() if name in common}


def checker(kinds: Sequence[tuple[Domain, bool]]) -> Callable[[str], Workflow]:
    """Return the workflow language's verdict for a search's problems.

    A workflow that fits one kind of problem is one; on the others it earns nothing.

    Args:
        kinds (`Sequence[tuple[Domain, bool]]`): domain, and whether there is an entry point.
    """

    def check(completion: str) -> Workflow:
        errors = []
        for domain, has_entry_point in kinds:
            try:
                return parse_workflow(completion, domain=domain, has_entry_point=has_entry_point)
            except WorkflowError as error:
                errors.append(error)
        raise errors[0]

    return check


def root_workflow(kinds: Sequence[tuple[Domain, bool]]) -> str:
    """Return the workflow that a search starts from when it is given none: AFlow's, one Custom call.

    Raises:
        UsageError: there are no problems.
    """
    if not kinds:
        raise UsageError("a search needs problems")
    code = _is_code(kinds)
    return print_plan(call("CustomCodeGenerate" if code else "Custom"), has_entry_point=code)


def operator_workflows(kinds: Sequence[tuple[Domain, bool]], offered: Collection[str] | None = None) -> dict[str, str]:
    """Return the least workflow around each of the `common_operators`, by the operator's name."""
    plans = {name: least_plan(operator) for name, operator in common_operators(kinds, offered).items()}
    return {name: print_plan(plan, has_entry_point=_is_code(kinds)) for name, plan in plans.items() if plan is not None}


def _is_code(kinds: Sequence[tuple[Domain, bool]]) -> bool:
    return all(flag for _, flag in kinds)
