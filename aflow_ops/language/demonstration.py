"""Parts of a source that are no part of its workflow: where it runs itself as a program, and imports for type checkers.

They never run, so what they import, read or open is nobody's business.
"""

import ast
from collections.abc import Iterator


def without_demonstration(tree: ast.Module) -> tuple[ast.Module, tuple[ast.stmt, ...]]:
    """Return a source without the statements by which it runs its own workflow, and these.

    There is a loop already, and a problem of ours: `asyncio.run(workflow("1 + 1"))` would fail, or ask and pay for it.
    """
    shown = [*_demonstration(tree), *filter(_is_for_type_checkers, tree.body)]
    if not shown:
        return tree, ()
    left = _without(tree.body, shown)
    for _ in range(2):  # `main`, then what it alone uses
        unread = set(_names(shown)) - set(_names(left)) - {"workflow"}
        shown += [node for node in left if _serves_only(node, unread)]
        left = _without(left, shown)
    return ast.Module(left, tree.type_ignores), tuple(shown)


def _serves_only(node: ast.stmt, unread: set[str]) -> bool:
    """Whether a statement gives names to what is set aside, and to nothing else."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return node.name in unread and not node.decorator_list
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return all((alias.asname or alias.name.split(".")[0]) in unread for alias in node.names)
    return False


def _without(statements: list[ast.stmt], others: list[ast.stmt]) -> list[ast.stmt]:
    identities = set(map(id, others))
    return [statement for statement in statements if id(statement) not in identities]


def _names(statements: list[ast.stmt]) -> Iterator[str]:
    for statement in statements:
        yield from (node.id for node in ast.walk(statement) if isinstance(node, ast.Name))


def _demonstration(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements at the top level by which a source runs its own workflow, with what follows them."""
    begun = False
    for node in tree.body:
        if isinstance(node, ast.If) and any(
            isinstance(n, ast.Name) and n.id == "__name__" for n in ast.walk(node.test)
        ):
            yield node
        elif isinstance(node, (ast.Expr, ast.Assign)):
            begun = begun or any(
                isinstance(n, ast.Call) and ast.unparse(n.func).endswith(("asyncio.run", "run_until_complete"))
                for n in ast.walk(node)
            )
            if begun:
                yield node


def _is_for_type_checkers(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and not node.orelse and ast.unparse(node.test).split(".")[-1] == "TYPE_CHECKING"
