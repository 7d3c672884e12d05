"""The rules of the workflow language, checked on the tree before anything runs.

A rule is here when breaking it makes every run fail or makes no sense for the problem, so that the policy gets its
verdict at once and with a reason. What depends on values is left to the run.
"""

import ast
from collections.abc import Collection

from aflow_ops.errors import WorkflowError
from aflow_ops.language.bounds import check_bounds
from aflow_ops.language.dialects import Spoken, spoken_operator
from aflow_ops.language.imports import BASE_OPERATOR
from aflow_ops.language.scope import Scope, is_known_function, is_self_attribute, used_prompts
from aflow_ops.operators import OPERATORS, Operator
from aflow_ops.operators.base import IGNORED_ARGUMENTS
from data.problem import Domain


def check_workflow(scope: Scope, *, domain: Domain, has_entry_point: bool, prompts: Collection[str] = ()) -> list[str]:
    """Check a workflow that has been repaired.

    Args:
        scope (`Scope`): the workflow.
        domain (`str`): of its problem.
        has_entry_point (`bool`): whether the problem names a function to write.
        prompts (`Collection[str]`): names that the prompt files define.

    Returns:
        `list[str]`: what is passed over when it runs, one short sentence each.

    Raises:
        WorkflowError: stage `"check"`, naming the first rule that is broken.
    """
    _check_main(scope)
    check_bounds(scope.tree)
    _check_names(scope)
    notes = []
    for call in scope.operator_calls():
        notes += _check_arguments(call.spoken, call.node)
        _check_domain(call.operator, domain, has_entry_point)
    for key in set(scope.attributes.values()):
        spoken = spoken_operator(key)
        if spoken is not None:
            _check_domain(spoken.operator, domain, has_entry_point)
    _check_prompts(scope, prompts)
    return notes


def _check_prompts(scope: Scope, prompts: Collection[str]) -> None:
    for written, name in used_prompts(scope).items():
        if name not in prompts:
            known = ", ".join(prompts) or "none"
            raise WorkflowError("check", f"`{written}`: no prompt file defines {name!r}; it defines {known}")


def _check_main(scope: Scope) -> None:
    arguments = scope.main.args
    positional = [*arguments.posonlyargs, *arguments.args][(scope.workflow_class is not None) :]
    takes_problem = bool(positional or arguments.vararg or arguments.kwonlyargs or arguments.kwarg)
    if not takes_problem and not scope.is_scoreflow:
        raise WorkflowError("check", f"`{scope.main.name}` must take the problem as its first argument")
    if not isinstance(scope.main, ast.AsyncFunctionDef):
        raise WorkflowError("check", f"`{scope.main.name}` must be `async def`")
    if not returns_value(scope.main):
        raise WorkflowError("check", "the workflow never returns an answer")


def returns_value(function: ast.AsyncFunctionDef | ast.FunctionDef) -> bool:
    """Whether a function has a `return` with a value, nested functions left aside."""
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Return) and node.value is not None:
            return True
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            pending.extend(ast.iter_child_nodes(node))
    return False


def _check_names(scope: Scope) -> None:
    """Unknown operators: in a constructor, on `self`, or as a bare function."""
    members = _members(scope)
    others = [item for item in ast.walk(scope.tree) if isinstance(item, ast.ClassDef) and item not in scope.classes]
    elsewhere = {id(node) for item in others for node in ast.walk(item)}
    for base in scope.derived.values():
        if base not in scope.keys and base != BASE_OPERATOR:
            raise _unknown_operator(base)
    for node in ast.walk(scope.tree):
        if not isinstance(node, ast.Call):
            continue
        constructed = scope.constructed(node)
        if constructed is not None and constructed not in scope.keys:
            raise _unknown_operator(constructed)
        function = node.func
        if scope.workflow_class is not None and isinstance(function, ast.Attribute) and is_self_attribute(function):
            if function.attr not in members and id(node) not in elsewhere:
                raise WorkflowError("check", f"`self.{function.attr}` is called but never set in __init__")
        elif isinstance(function, ast.Name) and not (scope.spoken(node) or is_known_function(function.id, scope)):
            raise WorkflowError("check", f"unknown operator {function.id!r}; known: {', '.join(_snake_names())}")


def _unknown_operator(name: str) -> WorkflowError:
    return WorkflowError("check", f"unknown operator {name!r}; known: {', '.join(OPERATORS)}")


def _members(scope: Scope) -> set[str]:
    """Attributes that the class and its bases set on `self`, and their methods and variables.

    Everything is a member where a base is not in the source, or attributes are set by name.
    """
    if scope.workflow_class is None:
        return set()
    members: set[str] = set()
    for item in scope.classes:
        known = {base.name for base in scope.classes} | {"object", "ABC"}
        if any(not (isinstance(base, ast.Name) and base.id in known) for base in item.bases):
            return _Everything()
        for node in ast.walk(item):
            if _sets_by_name(node):
                return _Everything()
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                members.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self_attribute(node):
                members.add(node.attr)
        members |= {
            name.id
            for node in item.body
            if isinstance(node, (ast.Assign, ast.AnnAssign))
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            for name in ast.walk(target)
            if isinstance(name, ast.Name)
        }
    return members


def _sets_by_name(node: ast.AST) -> bool:
    if isinstance(node, (ast.FunctionDef, ast.Attribute)):
        return (node.name if isinstance(node, ast.FunctionDef) else node.attr) in (
            "__getattr__",
            "__setattr__",
            "__dict__",
        )
    return isinstance(node, ast.Name) and node.id in ("setattr", "vars")


class _Everything(set[str]):
    """The set that holds every name."""

    def __contains__(self, name: object) -> bool:
        return True


def _snake_names() -> list[str]:
    return [operator.snake_name() for operator in OPERATORS.values()]


def _check_arguments(spoken: Spoken, call: ast.Call) -> list[str]:
    """Check a call against the operator's signature; returns a note for each argument that AFlow's would ignore."""
    if any(isinstance(argument, ast.Starred) for argument in call.args) or any(k.arg is None for k in call.keywords):
        return []  # *args and **kwargs are known at run time only
    name, parameters = spoken.operator.__name__, spoken.parameters
    if len(call.args) > len(parameters):
        raise WorkflowError("check", f"{name} takes {len(parameters)} arguments, not {len(call.args)}")
    given = set(parameters[: len(call.args)])
    unknown = []
    for keyword in call.keywords:
        known = spoken.known(str(keyword.arg))
        if known in given:
            raise WorkflowError("check", f"{name} is given {known!r} twice")
        if known is not None:
            given.add(known)
        elif keyword.arg not in IGNORED_ARGUMENTS:
            unknown.append(str(keyword.arg))
    missing = spoken.missing(sorted(given))
    if missing and unknown:  # a misspelt name, not a further one
        taken = ", ".join(spoken.operator.signature().parameters)
        raise WorkflowError("check", f"{name} has no argument {unknown[0]!r}; it takes {taken}")
    if missing:
        raise WorkflowError("check", f"{name} is called without {', '.join(map(repr, missing))}")
    return [f"ignored {argument} of {name}" for argument in unknown]


def _check_domain(operator: type[Operator], domain: Domain, has_entry_point: bool) -> None:
    misfit = operator.misfit(domain, has_entry_point)
    if misfit is not None:
        raise WorkflowError("check", misfit)
