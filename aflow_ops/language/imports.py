"""What a workflow's imports mean: Python's own modules, or AFlow's, of which nothing is ever imported.

Workflows come from folders of every name (`workspace.MATH.workflows.template.operator`, `my_results...`, `..template`),
import modules, classes or all of a module, under names of their own, at the top or inside `__init__`. What an import
of AFlow's binds is looked up here, and `lower.py` replaces the statement by plain assignments.
"""

import ast
import importlib
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aflow_ops.errors import WorkflowError
from aflow_ops.language.dialects import SCOREFLOW, operator_keys

# Harmless modules of the standard library: no files, no network, no processes, no view of the interpreter.
_ALLOWED = """
__future__ abc array ast asyncio base64 binascii bisect calendar cmath collections contextlib contextvars copy
dataclasses datetime decimal difflib enum fnmatch fractions functools graphlib hashlib heapq html itertools json keyword
logging math numbers operator pprint queue random re reprlib secrets shlex statistics string struct textwrap time typing
unicodedata weakref
"""
# Of these a workflow has the harmless part.
PARTS: Mapping[str, frozenset[str]] = {
    module: frozenset(names.split())
    for module, names in {
        "inspect": "cleandoc getdoc isawaitable isclass iscoroutine iscoroutinefunction isfunction signature",
        "io": "BytesIO StringIO",
        "traceback": "format_exc format_exception format_exception_only print_exc print_exception",
        "types": "MappingProxyType NoneType SimpleNamespace",
        "uuid": "NAMESPACE_DNS NAMESPACE_URL UUID uuid3 uuid4 uuid5",
        "warnings": "catch_warnings filterwarnings simplefilter warn",
    }.items()
}
ALLOWED_MODULES = frozenset(_ALLOWED.split()) | frozenset(PARTS)
# First parts of the module paths that AFlow's own workflows and its relatives' import.
_AFLOW = """
aflow benchmarks examples experiments loguru metagpt optimized scoreflow scripts workspace
"""
AFLOW_MODULES = frozenset(_AFLOW.split())
_AFLOW_PARTS = frozenset({"workflows", "template", "async_llm", "operator_an", "op_prompt", "evaluator"})
_OPERATOR_MODULES = frozenset({"operator", "operators"})
_PROMPT_MODULES = frozenset({"prompt", "prompts", "prompt_custom", "op_prompt"})
# What nothing but a package of AFlow's or of a relative's has.
_AFLOW_NAMES = _OPERATOR_MODULES | _PROMPT_MODULES
_AFLOW_NAMES |= {"create_llm_instance", "AsyncLLM", "CostManager", "DatasetType", "LLMsConfig", "TokenUsageTracker"}

# What the prelude of a native workflow calls the things that AFlow's modules hold.
OPERATORS_NAME, PROMPTS_NAME = "operator", "prompt_custom"
_PROVIDED = {
    **dict.fromkeys(("create_llm_instance", "create"), "create_llm_instance"),
    **dict.fromkeys(("AsyncLLM", "LLM"), "AsyncLLM"),
    **dict.fromkeys(("CostManager", "TokenUsageTracker"), "CostManager"),
    **dict.fromkeys(("logger",), "logger"),
    **dict.fromkeys(("DatasetType",), "DatasetType"),
    **dict.fromkeys(("LLMsConfig", "ModelsConfig"), "LLMsConfig"),
    **dict.fromkeys(_OPERATOR_MODULES, OPERATORS_NAME),
    **dict.fromkeys(_PROMPT_MODULES, PROMPTS_NAME),
}
# AFlow's base of all operators; it is none itself.
BASE_OPERATOR = "Operator"
# Stands for anything else of AFlow's: a class that takes whatever it is given.
STUB_NAME = "AflowObject"
# The prelude has each of them under this prefix too: an import inside a function makes the plain name a local one.
PRIVATE = "_aflow_"


