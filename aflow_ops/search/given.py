"""Workflows that no plan printed, as a step of plans: what a search starts from, and what a model wrote.

    async def workflow(problem):
        return (await custom(input=problem))["response"]

is kept, under another name, as a function that the printed workflow calls:

    async def given_1(problem):
        async def given(problem):
            return (await custom(input=problem))['response']
        return str(await given(problem))

AFlow's class becomes such a function too, its operators called by their short names and the texts of its prompts in
place. What cannot stand in another workflow, such as a class with methods of its own, is left alone.
"""

import ast
from collections.abc import Callable, Mapping
from typing import Any

from aflow_ops.errors import WorkflowError
from aflow_ops.language.dsl import compile_dsl, parse_dsl
from aflow_ops.language.scope import Scope, scope_of
from aflow_ops.operators import OPERATORS
from aflow_ops.python_source import MODULES_AT_HAND, parse_source
from aflow_ops.search.roles import INSTRUCTION

# A longer one would fill the workflows that it stands in.
MAX_GIVEN_CHARS = 3_000
# The function's name within its frame.
NAME = "given"
_PARAMETERS = (["problem"], ["problem", "entry_point"])
_ERRORS = (WorkflowError, SyntaxError, ValueError, RecursionError, MemoryError)


def read_given(workflow: str, prompts: Mapping[str, Any], *, has_entry_point: bool) -> str | None:
    """Return a checked workflow as the source of a step; `None` when it cannot be one.

    Args:
        workflow (`str`): its text, in any form.
        prompts (`Mapping[str, Any]`): what `prompt_custom.NAME` is.
        has_entry_point (`bool`): whether its problems name a function to write.
    """
    try:
        scope = _scope(workflow, prompts, has_entry_point)
        main = scope.main if scope.workflow_class is None else _called(scope)
        if main is None:
            return None
        main = _Freed(scope, prompts).visit(main)
        main.name, main.returns = NAME, None
        kept = _needed(scope.tree.body, main)
        source = "\n".join(ast.unparse(ast.fix_missing_locations(node)) for node in [*kept, main])
    except _ERRORS:
        return None
    parameters = parameters_of(source)
    return source if parameters and (has_entry_point or "entry_point" not in parameters) else None


def _scope(workflow: str, prompts: Mapping[str, Any], has_entry_point: bool) -> Scope:
    try:
        tree = parse_source(workflow)
        return scope_of(tree, prompts)
    except (SyntaxError, WorkflowError):
        return scope_of(parse_source(compile_dsl(parse_dsl(workflow), has_entry_point=has_entry_point)))


def _called(scope: Scope) -> ast.AsyncFunctionDef | ast.FunctionDef | None:
    """The method of AFlow's class without its `self`; `None` of a class that is more than this and a constructor."""
    names = [node.name for item in scope.classes for node in item.body if isinstance(node, _FUNCTIONS)]
    if len(scope.classes) > 1 or sorted(names) not in (["__call__", "__init__"], ["__call__"]) or scope.derived:
        return None
    scope.main.args.args = scope.main.args.args[1:]
    return scope.main


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class _Freed(ast.NodeTransformer):
    """Calls operators by their short names, writes the texts of prompts out, and drops what a run costs.

    Args:
        scope (`Scope`): of the workflow.
        prompts (`Mapping[str, Any]`): what `prompt_custom.NAME` is.
    """

    def __init__(self, scope: Scope, prompts: Mapping[str, Any]) -> None:
        self.scope, self.prompts = scope, prompts

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        match node.value:
            case ast.Name(id="self") if (key := self.scope.attributes.get(node.attr)) in OPERATORS:
                return ast.Name(OPERATORS[str(key)].snake_name(), node.ctx)
            case ast.Name(id="prompt_custom") if isinstance(self.prompts.get(node.attr), str):
                return ast.Constant(self.prompts[node.attr])
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(node.arg)

    def visit_Return(self, node: ast.Return) -> ast.AST:
        match node.value:
            case ast.Tuple(elts=[answer, cost]) if _reads(cost) & {"self"}:
                node.value = answer
        return self.generic_visit(node)


