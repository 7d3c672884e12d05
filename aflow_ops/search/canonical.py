"""Whether two workflows are the same program: compared by their trees, not by their texts.

Comments, docstrings, annotations, white space and the names of local variables and of functions beside the workflow's
make no difference; instructions and prompts do.
"""

import ast
import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache

from aflow_ops.python_source import parse_source

# Names with a meaning to the runtime.
_KEPT = frozenset({"self", "problem", "entry_point", "workflow", "Workflow"})


def workflow_key(text: str, prompts: Mapping[str, str] | None = None) -> str:
    """Return a digest that equal programs share.

    Args:
        text (`str`): Python, or anything else, such as DSL, which is compared without white space.
        prompts (`Mapping[str, str]`, *optional*): texts of `prompt_custom.NAME`; those the text does not use count too.
    """
    parts = json.dumps([_form(text), sorted((prompts or {}).items())])
    return hashlib.sha256(parts.encode("utf-8", "replace")).hexdigest()[:16]


@lru_cache(maxsize=1024)  # every wave asks for all nodes of its search
def _form(text: str) -> str:
    try:
        form = ast.dump(_Normalised().visit(parse_source(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        form = "".join(text.split())
    return hashlib.sha256(form.encode("utf-8", "replace")).hexdigest()


class _Normalised(ast.NodeTransformer):
    """Drops docstrings and annotations; numbers local names by their first appearance."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def visit_Module(self, node: ast.Module) -> ast.AST:
        bound = {item.id for item in ast.walk(node) if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)}
        parameters = {item.arg for item in ast.walk(node) if isinstance(item, ast.arg)}
        passed = {item.arg for item in ast.walk(node) if isinstance(item, ast.keyword) and item.arg}
        functions = {item.name for item in _functions(node)}
        # a parameter that is passed by its name has one: whatever else is called so keeps it too
        self.names = dict.fromkeys(sorted((bound | parameters | functions) - (parameters & passed) - _KEPT), "")
        return self._body(node)

    def _body(self, node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> ast.AST:
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body = node.body[1:]
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns, node.name = None, self._name(node.name)
        return self._body(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns, node.name = None, self._name(node.name)
        return self._body(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._body(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        return self.generic_visit(ast.copy_location(ast.Assign([node.target], node.value), node))

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(self._name(node.arg), None)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self._name(node.id), node.ctx)

    def _name(self, name: str) -> str:
        if name not in self.names:
            return name
        if not self.names[name]:
            self.names[name] = f"v{sum(1 for given in self.names.values() if given)}"
        return self.names[name]


def _functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """All functions but the methods of classes, which are called by attributes."""
    nodes = list(ast.walk(tree))
    methods = {id(item) for node in nodes if isinstance(node, ast.ClassDef) for item in node.body}
    return [
        node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and id(node) not in methods
    ]
