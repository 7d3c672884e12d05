"""What stands beside a workflow in a completion: thoughts before it, helpers and prompts in blocks of their own."""

import ast
import re
from collections.abc import Iterator, Sequence
from typing import Any

from aflow_ops.language.fstrings import plain_fstrings
from aflow_ops.language.prompt_code import prompt_definitions
from aflow_ops.language.workflow import GRAMMAR, SOURCE_NAME
from aflow_ops.python_source import parse_source

_THOUGHT = r"think(?:ing)?|thoughts?|reasoning|scratchpad"
_LEADING = re.compile(rf"\s*<({_THOUGHT})>.*?</\1>", re.DOTALL | re.IGNORECASE)
# Where the prompt holds the opening tag, the completion has the closing one alone.
_CLOSED = re.compile(rf"(?:(?!<(?:{_THOUGHT})>).)*?^</(?:{_THOUGHT})>", re.DOTALL | re.IGNORECASE | re.MULTILINE)
_READS_PROMPTS = re.compile(r"\bprompts?(?:_custom)?\b")
_HELPERS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)


def without_thoughts(completion: str) -> str:
    """Return a completion without the thoughts that it begins with.

    A thought elsewhere stays: `"<think>"` in a workflow is a text that it gives to the executor or looks for.
    """
    found = _LEADING.match(completion) or _CLOSED.match(completion)
    return completion[found.end() :] if found else completion


def definitions_beside(source: str, blocks: Sequence[str]) -> dict[str, Any]:
    """Return what other blocks of a completion define for `prompt_custom`, such as one that shows `prompt.py`.

    Args:
        source (`str`): the workflow.
        blocks (`Sequence[str]`): the blocks that are no workflow.
    """
    if not _READS_PROMPTS.search(source):
        return {}
    return {name: value for block in blocks for name, value in prompt_definitions(block).items()}


def with_helpers(source: str, blocks: Sequence[str]) -> str:
    """Return a workflow with the functions that it calls and another block defines."""
    tree = _tree(source)
    if tree is None:
        return source
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    needed = {name.id for name in names if isinstance(name.ctx, ast.Load)}
    needed -= {name.id for name in names if isinstance(name.ctx, ast.Store)} | set(_defined(tree))
    helpers = [block for block in blocks if _is_helper(block, needed)]
    return "\n\n".join([*helpers, source])


def _is_helper(block: str, needed: set[str]) -> bool:
    """Whether a block consists of definitions and one of them is needed."""
    tree = _tree(block)
    if tree is None or not all(isinstance(node, _HELPERS) for node in tree.body):
        return False
    return not needed.isdisjoint(_defined(tree))


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


def _tree(text: str) -> ast.Module | None:
    try:
        return parse_source(plain_fstrings(text), SOURCE_NAME, GRAMMAR)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