def _needed(body: list[ast.stmt], main: ast.AST) -> list[ast.stmt]:
    """The statements beside the workflow that it needs, but imports of modules that are at hand."""
    defined = [(node, names) for node in body if (names := _set(node))]
    wanted, kept = _reads(main), list[ast.stmt]()
    while more := [node for node, names in defined if node not in kept and node is not main and names & wanted]:
        kept += more
        wanted |= {name for node in more for name in _reads(node)}
    return [node for node in body if node in kept]


def _set(node: ast.stmt) -> set[str]:
    if isinstance(node, _FUNCTIONS) and node.name != "workflow":
        return {node.name}
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    return set()


def _reads(node: ast.AST) -> set[str]:
    return {item.id for item in ast.walk(node) if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Load)}


def parameters_of(source: str) -> list[str]:
    """Return what a step's function takes; nothing of a source that is none, or that binds what others mean.

    Args:
        source (`str`): as of `read_given`.
    """
    try:
        tree = parse_source(source) if len(source) <= MAX_GIVEN_CHARS else ast.Module([], [])
    except _ERRORS:
        return []
    main = tree.body[-1] if tree.body else None
    if not isinstance(main, ast.AsyncFunctionDef) or main.name != NAME:
        return []
    if not all(isinstance(node, (*_FUNCTIONS, ast.Assign)) for node in tree.body):
        return []
    arguments = main.args
    names = [argument.arg for argument in [*arguments.posonlyargs, *arguments.args]]
    plain = not (arguments.vararg or arguments.kwarg or arguments.kwonlyargs or arguments.defaults)
    return names if plain and names in _PARAMETERS and not _foreign(tree) else []


def _foreign(tree: ast.Module) -> set[str]:
    """What keeps a function from standing anywhere: a name of an operator's or of a module's that it gives another
    meaning, the workflow itself, an object that is not there."""
    bound = {item.id for item in ast.walk(tree) if isinstance(item, ast.Name) and not isinstance(item.ctx, ast.Load)}
    bound |= {item.arg for item in ast.walk(tree) if isinstance(item, ast.arg)}
    bound |= {item.name for item in ast.walk(tree) if isinstance(item, _FUNCTIONS)}
    operators = {operator.snake_name() for operator in OPERATORS.values()}
    lost = {"self", "operator", "prompt_custom", "workflow", "Workflow"}
    imports = {"import" for item in ast.walk(tree) if isinstance(item, ast.Import | ast.ImportFrom)}
    return (bound & (operators | {*MODULES_AT_HAND})) | ((bound | _reads(tree)) & lost) | imports


def instructed(source: str, choose: Callable[[list[str]], str], instructions: tuple[str, ...]) -> str:
    """Return the step with one of the instructions that its operators are given exchanged; itself where it has none.

    Args:
        source (`str`): as of `read_given`.
        choose (`Callable[[list[str]], str]`): chooses one of several.
        instructions (`tuple[str, ...]`): what it is exchanged for.
    """
    tree = parse_source(source)
    found = [
        item for item in ast.walk(tree)
        if isinstance(item, ast.keyword) and item.arg == INSTRUCTION and isinstance(item.value, ast.Constant)
    ]  # fmt: skip
    if found:
        place = found[int(choose([str(index) for index in range(len(found))]))]
        place.value = ast.Constant(choose(list(instructions)))
    return ast.unparse(tree)


def framed(source: str, number: int) -> str:
    """Return the function that a printed workflow calls: the step in a frame of its own, its answer as text."""
    parameters = ", ".join(parameters_of(source))
    body = "\n".join(f"    {line}" if line else line for line in source.splitlines())
    return (
        f"async def {NAME}_{number}({parameters}):\n{body}\n    answer = await {NAME}({parameters})\n"
        "    return str(answer[0] if isinstance(answer, tuple) else answer)\n\n\n"
    )
