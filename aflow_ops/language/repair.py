"""Repairs of what can only have been meant one way, each recorded.

Source text: uniform extra indentation, a stray line after the code, signs and quotes as pages write them. Tree: another
spelling of an operator, a missing `await`, a plain `def workflow`, a missing `return` of the last result. A repaired
tree is printed back with `ast.unparse`; a workflow that needs no repair keeps its text byte for byte.
"""

import ast
import html
import re
import textwrap
from collections.abc import Iterator

from aflow_ops.errors import WorkflowError
from aflow_ops.language.check import returns_value
from aflow_ops.language.coroutines import Coroutines, enclosing_function, parents_of
from aflow_ops.language.fstrings import plain_fstrings
from aflow_ops.language.imports import dotted
from aflow_ops.language.scope import Scope, is_known_function, is_self_attribute, main_functions
from aflow_ops.language.workflow import GRAMMAR, SOURCE_NAME
from aflow_ops.operators import OPERATORS, Operator, spelled
from aflow_ops.python_source import parse_source

MADE_ASYNC = "made the workflow function async"
_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|apos|#39|#x27|#34);")
_QUOTES = str.maketrans({"\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'"})
_PLAIN_DEF = re.compile(r"^[^\S\n]*(def\s+(?:workflow|__call__|run_workflow)\s*\()", re.MULTILINE)


def parse_python(text: str) -> tuple[ast.Module, str, list[str]]:
    """Parse a source, mending its indentation if that is all it needs.

    Returns:
        `tuple`: the tree, the text that was parsed, and the repairs.

    Raises:
        WorkflowError: stage `"syntax"`.
    """
    first_error: SyntaxError | None = None
    for characters, respelled in _characters(text):
        read = plain_fstrings(characters)
        made_async = _made_async(read)
        asynced = [] if read == characters else ["wrote f-strings as every Python reads them"]
        asynced += [] if made_async == read else [MADE_ASYNC]
        for candidate, repairs in _indentations(made_async):
            try:
                return _parse(candidate), candidate, respelled + asynced + repairs
            except SyntaxError as error:
                first_error = first_error or error
    assert first_error is not None
    line = f" at line {first_error.lineno}" if first_error.lineno else ""
    raise WorkflowError("syntax", f"{first_error.msg}{line}")


def _characters(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the text as it is, then with what stands for characters of Python's in a page or a document."""
    yield text, []
    if _ENTITY.search(text):
        yield html.unescape(text), ["read the entities of HTML as characters"]
    if _QUOTES.keys() & set(map(ord, text)):
        yield text.translate(_QUOTES), ["read typographic quotes as quotes"]


def _made_async(text: str) -> str:
    """Write `async` before the function that runs the workflow, wherever the class of `__call__` is a workflow's."""
    if not _PLAIN_DEF.search(text):
        return text
    starts = [match.start(1) for match in _PLAIN_DEF.finditer(text)]
    try:
        tree = parse_source(textwrap.dedent(text), SOURCE_NAME)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        lines = None  # whose it is cannot be told: it is taken for the workflow's
    else:
        lines = {node.lineno for node in main_functions(tree)}
    for start in reversed(starts):
        if lines is None or text.count("\n", 0, start) + 1 in lines:
            text = f"{text[:start]}async {text[start:]}"
    return text


def _parse(text: str) -> ast.Module:
    try:
        tree = parse_source(text, SOURCE_NAME, GRAMMAR)
        compile(tree, SOURCE_NAME, "exec", dont_inherit=True)  # `return` outside a function and the like
        return tree
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error) or type(error).__name__) from error


def _indentations(text: str) -> list[tuple[str, list[str]]]:
    """The text as it is, then with each safe change of its layout."""
    dedented = textwrap.dedent(text)
    candidates: list[tuple[str, list[str]]] = (
        [(text, [])] if dedented == text else [(dedented, ["removed the common indentation"])]
    )
    shifted = _shifted_body(dedented)
    if shifted != dedented:
        candidates.append((shifted, ["indented the body of the function"]))
    trimmed = _without_trailing_prose(dedented)
    if trimmed != dedented:
        candidates.append((trimmed, ["removed the text after the code"]))
    return candidates


def _shifted_body(text: str) -> str:
    """Indent everything below a `def workflow` that stands at the same column as its body."""
    lines = text.split("\n")
    for position, line in enumerate(lines):
        if line.startswith(("async def workflow", "def workflow")) and line.rstrip().endswith(":"):
            body = lines[position + 1 :]
            if body and body[0].strip() and not body[0].startswith((" ", "\t")):
                return "\n".join(lines[: position + 1] + ["    " + item if item.strip() else item for item in body])
    return text


def _without_trailing_prose(text: str) -> str:
    """Drop unindented lines after the last indented one, such as an explanation below the code."""
    lines = text.split("\n")
    while lines and not lines[-1].startswith((" ", "\t")):
        lines.pop()
    return "\n".join(lines) if lines else text


def repair_tree(scope: Scope, *, was_plain: bool = False) -> list[str]:
    """Mend the tree in place.

    Args:
        scope (`Scope`): the workflow.
        was_plain (`bool`): its function was made async: what it ran a loop for is awaited.

    Returns:
        `list[str]`: what was repaired; empty when the tree is untouched.

    Raises:
        WorkflowError: stage `"check"`: an operator is called where nothing can be awaited.
    """
    repairs = _respell(scope)
    awaited = _Awaited()
    if was_plain:
        scope.main.body = [awaited.visit(statement) for statement in scope.main.body]
        repairs += ["awaited what it ran a loop for"] if awaited.found else []
    parents = parents_of(scope.tree)
    repairs += _add_awaits(scope, parents)
    repairs += _await_what_is_returned(scope, parents)
    repairs += _add_return(scope)
    if repairs:
        ast.fix_missing_locations(scope.tree)
    return repairs


