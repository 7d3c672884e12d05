"""A workflow in AFlow's own form: `graph.py` and `prompt.py`, for this project's runtime and for AFlow's loader.

The short form becomes a class: every operator that it calls is made in `__init__`, its calls go to `self`, and what the
main function returns gains the cost that AFlow expects beside it.
"""

import ast
from dataclasses import dataclass

from aflow_ops.language import Workflow
from aflow_ops.language.scope import Scope, scope_of
from aflow_ops.python_source import MODULES_AT_HAND

_IMPORTS = """\
{modules}from typing import Literal
import workspace.{dataset}.workflows.template.operator as operator
import workspace.{dataset}.workflows.round_{round}.prompt as prompt_custom
from scripts.async_llm import create_llm_instance
from scripts.evaluator import DatasetType
"""
_CLASS = """\
class Workflow:
    def __init__(self, name: str, llm_config, dataset: DatasetType) -> None:
        self.name = name
        self.dataset = dataset
        self.llm = create_llm_instance(llm_config)
"""
_AFLOW = ("workspace", "scripts", "metagpt")
# Operator -> an argument that has a default here and none in AFlow.
_REQUIRED_BY_AFLOW = {"Custom": "instruction", "CustomCodeGenerate": "instruction"}


@dataclass(frozen=True)
class NativeFiles:
    """The two files of a round.

    Args:
        graph (`str`): `graph.py`.
        prompt (`str`): `prompt.py`.
    """

    graph: str
    prompt: str


def native_files(workflow: Workflow, *, dataset: str, number: int) -> NativeFiles:
    """Return a checked workflow as AFlow's files.

    Args:
        workflow (`Workflow`): in any form.
        dataset (`str`): AFlow's name of the data set, part of its import paths.
        number (`int`): the round, likewise.
    """
    scope = scope_of(ast.parse(workflow.source))
    body = _class_of(scope) if scope.workflow_class is None else _without_imports(scope.tree)
    used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    modules = "".join(f"import {name}\n" for name in MODULES_AT_HAND if name in used)
    if "Counter" in used:
        modules += "from collections import Counter\n"
    head = _IMPORTS.format(modules=modules, dataset=dataset, round=number)
    prompts = "".join(f"{name} = {text!r}\n" for name, text in workflow.prompts.items())
    return NativeFiles(f"{head}\n\n{body}\n", prompts)


def _class_of(scope: Scope) -> str:
    """Turn `async def workflow` into a class, its helpers staying beside it."""
    main = scope.main
    operators = {call.operator.__name__: call.operator.snake_name() for call in scope.operator_calls()}
    _ToMethod(scope).visit(scope.tree)
    arguments = [argument.arg for argument in [*main.args.posonlyargs, *main.args.args, *main.args.kwonlyargs]]
    main.args.args.insert(0, ast.arg("self"))
    main.name = "__call__"
    _with_cost(main)
    made = "".join(f"        self.{snake} = operator.{name}(self.llm)\n" for name, snake in operators.items())
    method = "\n".join("    " + line if line else "" for line in ast.unparse(main).splitlines())
    helpers = [ast.unparse(node) for node in scope.tree.body if node is not main and _is_helper(node)]
    assert "self" not in arguments
    return "\n\n\n".join([*helpers, f"{_CLASS}{made}\n{method}"])


class _ToMethod(ast.NodeTransformer):
    """Sends operator calls to `self`; AFlow's operators take every argument by name and have fewer defaults."""

    def __init__(self, scope: Scope) -> None:
        self.calls = {id(call.node): call.operator for call in scope.operator_calls()}

    def visit_Call(self, node: ast.Call) -> ast.AST:
        operator = self.calls.get(id(node))
        self.generic_visit(node)
        if operator is None:
            return node
        names = list(operator.signature().parameters)
        if not any(isinstance(argument, ast.Starred) for argument in node.args):
            node.keywords = [
                *(ast.keyword(name, value) for name, value in zip(names, node.args, strict=False)),
                *node.keywords,
            ]
            node.args = []
        wanted = _REQUIRED_BY_AFLOW.get(operator.__name__)
        if wanted and not any(keyword.arg in (wanted, None) for keyword in node.keywords):
            node.keywords.append(ast.keyword(wanted, ast.Constant("")))
        node.func = ast.Attribute(ast.Name("self", ast.Load()), operator.snake_name(), ast.Load())
        return node


def _with_cost(main: ast.AsyncFunctionDef | ast.FunctionDef) -> None:
    """Return `(answer, cost)` wherever the function itself returns an answer."""
    cost = 'self.llm.get_usage_summary()["total_cost"]'
    pending: list[ast.AST] = list(main.body)
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            continue
        if isinstance(node, ast.Return) and node.value is not None:
            node.value = ast.Tuple([node.value, ast.parse(cost, mode="eval").body], ast.Load())
            continue
        pending.extend(ast.iter_child_nodes(node))


def _without_imports(tree: ast.Module) -> str:
    kept = [node for node in tree.body if not _is_import(node)]
    return "\n\n\n".join(ast.unparse(node) for node in kept)


def _is_helper(node: ast.stmt) -> bool:
    """Whether a statement beside the workflow's function goes into the file as it is."""
    match node:
        case ast.Assign(targets=[ast.Name(id="workflow")], value=ast.Name()):  # another name of the function
            return False
    return not _is_import(node)


def _is_import(node: ast.stmt) -> bool:
    """Whether a statement is replaced by the imports at the head of the file."""
    if isinstance(node, ast.Import):
        return all(alias.name.split(".")[0] in (*MODULES_AT_HAND, *_AFLOW) for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] in (*_AFLOW, "typing", "collections")
    return False
