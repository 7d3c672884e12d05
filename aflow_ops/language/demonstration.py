"""Parts of a source that are no part of its workflow: where it runs itself as a program, and imports for type checkers.

They never run, so what they import, read or open is nobody's business.
"""

import ast
from collections.abc import Iterator


def without_demonstration(tree: ast.Module) -> tuple[ast.Module, tuple[ast.stmt, ...]]:
    """Return a source without the statements by which it runs its own workflow, and these.

    There is a loop already, and a problem of ours: `asyncio.run(workflow("1 + 1"))` would fail, or ask and pay for it.
    """
    shown = [*_demonstration(tree), *(node for node in tree.body if _is_for_type_checkers(node))]
    if not shown:
        return tree, ()
    left = [node for node in tree.body if node not in shown]
    read, only_shown = set(_names(left)), set(_names(shown))
    shown += [
        node
        for node in left
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name in only_shown - read - {"workflow"}
        and not node.decorator_list
    ]
    kept = [node for node in left if node not in shown]
    return ast.Module(kept, tree.type_ignores), tuple(shown)


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