@dataclass(frozen=True)
class Imports:
    """The imports of one source.

    Args:
        operators (`set[str]`): dotted names of the operator module, such as `"operator"` or `"op"`.
        prompts (`set[str]`): likewise, of the prompt module.
        classes (`dict[str, str]`): names of operators by the names under which they were imported.
        constants (`dict[str, str]`): names of prompt constants, likewise.
        bound (`set[str]`): every name that an import binds.
        replacements (`dict[tuple[int, int], str]`): what stands for a statement, by its line and column.
    """

    operators: set[str] = field(default_factory=lambda: {OPERATORS_NAME})
    prompts: set[str] = field(default_factory=lambda: {PROMPTS_NAME})
    classes: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    bound: set[str] = field(default_factory=set)
    replacements: dict[tuple[int, int], str] = field(default_factory=dict)


def read_imports(tree: ast.Module, prompts: Collection[str]) -> Imports:
    """Return what the imports of a source mean.

    Args:
        tree (`ast.Module`): the source.
        prompts (`Collection[str]`): names of the prompt constants, which `from .prompt import *` binds.

    Raises:
        WorkflowError: stage `"check"`: a module that no workflow may import.
    """
    found = Imports()
    keys = operator_keys(SCOREFLOW)
    guarded, defined = set(_guarded(tree)), {*prompts, *_set_prompts(tree)}
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        try:
            if isinstance(node, ast.Import):
                _read_import(node, tree, found)
            else:
                _read_import_from(node, found, keys, prompts, defined if id(node) in guarded else None)
        except WorkflowError:
            if id(node) not in guarded:
                raise
            # The source says itself what to do without it.
            found.bound.update(alias.asname or alias.name.split(".")[0] for alias in node.names)
            found.replacements[node.lineno, node.col_offset] = f"raise ImportError({ast.unparse(node)!r})"
    return found


def _read_import(node: ast.Import, tree: ast.Module, found: Imports) -> None:
    kept = [alias for alias in node.names if not _is_aflow(alias.name, 0, tree, alias.asname)]
    lines = [_bind_module(alias, found) for alias in node.names if alias not in kept]
    if lines:
        plain = [f"import {', '.join(map(_printed, kept))}"] if kept else []
        found.replacements[node.lineno, node.col_offset] = "; ".join(plain + lines)
    plain_names = {alias.asname or alias.name.split(".")[0] for alias in kept}
    found.bound.update(plain_names)
    found.operators.difference_update(plain_names)  # `import operator` may mean Python's own


def _read_import_from(
    node: ast.ImportFrom,
    found: Imports,
    keys: Mapping[str, str],
    prompts: Collection[str],
    defined: Collection[str] | None,
) -> None:
    """Read `from ... import ...`; `defined` are the prompts that there are, where the source minds their absence.

    Raises:
        WorkflowError: no workflow may import it, or a prompt is not defined whose absence the source minds.
    """
    if _imports_from(node) or _is_aflow(node.module or "", node.level, None, None, node.names):
        is_prompts = (node.module or "").split(".")[-1] in _PROMPT_MODULES
        if defined is not None and is_prompts and not {alias.name for alias in node.names} <= {*defined, "*"}:
            raise WorkflowError("check", "no prompt file defines it")
        lines = [line for alias in node.names for line in _bind_names(node, alias, found, keys, prompts)]
        found.replacements[node.lineno, node.col_offset] = "; ".join(lines) or "pass"
    elif node.module == "__future__":
        found.replacements[node.lineno, node.col_offset] = "pass"
    else:
        found.bound.update(_names_of(node))


def _guarded(tree: ast.Module) -> Iterator[int]:
    """Yield the identities of imports that the source can do without: those in a `try` that minds their absence."""
    caught = re.compile(r"\b(?:ImportError|ModuleNotFoundError|Exception|BaseException)\b")
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any(
            handler.type is None or caught.search(ast.unparse(handler.type)) for handler in node.handlers
        ):
            yield from map(id, node.body)


