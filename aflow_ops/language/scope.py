"""Which calls in a workflow's tree are operator calls: the one question that the checker and the repairs share."""

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass

from aflow_ops.errors import WorkflowError
from aflow_ops.operators import OPERATORS, Operator

FunctionNode = ast.AsyncFunctionDef | ast.FunctionDef

OPERATOR_BY_SPELLING = {name.lower(): name for name in OPERATORS}
# What AFlow's workflows use beside operators; the runtime provides or ignores these.
AFLOW_NAMES = frozenset({"operator", "prompt_custom", "create_llm_instance", "CostManager", "DatasetType", "logger"})


def spelled(name: str) -> str | None:
    """Return the operator's class name for any spelling of it: `sc_ensemble`, `scEnsemble`, `ScEnsemble`."""
    return OPERATOR_BY_SPELLING.get(name.replace("_", "").lower())


@dataclass(frozen=True)
class OperatorCallNode:
    """A call of an operator in the tree."""

    node: ast.Call
    operator: type[Operator]


@dataclass(frozen=True)
class Scope:
    """A workflow's tree with what its names mean.

    Args:
        tree (`ast.Module`): the whole source.
        main (`FunctionNode`): `workflow`, or `Workflow.__call__`.
        workflow_class (`ast.ClassDef`, *optional*): the class, in native form.
        attributes (`dict[str, str]`): operator class names by attribute of `self`, in native form.
        bound (`frozenset[str]`): every name that the source itself binds.
    """

    tree: ast.Module
    main: FunctionNode
    workflow_class: ast.ClassDef | None
    attributes: dict[str, str]
    bound: frozenset[str]

    def operator_of(self, call: ast.Call) -> type[Operator] | None:
        """Return the operator that a call runs, or `None` for any other call."""
        function = call.func
        if isinstance(function, ast.Name) and self.workflow_class is None and function.id not in self.bound:
            name = spelled(function.id)
            return OPERATORS[name] if name and OPERATORS[name].snake_name() == function.id else None
        if isinstance(function, ast.Attribute) and is_self_attribute(function) and function.attr in self.attributes:
            return OPERATORS[self.attributes[function.attr]]
        if isinstance(function, ast.Call):
            name = constructed_operator(function)
            return OPERATORS.get(name) if name else None
        return None

    def operator_calls(self) -> Iterator[OperatorCallNode]:
        """Yield operator calls in the order of the source."""
        calls = [node for node in ast.walk(self.tree) if isinstance(node, ast.Call)]
        for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset, -(node.end_col_offset or 0))):
            operator = self.operator_of(call)
            if operator is not None:
                yield OperatorCallNode(call, operator)


def is_self_attribute(node: ast.expr) -> bool:
    """Whether the expression is `self.name`."""
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"


def constructed_operator(call: ast.Call) -> str | None:
    """Return `X` of a call `operator.X(...)`."""
    function = call.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "operator":
        return function.attr
    return None


def scope_of(tree: ast.Module) -> Scope:
    """Find the workflow in a parsed source.

    Raises:
        WorkflowError: stage `"find"`: neither `class Workflow` with `__call__` nor `async def workflow`.
    """
    bound = frozenset(_bound_names(tree))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Workflow":
            main = next(
                (item for item in node.body if isinstance(item, FunctionNode) and item.name == "__call__"), None
            )
            if main is None:
                raise WorkflowError("find", "class Workflow has no `async def __call__(self, problem)`")
            return Scope(tree, main, node, _operator_attributes(node), bound)
    for node in tree.body:
        if isinstance(node, FunctionNode) and node.name == "workflow":
            return Scope(tree, node, None, {}, bound)
    raise WorkflowError("find", "no `async def workflow(problem)` and no `class Workflow` at the top level")


def _operator_attributes(workflow_class: ast.ClassDef) -> dict[str, str]:
    attributes = {}
    for node in ast.walk(workflow_class):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            name = constructed_operator(node.value)
            for target in node.targets:
                if name in OPERATORS and isinstance(target, ast.Attribute) and is_self_attribute(target):
                    attributes[target.attr] = name
    return attributes


def _bound_names(tree: ast.Module) -> Iterator[str]:
    """Yield every name that the source binds anywhere; the workflow's own function is not an operator's name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name


def is_known_function(name: str, scope: Scope) -> bool:
    """Whether a called bare name is defined by the source, Python, or AFlow's surroundings."""
    return name in scope.bound or hasattr(builtins, name) or name in AFLOW_NAMES
