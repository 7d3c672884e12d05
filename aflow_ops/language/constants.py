"""The texts of a `prompt.py`, read without running it.

Understood is what such files do to make text: assignments of every kind, arithmetic, conditions, f-strings, `%` and
`format`, lists, tuples, sets and dicts with their items, comprehensions, `for` and `if`, earlier names, and the methods
and functions that only make text and lists of it (`strip`, `join`, `dedent`, `enumerate`, ...). What a file does
besides, in functions and classes that do more than to group texts, is not read here, and no name that it may have
changed is known: `prompt_code.py` hands it to the workflow.
"""

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from aflow_ops.language.constant_values import (
    FUNCTIONS,
    MAX_PROMPT_CHARS,
    TEXT_METHODS,
    UnreadableError,
    call_function,
    call_method,
    compare,
    format_text,
    items_of,
    operate,
    total,
)
from aflow_ops.language.fstrings import plain_fstrings
from aflow_ops.language.workflow import GRAMMAR, SOURCE_NAME
from aflow_ops.python_source import parse_source

# Characters that are looked at, those of a value each time it is used; what a statement or an expression counts for.
_MAX_WORK, _STEP = 10_000_000, 1_000
_ERRORS = (
    *(UnreadableError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(RecursionError, MemoryError),
)


# Expressions whose variables are their own.
_SCOPES = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class _TooLongError(Exception):
    """The file computes for longer than a prompt file has reason to."""


def prompt_constants(source: str) -> dict[str, Any]:
    """Read the constants of a prompt file without running it.

    Args:
        source (`str`): Python, as in AFlow's `prompt.py` or a `<prompt>` block.

    Returns:
        `dict[str, Any]`: text, or lists and dicts of it, by name. What cannot be read is left out: the checker names
        it where a workflow uses it.
    """
    return read_constants(prompt_statements(source))


def prompt_statements(source: str) -> list[ast.stmt]:
    """Return the statements of a prompt file; none of a text that is no Python, or too long to be looked at."""
    try:
        return parse_prompts(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def parse_prompts(source: str) -> list[ast.stmt]:
    """Return the statements of a prompt file.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: as `parse_source`, and where it is too long.
    """
    if len(source) > MAX_PROMPT_CHARS:
        raise ValueError(f"it has {len(source)} characters; at most {MAX_PROMPT_CHARS} are read")
    text = plain_fstrings(source.removeprefix("\ufeff").replace("\r\n", "\n"))
    return parse_source(text, SOURCE_NAME, GRAMMAR).body


def read_constants(statements: list[ast.stmt]) -> dict[str, Any]:
    """Return what `prompt_constants` does, of the statements of a file."""
    reader = _Reader()
    try:
        reader.statements(statements)
    except _TooLongError:
        return {}
    return {name: value for name, value in reader.names.items() if total(value) <= MAX_PROMPT_CHARS}


class _Reader:
    """What is known of a file's names after the statements so far."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self._left = _MAX_WORK

    def statements(self, body: list[ast.stmt]) -> None:
        """Read statements one after the other; of one that cannot be read, nothing that it sets is known."""
        for statement in body:
            try:
                self._statement(statement)
            except _ERRORS:
                for name in changed_by(statement):
                    self.names.pop(name, None)

    def _statement(self, statement: ast.stmt) -> None:
        self._work(_STEP)
        match statement:
            case ast.Assign(targets=targets, value=node):
                value = self.value(node)
                for target in targets:
                    self._assign(target, value)
            case ast.AnnAssign(target=target, value=ast.expr() as node):
                self._assign(target, self.value(node))
            case ast.AugAssign(target=ast.Name(id=name), op=operation, value=node):
                self.names[name] = self._bounded(operate(operation, self.names[name], self.value(node)))
            case ast.If(test=test, body=body, orelse=orelse):
                self.statements(body if self.value(test) else orelse)
            case ast.For(target=target, iter=node, body=body, orelse=orelse):
                for item in items_of(self.value(node)):
                    self._assign(target, item)
                    self.statements(body)
                self.statements(orelse)
            case ast.Try(body=body, orelse=orelse, finalbody=finalbody) if not any(map(_may_fail, body)):
                self.statements([*body, *orelse, *finalbody])
            case ast.Expr(
                value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method), args=[argument])
            ) if method in ("append", "extend", "update"):
                # Values are never changed, only replaced: none can come to hold itself.
                more = self.value(argument)
                old = self.names[name]
                added = [more] if method == "append" else items_of(more)
                self.names[name] = self._bounded({**old, **more} if isinstance(old, dict) else old + added)
            case ast.ClassDef(name=name, bases=[], keywords=[], decorator_list=[], body=body):
                self.names[name] = self._bounded(self._fields(body))
            case ast.Expr() | ast.Import() | ast.ImportFrom() | ast.Pass() | ast.AnnAssign(value=None):
                pass
            case _:
                raise UnreadableError

    def _fields(self, body: list[ast.stmt]) -> dict[str, Any]:
        """The constants of a class that groups prompts."""
        outer = dict(self.names)
        self.statements(body)
        fields = {
            name: self.names[name]
            for name in dict.fromkeys(n for item in body for n in changed_by(item))
            if name in self.names
        }
        self.names = outer
        return fields

    def _assign(self, target: ast.expr, value: Any) -> None:
        match target:
            case ast.Name(id=name):
                self.names[name] = value
            case ast.Tuple(elts=targets) | ast.List(elts=targets):
                for item, part in zip(targets, items_of(value), strict=True):
                    self._assign(item, part)
            case ast.Subscript(value=ast.Name(id=name), slice=index):
                changed = self.names[name].copy()
                changed[self.value(index)] = value
                self.names[name] = self._bounded(changed)
            case _:
                raise UnreadableError

    def _work(self, characters: int) -> None:
        self._left -= characters
        if self._left < 0:
            raise _TooLongError

    def _bounded(self, value: Any) -> Any:
        size = total(value)
        self._work(size)
        if size > MAX_PROMPT_CHARS:
            raise UnreadableError
        return value

    def value(self, node: ast.expr) -> Any:
        """Return what an expression is.

        Raises:
            UnreadableError: that cannot be known without running the file.
        """
        self._work(_STEP)
        return self._bounded(self._evaluated(node))

    def _evaluated(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=str() | int() | float() | None as value):
                return value
            case ast.Name(id=name):
                return self.names[name]
            case ast.JoinedStr(values=parts):
                return "".join(str(self._evaluated(part)) for part in parts)
            case ast.FormattedValue():
                return self._formatted(node)
            case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
                items = [item for element in elements for item in self._items(element)]
                return list(dict.fromkeys(items)) if isinstance(node, ast.Set) else items
            case ast.Dict(keys=keys, values=values):
                return self._dict(keys, values)
            case ast.ListComp() | ast.GeneratorExp() | ast.SetComp() | ast.DictComp():
                return self._comprehension(node)
            case ast.Call():
                return self._called(node)
            case ast.Subscript(value=owner, slice=ast.Slice(lower=lower, upper=upper, step=step)):
                bounds = (None if part is None else self.value(part) for part in (lower, upper, step))
                return self.value(owner)[slice(*bounds)]
            case ast.Subscript(value=owner, slice=index):
                return self.value(owner)[self.value(index)]
            case ast.NamedExpr(target=ast.Name(id=name), value=inner):
                self.names[name] = self.value(inner)
                return self.names[name]
        return self._computed(node)

    def _computed(self, node: ast.expr) -> Any:
        match node:
            case ast.BinOp(left=left, op=operation, right=right):
                return operate(operation, self.value(left), self.value(right))
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self.value(body if self.value(test) else orelse)
            case ast.BoolOp(op=operation, values=values):
                for inner in values[:-1]:
                    value = self.value(inner)
                    if bool(value) == isinstance(operation, ast.Or):
                        return value
                return self.value(values[-1])
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.value(operand)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self.value(operand)
            case ast.Compare(left=left, ops=[operation], comparators=[right]):
                return compare(operation, self.value(left), self.value(right))
        raise UnreadableError

    def _formatted(self, node: ast.FormattedValue) -> str:
        value, spec = self.value(node.value), self.value(node.format_spec) if node.format_spec else ""
        converted = {114: repr, 97: ascii}.get(node.conversion, lambda item: item)(value)
        return format_text("{:" + spec + "}", [converted], {})

    def _items(self, element: ast.expr) -> Iterator[Any]:
        if isinstance(element, ast.Starred):
            yield from items_of(self.value(element.value))
        else:
            yield self.value(element)

    def _dict(self, keys: list[ast.expr | None], values: list[ast.expr]) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key, value in zip(keys, values, strict=True):
            if key is None:
                found |= self.value(value)
            else:
                found[self.value(key)] = self.value(value)
        return found

    def _comprehension(self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp) -> Any:
        outer, found = dict(self.names), []
        for _ in self._turns(node.generators):
            if isinstance(node, ast.DictComp):
                found.append((self.value(node.key), self.value(node.value)))
            else:
                found.append(self.value(node.elt))
        self.names = outer
        if isinstance(node, ast.DictComp):
            return dict(found)
        return list(dict.fromkeys(found)) if isinstance(node, ast.SetComp) else found

    def _turns(self, generators: list[ast.comprehension]) -> Iterator[None]:
        first, *others = generators
        for item in items_of(self.value(first.iter)):
            self._assign(first.target, item)
            if all(self.value(condition) for condition in first.ifs):
                if others:
                    yield from self._turns(others)
                else:
                    yield None

    def _called(self, node: ast.Call) -> Any:
        args = [item for argument in node.args for item in self._items(argument)]
        kwargs: Mapping[str, Any] = self._dict(
            [None if keyword.arg is None else ast.Constant(keyword.arg) for keyword in node.keywords],
            [keyword.value for keyword in node.keywords],
        )
        name = ast.unparse(node.func)
        if name in FUNCTIONS and name not in self.names:
            return call_function(name, args, kwargs)
        if isinstance(node.func, ast.Attribute):
            owner = self.value(node.func.value)
            if isinstance(owner, dict) and node.func.attr in ("get", "items", "keys", "values"):
                found = getattr(owner, node.func.attr)(*args)
                return found if node.func.attr == "get" else [list(x) if isinstance(x, tuple) else x for x in found]
            if isinstance(owner, str) and node.func.attr in TEXT_METHODS:
                return call_method(owner, node.func.attr, args, kwargs)
        raise UnreadableError


def _may_fail(statement: ast.stmt) -> bool:
    """Whether a statement inside `try` may be one that fails: an import, or a call that is not understood."""
    return not isinstance(statement, (ast.Assign, ast.AnnAssign)) or any(
        isinstance(node, ast.Call) for node in ast.walk(statement)
    )


def changed_by(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement sets, or whose values it or a function in it may change."""
    yield from _set_by(statement)
    for node in ast.walk(statement):
        match node:
            case ast.Global(names=names):
                yield from names
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store()):
                yield name
            case ast.Attribute(value=ast.Name(id=name), ctx=ast.Store()):
                yield name
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="append" | "extend" | "insert" | "update")):
                yield name


def _set_by(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement sets where it stands, and not inside of a function or class."""
    pending: list[ast.AST] = [statement]
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif not isinstance(node, _SCOPES):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            pending.extend(ast.iter_child_nodes(node))
