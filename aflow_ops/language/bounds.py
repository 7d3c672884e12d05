"""What no workflow has a use for: the interpreter's inside and the system around it.

Nothing holds because of these rules; the walls of the sandbox do. They give an attempt its verdict at once, with a
reason, and the same one whichever interpreter would have run it.
"""

import ast
import re
import sys
from collections.abc import Iterator

from aflow_ops.errors import WorkflowError
from aflow_ops.language.imports import ALLOWED_MODULES, PARTS
from aflow_ops.python_source import MODULES_AT_HAND

# Attributes that lead from a value to the interpreter, its modules and its frames.
INSIDE = frozenset(
    "__globals__ __builtins__ __subclasses__ __bases__ __base__ __mro__ __code__ __closure__ __getattribute__ "
    "__import__ __loader__ __spec__ __reduce__ __reduce_ex__ __self__ f_globals f_locals f_builtins f_back f_code "
    "gi_frame gi_code cr_frame cr_code ag_frame ag_code tb_frame tb_next _getframe".split()
)
_BUILTINS = frozenset({"__import__", "open", "compile", "input", "breakpoint", "globals", "exit", "quit", "help"})
_ASYNCIO_IO = re.compile(r"create_subprocess_\w+|(?:open|start)_\w+|\w*(?:Event)?Loop\w*Policy|\w+ChildWatcher")
_WORD = re.compile(r"\w+")
# A field of `str.format` that goes for what begins with an underscore.
_PRIVATE_FIELD = re.compile(r"\{\w*(?:\.\w+|\[\w*\])*\._")
# Levels of a tree. Published workflows have some 20, and a text of a hundred parts has a hundred.
MAX_DEPTH = 400


def check_bounds(tree: ast.Module) -> None:
    """Check that a workflow stays with what a workflow needs.

    Args:
        tree (`ast.Module`): the whole source.

    Raises:
        WorkflowError: stage `"check"`, with the offending name.
    """
    _check_depth(tree)
    nodes = list(ast.walk(tree))
    modules = {name: name for name in MODULES_AT_HAND}
    modules |= {n.asname or n.name: n.name for node in nodes if isinstance(node, ast.Import) for n in node.names}
    own = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    own |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    emptied = {id(key) for node in nodes for key in _emptied_builtins(node)}
    for node in nodes:
        match node:
            case ast.Attribute(attr=name) if name in INSIDE:
                raise _out_of_bounds(name)
            case ast.Attribute(value=ast.Name(id=alias), attr=name) if alias in modules:
                if _leads_out(modules[alias], name):
                    raise _out_of_bounds(f"{modules[alias]}.{name}")
            case ast.ImportFrom(module=str() as module, level=0, names=names) if (
                module.split(".")[0] in ALLOWED_MODULES
            ):
                for imported in names:
                    if _leads_out(module, imported.name):
                        raise _out_of_bounds(f"{module}.{imported.name}")
            case ast.Name(id=name) if name in INSIDE or (name in _BUILTINS and name not in own):
                raise _out_of_bounds(name)
            case ast.Constant(value=str() as text) if "_" in text and id(node) not in emptied:
                if _PRIVATE_FIELD.search(text):
                    raise _out_of_bounds(text[:40])
                for word in _WORD.findall(text):
                    if word in INSIDE and word.startswith("__"):
                        raise _out_of_bounds(word)


def _emptied_builtins(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the key of `eval(text, {"__builtins__": {}})`, by which careful code takes everything away from `text`."""
    match node:
        case ast.Call(func=ast.Name(id="eval" | "exec"), args=[_, ast.Dict(keys=keys, values=values), *_]):
            for key, value in zip(keys, values, strict=True):
                is_nothing = isinstance(value, ast.Dict) or (isinstance(value, ast.Constant) and value.value is None)
                if isinstance(key, ast.Constant) and key.value == "__builtins__" and is_nothing:
                    yield key


def _check_depth(tree: ast.Module) -> None:
    level: list[ast.AST] = [tree]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    raise WorkflowError("check", "the code is nested too deeply")


def _leads_out(module: str, name: str) -> bool:
    """Whether a member of a module is none for workflows: another module, or private, or a door of asyncio's."""
    if module in PARTS:
        return name not in PARTS[module]
    is_module = name in sys.stdlib_module_names and name not in ALLOWED_MODULES - set(PARTS)
    is_private = name == "__dict__" or (name.startswith("_") and not name.startswith("__"))
    return is_module or is_private or bool(_ASYNCIO_IO.fullmatch(name))


def _out_of_bounds(name: str) -> WorkflowError:
    return WorkflowError("check", f"{name!r} is out of bounds: a workflow calls operators and computes with text")