def _set_prompts(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a source gives its prompts itself."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr=name, ctx=ast.Store()) if owner == PROMPTS_NAME:
                yield name


def _is_aflow(
    module: str, level: int, tree: ast.Module | None, name: str | None, taken: Sequence[ast.alias] = ()
) -> bool:
    """Whether a module is AFlow's rather than Python's.

    Raises:
        WorkflowError: it is neither, or not one for workflows.
    """
    parts = module.split(".")
    if level or parts[0].lower() in AFLOW_MODULES:
        return True
    if tree is not None and module in _OPERATOR_MODULES and _constructs_from(tree, name or module):
        return True
    if parts[0] in ALLOWED_MODULES:
        return False
    if parts[0] not in sys.stdlib_module_names and (
        parts[-1] in _OPERATOR_MODULES | _PROMPT_MODULES
        or not _AFLOW_PARTS.isdisjoint(parts)
        or any(alias.name in _AFLOW_NAMES for alias in taken)
    ):
        return True
    listed = ", ".join(sorted(ALLOWED_MODULES - {"__future__"}))
    raise WorkflowError("check", f"import of {module!r}: a workflow may only import {listed}")


def _constructs_from(tree: ast.Module, name: str) -> bool:
    """Whether a module called `operator` is used for AFlow's operators, not for Python's."""
    keys = operator_keys(SCOREFLOW)
    return any(
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == name
        and node.attr in keys
        for node in ast.walk(tree)
    )


def _imports_from(node: ast.ImportFrom) -> bool:
    """Whether `from operator import ...` takes AFlow's operators, not Python's functions."""
    keys = operator_keys(SCOREFLOW)
    return node.module in _OPERATOR_MODULES and any(alias.name == "*" or alias.name in keys for alias in node.names)


def _bind_module(alias: ast.alias, found: Imports) -> str:
    """Bind a module of AFlow's; returns the assignment that stands for it."""
    last = alias.name.split(".")[-1]
    value = _module_value(last)
    name = alias.asname or alias.name
    _note(name, value, found)
    if alias.asname or "." not in alias.name:
        found.bound.add(name)
        return f"{name} = {PRIVATE}{value}"
    first, *rest = alias.name.split(".")
    found.bound.add(first)
    # Two imports below one package must not lose each other's part of it.
    return f"{first} = _nested({first!r}, {rest!r}, {PRIVATE}{value})"


def _bind_names(
    node: ast.ImportFrom, alias: ast.alias, found: Imports, keys: Mapping[str, str], prompts: Collection[str]
) -> Iterator[str]:
    """Bind what is imported from a module of AFlow's; yields the assignments that stand for it."""
    last = (node.module or "").split(".")[-1]
    if alias.name == "*":
        if last not in _PROMPT_MODULES:
            for key in keys:
                found.classes[key] = key
                yield f"{key} = {PRIVATE}{OPERATORS_NAME}.{key}"
        if last not in _OPERATOR_MODULES:
            for prompt in prompts:
                found.constants[prompt] = prompt
                yield f"{prompt} = {PRIVATE}{PROMPTS_NAME}.{prompt}"
        found.bound.update(found.classes, found.constants)
        return
    name = alias.asname or alias.name
    found.bound.add(name)
    if last in _PROMPT_MODULES:
        found.constants[name] = alias.name
        yield f"{name} = {PRIVATE}{PROMPTS_NAME}.{alias.name}"
    elif alias.name in _PROVIDED:
        _note(name, _PROVIDED[alias.name], found)
        yield f"{name} = {PRIVATE}{_PROVIDED[alias.name]}"
    elif alias.name in keys or last in _OPERATOR_MODULES:
        found.classes[name] = alias.name
        known = alias.name in keys or alias.name == BASE_OPERATOR
        # An unknown one is told where it is used: templates import more than they need.
        yield f"{name} = {PRIVATE}{OPERATORS_NAME}.{alias.name}" if known else f"{name} = {PRIVATE}{STUB_NAME}"
    else:
        yield f"{name} = {PRIVATE}{STUB_NAME}"


def _module_value(last: str) -> str:
    return _PROVIDED.get(last, STUB_NAME)


def _note(name: str, value: str, found: Imports) -> None:
    if value == OPERATORS_NAME:
        found.operators.add(name)
    elif value == PROMPTS_NAME:
        found.prompts.add(name)


def _names_of(node: ast.ImportFrom) -> set[str]:
    if all(alias.name != "*" for alias in node.names):
        return {alias.asname or alias.name for alias in node.names}
    module = importlib.import_module(node.module or "")  # one of ALLOWED_MODULES
    return set(getattr(module, "__all__", dir(module)))


def _printed(alias: ast.alias) -> str:
    return f"{alias.name} as {alias.asname}" if alias.asname else alias.name


def dotted(node: ast.expr) -> str | None:
    """Return the dotted name that an expression is, such as `"workspace.MATH.operator"`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value)
        return None if owner is None else f"{owner}.{node.attr}"
    return None
