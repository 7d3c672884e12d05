"""What a workflow's own code holds, worked out: constants, and expressions of constants only.

Example: in `return chr(79) + "".join(["s", "l"]) + x` the first two are worked out; with `a = "Os"` above, so is
`a + "lo"`. Nothing of the workflow is run: each function here is one of a closed list.
"""

import ast
import base64
import codecs
import itertools
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rewards.graders.notation import word_set

# Characters and items of one value, nested ones included; steps; and the size of all values together.
MAX_CHARS = 20_000
MAX_STEPS = 20_000
MAX_TOTAL = 2_000_000
MAX_DEPTH = 50
# Encodings of text. Others unpack a few bytes to gigabytes, or take time with the square of their input.
_ENCODINGS = word_set(
    """
    utf8 utf16 utf32 ascii latin1 iso88591 cp1252 hex hexcodec base64 base64codec rot13 unicodeescape rawunicodeescape
    strict ignore replace backslashreplace
    """
)


def _range(*bounds: int) -> list[int]:
    return list(itertools.islice(range(*bounds), MAX_CHARS))


_OPERATIONS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitXor: operator.xor,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.Pow: operator.pow,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "chr": chr, "ord": ord, "str": str, "int": int, "float": float, "len": len, "sum": sum, "max": max, "min": min,
    "abs": abs, "round": round, "list": list, "tuple": tuple, "sorted": sorted, "bool": bool, "dict": dict,
    "divmod": divmod, "bin": bin, "oct": oct, "hex": hex, "repr": repr, "range": _range,
    "reversed": lambda items: list(reversed(items)), "bytes.fromhex": bytes.fromhex, "str.maketrans": str.maketrans,
    "bytes": lambda source, *rest: b"" if isinstance(source, int) else bytes(source, *rest),
    "base64.b64decode": base64.b64decode, "base64.b32decode": base64.b32decode, "base64.b16decode": base64.b16decode,
    "base64.b85decode": base64.b85decode, "codecs.decode": codecs.decode, "json.loads": ast.literal_eval,
}  # fmt: skip
_METHODS = word_set(
    """
    join replace strip lstrip rstrip upper lower title capitalize swapcase format split rsplit splitlines removeprefix
    removesuffix decode encode get translate zfill index count center ljust rjust hex keys values items
    """
)
_LIST_LIKE = (ast.List, ast.Tuple, ast.Set)


class _UnknownError(Exception):
    """An expression that depends on more than constants."""


@dataclass(frozen=True)
class Held:
    """One expression of constants only.

    Args:
        node (`ast.expr`): where it stands in the tree.
        value (`str | int | float`): what it comes to.
    """

    node: ast.expr
    value: str | int | float


def held_by(tree: ast.AST, prompts: Mapping[str, Any]) -> list[Held]:
    """Return every text and number that a workflow's code holds, the largest expressions only.

    Args:
        tree (`ast.AST`): of its source.
        prompts (`Mapping[str, Any]`): its `prompt_custom` constants.
    """
    folder = _Folder(tree, prompts)
    return list(folder.walk(tree))


