"""Programs of ours that run in the sandbox: several files made one, since none of ours can be imported there."""

import ast
from collections.abc import Sequence
from pathlib import Path


def joined(folder: Path, names: Sequence[str]) -> ast.Module:
    """Return the modules of a folder as one, without what they import from our packages.

    Args:
        folder (`Path`): where they lie.
        names (`Sequence[str]`): of the modules, in the order in which they stand in the program: each uses only what
            is above it.
    """
    body: list[ast.stmt] = []
    for name in names:
        for node in ast.parse((folder / f"{name}.py").read_text(encoding="utf-8")).body:
            if not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aflow_ops.")):
                body.append(node)
    return ast.Module(body, type_ignores=[])
