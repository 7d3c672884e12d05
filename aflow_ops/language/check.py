"""The rules of the workflow language, checked on the tree before anything runs.

A rule is here when breaking it makes every run fail or makes no sense for the problem, so that the policy gets its
verdict at once and with a reason. What depends on values is left to the run.
"""

import ast
import inspect

from aflow_ops.errors import WorkflowError
from aflow_ops.language.scope import Scope, constructed_operator, is_known_function, is_self_attribute
from aflow_ops.operators import OPERATORS, Operator
from aflow_ops.operators.base import IGNORED_ARGUMENTS
from data.problem import Domain

ALLOWED_MODULES = frozenset(
    {"asyncio", "collections", "dataclasses", "json", "math", "random", "re", "typing", "__future__"}
)
# First parts of the module paths that AFlow's own workflows import; nothing is imported from there.
AFLOW_MODULES = frozenset({"metagpt", "scripts", "workspace", "aflow", "optimized", "experiments"})


def check_workflow(scope: Scope, *, domain: Domain, has_entry_point: bool) -> None:
    """Check a workflow that has been repaired.

    Raises:
        WorkflowError: stage `"check"`, naming the first rule that is broken.
    """
    _check_imports(scope)
    _check_main(scope)
    _check_names(scope)
    for call in scope.operator_calls():
        _check_arguments(call.operator, call.node)
        _check_domain(call.operator, domain, has_entry_point)
    for name in set(scope.attributes.values()):
        _check_domain(OPERATORS[name], domain, has_entry_point)


def _check_imports(scope: Scope) -> None:
    for node in ast.walk(scope.tree):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or "."]
        for module in modules:
            if module.split(".")[0] not in ALLOWED_MODULES | AFLOW_MODULES:
                raise WorkflowError("check", f"import of {module!r}: a workflow may only import {_listed()}")


def _listed() -> str:
    return ", ".join(sorted(ALLOWED_MODULES - {"__future__"}))


def _check_main(scope: Scope) -> None:
    arguments = scope.main.args
    positional = [*arguments.posonlyargs, *arguments.args][(scope.workflow_class is not None) :]
    if not positional and arguments.vararg is None:
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
    for node in ast.walk(scope.tree):
        if not isinstance(node, ast.Call):
            continue
        constructed = constructed_operator(node)
        if constructed is not None and constructed not in OPERATORS:
            raise WorkflowError("check", f"unknown operator {constructed!r}; known: {', '.join(OPERATORS)}")
        function = node.func
        if scope.workflow_class is not None and isinstance(function, ast.Attribute) and is_self_attribute(function):
            if function.attr not in members:
                raise WorkflowError("check", f"`self.{function.attr}` is called but never set in __init__")
        elif isinstance(function, ast.Name) and not (scope.operator_of(node) or is_known_function(function.id, scope)):
            raise WorkflowError("check", f"unknown operator {function.id!r}; known: {', '.join(_snake_names())}")


def _members(scope: Scope) -> set[str]:
    """Attributes that the class sets on `self`, and its methods."""
    if scope.workflow_class is None:
        return set()
    methods = {
        node.name for node in scope.workflow_class.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    stored = {
        node.attr
        for node in ast.walk(scope.workflow_class)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self_attribute(node)
    }
    return methods | stored


def _snake_names() -> list[str]:
    return [operator.snake_name() for operator in OPERATORS.values()]


def _check_arguments(operator: type[Operator], call: ast.Call) -> None:
    parameters = operator.signature().parameters
    if any(isinstance(argument, ast.Starred) for argument in call.args) or any(k.arg is None for k in call.keywords):
        return  # *args and **kwargs are known at run time only
    if len(call.args) > len(parameters):
        raise WorkflowError("check", f"{operator.__name__} takes {len(parameters)} arguments, not {len(call.args)}")
    given = set(list(parameters)[: len(call.args)])
    for keyword in call.keywords:
        name = str(keyword.arg)
        if name in given:
            raise WorkflowError("check", f"{operator.__name__} is given {name!r} twice")
        if name not in parameters and name not in IGNORED_ARGUMENTS:
            raise WorkflowError(
                "check", f"{operator.__name__} has no argument {name!r}; it takes {', '.join(parameters)}"
            )
        given.add(name)
    required = [name for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty]
    missing = [name for name in required if name not in given]
    if missing:
        raise WorkflowError("check", f"{operator.__name__} is called without {', '.join(map(repr, missing))}")


def _check_domain(operator: type[Operator], domain: Domain, has_entry_point: bool) -> None:
    misfit = operator.misfit(domain, has_entry_point)
    if misfit is not None:
        raise WorkflowError("check", misfit)