class _Folder:
    def __init__(self, tree: ast.AST, prompts: Mapping[str, Any]) -> None:
        self.steps = self.total = 0
        self.prompts = prompts
        self.names: dict[str, ast.expr] = {}
        assigned: dict[str, int] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                assigned[node.id] = assigned.get(node.id, 0) + 1
            elif isinstance(node, ast.arg):
                assigned[node.arg] = 2
        for node in ast.walk(tree):
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    if isinstance(target, ast.Name) and assigned[target.id] == 1:
                        self.names[target.id] = node.value
        self.open: set[str] = set()

    def walk(self, node: ast.AST) -> Iterator[Held]:
        """The largest foldable expressions below a node, and the texts and numbers in their values."""
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return  # a docstring
        if isinstance(node, ast.expr) and isinstance(getattr(node, "ctx", None), (ast.Load, type(None))):
            try:
                value = self.value(node)
            except (_UnknownError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, SyntaxError,
                    RecursionError, MemoryError):  # fmt: skip
                pass
            else:
                if isinstance(value, (str, int, float)):
                    if not isinstance(value, bool):
                        yield Held(node, value)
                    if isinstance(node, (ast.Constant, ast.Name)):
                        return
                elif isinstance(value, bytes):
                    yield Held(node, value.decode("utf-8", "replace"))
        for child in ast.iter_child_nodes(node):
            yield from self.walk(child)

    def value(self, node: ast.expr) -> Any:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise _UnknownError
        value = self._evaluated(node)
        self.total += weight(value)
        if self.total > MAX_TOTAL or (isinstance(value, int) and value.bit_length() > 4_000):
            raise _UnknownError
        return value

    def _evaluated(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self._named(node.id)
        if isinstance(node, ast.JoinedStr):
            return "".join(str(self.value(part)) for part in node.values)
        if isinstance(node, ast.FormattedValue):
            spec = self.value(node.format_spec) if node.format_spec else ""
            if len(spec) > 4:
                raise _UnknownError
            return format(self.value(node.value), spec)
        if isinstance(node, _LIST_LIKE):
            return [self.value(item) for item in node.elts]
        if isinstance(node, ast.Dict):
            return {self.value(k): self.value(v) for k, v in zip(node.keys, node.values, strict=True) if k is not None}
        if isinstance(node, ast.BinOp):
            return self._operated(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Invert)):
            value = self.value(node.operand)
            return -value if isinstance(node.op, ast.USub) else ~value
        if isinstance(node, ast.Subscript):
            return self.value(node.value)[self._index(node.slice)]
        if isinstance(node, (ast.ListComp, ast.GeneratorExp)):
            return self._comprehended(node)
        if isinstance(node, ast.Call):
            return self._called(node)
        if isinstance(node, ast.Attribute):
            if ast.unparse(node.value) == "prompt_custom":
                return self.prompts[node.attr]
            if isinstance(owner := self.value(node.value), dict):  # a class of constants
                return owner[node.attr]
        raise _UnknownError

    def _named(self, name: str) -> Any:
        if name not in self.names or name in self.open:
            raise _UnknownError
        self.open.add(name)
        try:
            return self.value(self.names[name])
        finally:
            self.open.discard(name)

    def _index(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Slice):
            parts = (node.lower, node.upper, node.step)
            return slice(*(None if part is None else self.value(part) for part in parts))
        return self.value(node)

    def _operated(self, node: ast.BinOp) -> Any:
        left, right = self.value(node.left), self.value(node.right)
        sizes = [abs(side) if isinstance(side, (int, float)) else weight(side) for side in (left, right)]
        repeats = not all(isinstance(side, (int, float)) for side in (left, right))
        if isinstance(node.op, ast.Mult) and repeats and sizes[0] * sizes[1] > MAX_CHARS:
            raise _UnknownError
        if isinstance(node.op, (ast.Pow, ast.LShift)) and (sizes[1] > 200 or sizes[0] > 10**9):
            raise _UnknownError
        if isinstance(node.op, ast.Mod) and isinstance(left, (str, bytes)):
            if isinstance(left, bytes) or any(c.isdigit() or c == "*" for c in left):
                raise _UnknownError  # widths may be of any size
            _bounded(left, right)
        right = tuple(right) if isinstance(left, str) and isinstance(right, list) else right
        return _OPERATIONS[type(node.op)](left, right)

    def _comprehended(self, node: ast.ListComp | ast.GeneratorExp) -> list[Any]:
        """A comprehension with one loop over constants."""
        loop = node.generators[0]
        if len(node.generators) > 1 or loop.ifs or not isinstance(loop.target, ast.Name):
            raise _UnknownError
        name, items, before = loop.target.id, self.value(loop.iter), self.names.get(loop.target.id)
        found = []
        try:
            for item in items:
                self.names[name] = ast.Constant(item)
                found.append(self.value(node.elt))
        finally:
            if before is None:
                self.names.pop(name, None)
            else:
                self.names[name] = before
        return found

    def _called(self, node: ast.Call) -> Any:
        if any(isinstance(argument, ast.Starred) for argument in node.args) or any(not k.arg for k in node.keywords):
            raise _UnknownError
        name = ast.unparse(node.func)
        if name == "map" and len(node.args) == 2:
            function, items = ast.unparse(node.args[0]), self.value(node.args[1])
            if function not in _FUNCTIONS or function in self.names:
                raise _UnknownError
            return [_FUNCTIONS[function](item) for item in _bounded(items)[0]]
        args = [self.value(argument) for argument in node.args]
        kwargs = {str(keyword.arg): self.value(keyword.value) for keyword in node.keywords}
        if name in ("codecs.decode", "bytes"):
            _text_encodings(*args[1:], *kwargs.values())
        if name in _FUNCTIONS and name not in self.names:
            return _FUNCTIONS[name](*_bounded(*args), **kwargs)
        if not isinstance(node.func, ast.Attribute) or node.func.attr not in _METHODS:
            raise _UnknownError
        owner = self.value(node.func.value)
        if not isinstance(owner, (str, bytes, list, dict)):
            raise _UnknownError
        if node.func.attr == "format" and re.search(r"[:.\[]", str(owner)):
            raise _UnknownError  # widths may be of any size, and attributes lead anywhere
        _bounded(owner, *args)
        if node.func.attr in ("encode", "decode"):
            _text_encodings(*args, *kwargs.values())
        result = getattr(owner, node.func.attr)(*args, **kwargs)
        return list(result) if node.func.attr in ("keys", "values", "items") else result


def weight(value: Any) -> int:
    """Return how much a value is when it is written out: characters, items, and those of its items.

    Lists that share lists are small, and huge as text.

    Raises:
        _UnknownError: it is more than `MAX_CHARS`, or nested too deeply.
    """
    left, total = [(value, 0)], 0
    while left:
        item, depth = left.pop()
        total += len(item) if isinstance(item, (str, bytes, list, tuple, set, dict)) else 1
        if total > MAX_CHARS or depth > MAX_DEPTH:
            raise _UnknownError
        if isinstance(item, (list, tuple, set, dict)):
            parts = [*item, *item.values()] if isinstance(item, dict) else item
            left.extend((part, depth + 1) for part in parts)
    return total


def _text_encodings(*names: Any) -> None:
    """Check the names of encodings and of ways to handle errors.

    Raises:
        _UnknownError: one is none of text.
    """
    if any(re.sub(r"[-_ ]", "", str(name).lower()) not in _ENCODINGS for name in names):
        raise _UnknownError


def _bounded(*values: Any) -> Any:
    """The values, if a function that multiplies their sizes still makes nothing large.

    Raises:
        _UnknownError: it might.
    """
    sizes = [weight(value) for value in values]
    if math.prod(max(1, size) for size in sizes) > 100 * MAX_CHARS:
        raise _UnknownError
    if any(isinstance(value, int) and abs(value) > MAX_CHARS for value in values) and len(values) > 1:
        raise _UnknownError
    return values