class _Awaited(ast.NodeTransformer):
    """Writes `await x` for `asyncio.run(x)` and `loop.run_until_complete(x)`, nested functions left aside."""

    found = False

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """Replace a call that runs a loop."""
        self.generic_visit(node)
        name = dotted(node.func) or ast.unparse(node.func)
        if len(node.args) != 1 or not (name == "asyncio.run" or name.endswith(".run_until_complete")):
            return node
        self.found = True
        return ast.copy_location(ast.Await(node.args[0]), node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        """Leave a nested function as it is."""
        return node

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef  # type: ignore[assignment]


def _respell(scope: Scope) -> list[str]:
    """Give operators their one spelling."""
    repairs = []
    for node in ast.walk(scope.tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if (
            isinstance(function, ast.Name)
            and scope.workflow_class is None
            and not is_known_function(function.id, scope)
        ):
            name = spelled(function.id)
            right = OPERATORS[name].snake_name() if name else function.id
            if right != function.id:
                repairs.append(f"spelled {function.id} as {right}")
                function.id = right
        elif isinstance(function, ast.Attribute) and dotted(function.value) is not None:
            right = function.attr
            if dotted(function.value) in scope.imports.operators:
                right = right if right in scope.keys else spelled(function.attr) or function.attr
            elif is_self_attribute(function) and function.attr not in scope.attributes:
                matches = [name for name in scope.attributes if name.lower() == function.attr.lower()]
                right = matches[0] if len(matches) == 1 else function.attr
            if right != function.attr:
                repairs.append(f"spelled {function.attr} as {right}")
                function.attr = right
    return repairs


def _add_awaits(scope: Scope, parents: dict[ast.AST, ast.AST]) -> list[str]:
    repairs = []
    coroutines = Coroutines(scope, parents)
    for call in list(scope.operator_calls()):
        parent = parents.get(call.node)
        if parent is None or coroutines.is_kept(call.node):
            continue
        if _move_await(call.node, parents):
            repairs.append(f"awaited {call.operator.__name__} before its result is used")
            continue
        function = enclosing_function(call.node, parents)
        if not isinstance(function, ast.AsyncFunctionDef):
            raise WorkflowError("check", f"{call.operator.__name__} is called in a function that is not async")
        _replace(parent, call.node, ast.Await(value=call.node))
        repairs.append(f"awaited {call.operator.__name__}")
    return repairs


def _await_what_is_returned(scope: Scope, parents: dict[ast.AST, ast.AST]) -> list[str]:
    """Await a coroutine of the source's own that the workflow returns as it is: whoever calls it expects the answer."""
    own = {node.name for node in ast.walk(scope.tree) if isinstance(node, ast.AsyncFunctionDef) and not _yields(node)}
    repairs = []
    for node in ast.walk(scope.main):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Call):
            called = node.value.func
            of_self = isinstance(called, ast.Attribute) and is_self_attribute(called)
            name = str(getattr(called, "attr" if of_self else "id", ""))
            if name in own and enclosing_function(node, parents) is scope.main:
                node.value = ast.Await(value=node.value)
                repairs.append(f"awaited {name}, whose result is returned")
    return repairs


def _yields(function: ast.AsyncFunctionDef) -> bool:
    return any(isinstance(node, ast.Yield) for node in ast.walk(function))


def _move_await(call: ast.Call, parents: dict[ast.AST, ast.AST]) -> bool:
    """Mend `await self.x(...)["k"]`, which awaits the item of a coroutine: await the call, then take the item."""
    node: ast.AST = call
    while True:
        parent = parents.get(node)
        is_owner = isinstance(parent, (ast.Subscript, ast.Attribute)) and parent.value is node
        if not is_owner and not (isinstance(parent, ast.Call) and parent.func is node):
            break
        assert parent is not None
        node = parent
    if node is call or not isinstance(parent, ast.Await):
        return False
    grandparent = parents.get(parent)
    if grandparent is None:
        return False
    _replace(parents[call], call, ast.Await(value=call))
    _replace(grandparent, parent, node)
    parents[node] = grandparent
    return True


def _replace(parent: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for field, value in ast.iter_fields(parent):
        if value is old:
            setattr(parent, field, new)
        elif isinstance(value, list):
            value[:] = [new if item is old else item for item in value]


def _add_return(scope: Scope) -> list[str]:
    """Return the last result when the last statement of the workflow is an operator call and nothing is returned."""
    main = scope.main
    if returns_value(main) or not main.body:
        return []
    last = main.body[-1]
    if not isinstance(last, (ast.Assign, ast.Expr)):
        return []
    operator = _result_of(last.value, scope)
    if operator is None:
        return []
    if isinstance(last, ast.Expr):
        main.body[-1] = ast.Return(value=_main_output(last.value, operator))
    elif isinstance(last.targets[0], ast.Name):
        main.body.append(ast.Return(value=_main_output(ast.Name(id=last.targets[0].id, ctx=ast.Load()), operator)))
    else:
        return []
    return ["returned the last result"]


def _result_of(value: ast.expr, scope: Scope) -> type[Operator] | None:
    if isinstance(value, ast.Await) and isinstance(value.value, ast.Call):
        return scope.operator_of(value.value)
    return None


def _main_output(value: ast.expr, operator: type[Operator]) -> ast.expr:
    return ast.Subscript(value=value, slice=ast.Constant(value=operator.main), ctx=ast.Load())
