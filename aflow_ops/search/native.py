"""A workflow in AFlow's own form: `graph.py` and `prompt.py`, for this project's runtime and for AFlow's loader.

The short form becomes a class: every operator that it calls is made in `__init__`, its calls go to `self`, and what the
main function returns gains the cost that AFlow expects beside it. Where functions beside the main one use operators
too, or it is not called as AFlow calls it, these functions move into `__call__`, where they find `self`.
"""

import ast
from collections.abc import Sequence
from dataclasses import dataclass

from aflow_ops.language import Workflow
from aflow_ops.language.scope import Scope, scope_of
from aflow_ops.lowering import call_arguments
from aflow_ops.operators import OPERATORS
from aflow_ops.python_source import MODULES_AT_HAND
from aflow_ops.search.aflow_template import REQUIRED_BY_AFLOW

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
_COST = 'self.llm.get_usage_summary()["total_cost"]'
# What a `self` of the workflow's own is called in the class.
_OTHER_SELF = "self_"
_AFLOW = ("workspace", "scripts", "metagpt")


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
    by_name = {operator.snake_name(): name for name, operator in OPERATORS.items()}
    used = [node for node in _free_names(scope) if node.id in by_name]
    natural = _is_called_as_aflow_does(scope.main)
    _ToSelf(scope, used).visit(scope.tree)
    names = dict.fromkeys(node.id for node in used)
    made = "".join(f"        self.{name} = operator.{by_name[name]}(self.llm)\n" for name in names)
    beside = [node for node in scope.tree.body if node is not scope.main and _is_helper(node)]
    moved = _moved(beside)
    method = _method(scope.main) if natural and not moved else _method_around(scope, moved)
    helpers = [ast.unparse(node) for node in beside if node not in moved]
    return "\n\n\n".join([*helpers, f"{_CLASS}{made}\n{_indented(method)}"])


def _free_names(scope: Scope) -> list[ast.Name]:
    """The names that the source does not bind, without Python's `format`."""
    nodes = list(ast.walk(scope.tree))
    pythons = {id(node.func) for node in nodes if isinstance(node, ast.Call) and scope.is_pythons_format(node)}
    names = [node for node in nodes if isinstance(node, ast.Name) and id(node) not in pythons]
    return [node for node in names if node.id not in scope.bound]


def _is_called_as_aflow_does(main: ast.AsyncFunctionDef | ast.FunctionDef) -> bool:
    """Whether the problem, and the entry point if it is wanted, are all that must be passed, in this order."""
    names = [argument.arg for argument in [*main.args.posonlyargs, *main.args.args]]
    required = names[: len(names) - len(main.args.defaults)]
    only_by_name = [
        each for each, default in zip(main.args.kwonlyargs, main.args.kw_defaults, strict=True) if not default
    ]
    return required in (["problem"], ["problem", "entry_point"]) and not only_by_name


def _method(main: ast.AsyncFunctionDef | ast.FunctionDef) -> str:
    main.args.args.insert(0, ast.arg("self"))
    main.name = "__call__"
    _with_cost(main)
    return ast.unparse(main)


def _method_around(scope: Scope, moved: Sequence[ast.stmt]) -> str:
    """A method with the workflow's functions inside."""
    arguments = call_arguments(scope).replace("_problem", "problem").replace("_entry_point", "entry_point")
    lines = [
        f"async def __call__(self, problem{', entry_point' if 'entry_point' in arguments else ''}):",
        *(_indented(ast.unparse(node)) for node in [*moved, scope.main]),
        f"    answer = await {scope.main.name}({arguments})",
        f"    return (answer[0] if isinstance(answer, tuple) else answer, {_COST})",
    ]
    return "\n".join(lines)


def _moved(beside: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The functions beside the main one that use operators, and those that use such functions."""
    names, moved = {"self"}, list[ast.stmt]()
    while True:
        more = [node for node in beside if node not in moved and _defines(node) and _reads(node, names)]
        if not more:
            return [node for node in beside if node in moved]
        moved += more
        names |= {node.name for node in more if isinstance(node, _DEFINITIONS)}


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _defines(node: ast.stmt) -> bool:
    return isinstance(node, _DEFINITIONS)


def _reads(node: ast.stmt, names: set[str]) -> bool:
    return any(isinstance(item, ast.Name) and item.id in names for item in ast.walk(node))


def _indented(text: str) -> str:
    return "\n".join("    " + line if line else "" for line in text.splitlines())


class _ToSelf(ast.NodeTransformer):
    """Takes operators from `self` and names the arguments of their calls, as AFlow's operators want them, which have
    fewer defaults; a `self` of the workflow's own gets another name.

    Args:
        scope (`Scope`): of the workflow.
        used (`Sequence[ast.Name]`): the names that mean operators.
    """

    def __init__(self, scope: Scope, used: Sequence[ast.Name]) -> None:
        self.calls = {id(call.node): call.operator for call in scope.operator_calls()}
        self.used = {id(node) for node in used}

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if id(node) in self.used:
            return ast.Attribute(ast.Name("self", ast.Load()), node.id, ast.Load())
        return ast.Name(_OTHER_SELF, node.ctx) if node.id == "self" else node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        self.generic_visit(node)
        return ast.arg(_OTHER_SELF, node.annotation) if node.arg == "self" else node

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
        wanted = REQUIRED_BY_AFLOW.get(operator.__name__)
        if wanted and not any(keyword.arg in (wanted, None) for keyword in node.keywords):
            node.keywords.append(ast.keyword(wanted, ast.Constant("")))
        return node


def _with_cost(main: ast.AsyncFunctionDef | ast.FunctionDef) -> None:
    """Return `(answer, cost)` wherever the function itself returns an answer."""
    pending: list[ast.AST] = list(main.body)
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            continue
        if isinstance(node, ast.Return) and node.value is not None:
            if not (isinstance(node.value, ast.Tuple) and len(node.value.elts) == 2):  # else it says a cost itself
                node.value = ast.Tuple([node.value, ast.parse(_COST, mode="eval").body], ast.Load())
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
