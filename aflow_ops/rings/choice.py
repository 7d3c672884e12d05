"""Which interpreter a workflow needs, read from its source before it runs.

A list of what Monty (pydantic-monty 1.4) speaks. What is not on it goes to CPython, because the workflow may catch the
error that it would meet in Monty, and go on with another answer. What is missed here ends with an error in the first
ring, and the second one then takes over.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

from aflow_ops.python_source import MODULES_AT_HAND
from aflow_ops.rings.patterns import strange_patterns

# What each module has there, by name; "*" for all of it.
_MODULES: dict[str, str] = {
    "__future__": "*",
    "asyncio": "gather run sleep",
    "bisect": "*",
    "collections": "Counter defaultdict deque namedtuple",
    "copy": "copy deepcopy",
    "dataclasses": "dataclass field is_dataclass",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "*",
    "functools": "cache lru_cache partial reduce",
    "itertools": "*",
    "json": "JSONDecodeError dumps loads",
    "math": "*",
    "random": "*",
    "re": "DOTALL I IGNORECASE M MULTILINE Match Pattern S compile error escape findall finditer fullmatch "
    "match search split sub",
    "time": "monotonic perf_counter process_time sleep time",
    "typing": "Annotated Any Callable ClassVar Dict Final FrozenSet Generic Iterable Iterator List Literal Mapping "
    "Never NoReturn Optional Protocol Self Sequence Set TYPE_CHECKING Tuple Type TypeVar Union",
}
_NO_BUILTINS = frozenset(
    "BaseExceptionGroup ExceptionGroup StopAsyncIteration aiter anext ascii bytearray bytes callable classmethod "
    "delattr dir iter issubclass memoryview next staticmethod super vars BlockingIOError BrokenPipeError BufferError "
    "ChildProcessError ConnectionAbortedError ConnectionError ConnectionRefusedError ConnectionResetError "
    "DeprecationWarning EOFError EnvironmentError FloatingPointError FutureWarning GeneratorExit IOError "
    "IndentationError InterruptedError ProcessLookupError ReferenceError ResourceWarning RuntimeWarning SyntaxWarning "
    "SystemError TabError UnicodeError UserWarning Warning".split()
)
# It sleeps no longer than this many seconds, whatever it is asked for.
_LONGEST_SLEEP = 10
_FORMS = {
    ast.Delete: "`del`",
    ast.AsyncWith: "`async with`",
    ast.AsyncFor: "`async for`",
    ast.TryStar: "`except*`",
    ast.Yield: "a generator",
    ast.YieldFrom: "a generator",
}
# Iterators that are lists there, which can be gone through twice.
_LAZY = frozenset({"enumerate", "filter", "map", "reversed", "zip"})
# Options of `json` that it knows.
_JSON_OPTIONS = frozenset({"ensure_ascii", "indent", "separators", "sort_keys"})
# Attributes of a range, which a match has as methods.
_RANGE = frozenset({"start", "stop", "step"})
# What it computes to another last digit.
_ROUGH = frozenset({("math", "cbrt"), ("math", "lgamma")})
_SPECIAL_METHODS = frozenset("__init__ __call__ __str__ __repr__ __getitem__ __enter__ __exit__ __eq__".split())
_TYPES = (str, list, dict, set, frozenset, tuple, int, float, bytes, Decimal, Fraction)
_METHODS = frozenset(name for kind in _TYPES for name in dir(kind) if not name.startswith("_"))
# Methods of its values that it lacks, on one type or another.
_NO_METHODS = frozenset(
    "as_integer_ratio bit_count bit_length combine conjugate ctime difference_update expand expandtabs format_map "
    "from_bytes fromhex fromisocalendar fromisoformat fromkeys fromordinal fromtimestamp hex intersection_update "
    "imag is_integer isocalendar lastgroup maketrans re real strptime subn symmetric_difference_update timetuple "
    "to_bytes today toordinal translate update_wrapper".split()
)


def beyond_monty(tree: ast.Module) -> str | None:
    """Return what in a workflow Monty cannot speak, as a short phrase; `None` if nothing is known of.

    Args:
        tree (`ast.Module`): the workflow with AFlow's imports taken out, so that those that are left are Python's.
    """
    return next(_findings(tree), None)


def _findings(tree: ast.Module) -> Iterator[str]:
    nodes = list(ast.walk(tree))
    modules = dict(_bound_modules(nodes))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    called = {id(call.func) for call in calls}
    arguments = {id(argument) for call in calls for argument in call.args}
    own = _own_names(nodes)
    yield from _words_of_errors(nodes)
    yield from strange_patterns(calls, modules, dict(_imported_from("re", nodes)), own)
    awaited = Counter(
        node.value.id for node in nodes if isinstance(node, ast.Await) and isinstance(node.value, ast.Name)
    )
    yield from (f"`{name}` is awaited twice" for name, times in awaited.items() if times > 1)
    for node in nodes:
        if type(node) in _FORMS:
            yield _FORMS[type(node)]
        match node:
            case ast.ClassDef():
                yield from _of_class(node)
            case ast.Import(names=names):
                yield from (f"module {name.name}" for name in names if name.name not in _MODULES)
            case ast.ImportFrom(module=str() as module, names=names):
                yield from (f"{module}.{name.name}" for name in names if not _has(module, name.name))
            case ast.comprehension(is_async=1):
                yield "an asynchronous comprehension"
            case ast.GeneratorExp() if id(node) not in arguments:
                yield "a generator that is kept"
            case ast.Raise(exc=ast.Call(args=[_, _, *_])):
                yield "an error with several arguments"
            case ast.Call():
                yield from _of_call(node, own)
            case (
                ast.Assign(value=kept) | ast.AnnAssign(value=kept) | ast.NamedExpr(value=kept) | ast.Return(value=kept)
            ):
                if isinstance(kept, ast.Call) and isinstance(kept.func, ast.Name) and kept.func.id in _LAZY - own:
                    yield f"a kept `{kept.func.id}`"
            case ast.Name(id="__name__"):  # there it says that the source is run as a program
                yield "`__name__`"
            case ast.Name(id=name, ctx=ast.Load()) if name in _NO_BUILTINS - own:
                yield f"`{name}`"
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in modules:
                yield from [] if _has(modules[name], attribute) else [f"{modules[name]}.{attribute}"]
            case ast.Attribute(attr=attribute, ctx=ast.Load()) if attribute not in own:
                if attribute in _NO_METHODS or (attribute in _METHODS and id(node) not in called):
                    yield f"the method `{attribute}`"
                if attribute in _RANGE and id(node) not in called:
                    yield f"the attribute `{attribute}`"
                if attribute.startswith("__") and not _is_type_name(node):
                    yield f"`{attribute}`"


def _is_type_name(node: ast.Attribute) -> bool:
    """Whether it is `type(x).__name__`, the one name of its kind that there is."""
    owner = node.value
    is_type = isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name) and owner.func.id == "type"
    return node.attr == "__name__" and is_type


def _words_of_errors(nodes: list[ast.AST]) -> Iterator[str]:
    """Monty's errors say the same in other words, which a workflow that reads them may give to an operator."""
    for handler in nodes:
        if isinstance(handler, ast.ExceptHandler) and handler.name:
            unheard = {id(part) for node in ast.walk(handler) if _is_unheard(node) for part in ast.walk(node)}
            names = (node for node in ast.walk(handler) if isinstance(node, ast.Name) and node.id == handler.name)
            if any(id(name) not in unheard for name in names):
                yield "the words of an error"


def _is_unheard(node: ast.AST) -> bool:
    """Whether what stands in a node is logged, or raised: whoever catches it reads it, or does not."""
    function = node.func if isinstance(node, ast.Call) else None
    owner = function.value if isinstance(function, ast.Attribute) else function
    return isinstance(node, ast.Raise) or (isinstance(owner, ast.Name) and owner.id in ("print", "logger"))


def _of_call(call: ast.Call, own: set[str]) -> Iterator[str]:
    match call:
        case ast.Call(func=ast.Name(id="hasattr" | "getattr" as function), args=[_, name, *_]):
            if not (isinstance(name, ast.Constant) and name.value in own):  # methods of built-in types are not found
                yield f"`{function}`"
        case ast.Call(func=ast.Name(id="round"), args=[_, _]):  # it rounds 2.675 up, which is below in binary
            yield "`round` to digits"
        case ast.Call(func=ast.Attribute(attr="union" | "intersection" | "difference"), args=args) if len(args) != 1:
            yield "more than two sets at once"
        case ast.Call(func=ast.Attribute(attr="gather"), keywords=[_, *_]):
            yield "`gather` with options"
        case ast.Call(func=ast.Attribute(attr="sleep"), args=[ast.Constant(value=int() | float() as pause)]):
            yield from [f"a pause of {pause} s"] if pause > _LONGEST_SLEEP else []
        case ast.Call(func=ast.Attribute(attr="dumps" | "loads" as function), keywords=options):
            yield from (f"`{function}` with {option.arg}" for option in options if option.arg not in _JSON_OPTIONS)


def _of_class(node: ast.ClassDef) -> Iterator[str]:
    if node.bases or node.keywords:
        yield "inheritance"
    for item in node.body:
        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if item.decorator_list:
                yield "a decorated method"
            if item.name.startswith("__") and item.name not in _SPECIAL_METHODS:
                yield f"`{item.name}`"


def _has(module: str, name: str) -> bool:
    names = _MODULES.get(module, "")
    return (names == "*" or name in names.split()) and (module, name) not in _ROUGH


def _bound_modules(nodes: list[ast.AST]) -> Iterator[tuple[str, str]]:
    """Modules by the names that the source has for them; those of the prelude are always there."""
    yield from ((name, name) for name in MODULES_AT_HAND)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((name.asname or name.name, name.name) for name in node.names)


def _imported_from(module: str, nodes: list[ast.AST]) -> Iterator[tuple[str, str]]:
    """What a source imports from a module, by the names that it has for it."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module == module:
            yield from ((name.asname or name.name, name.name) for name in node.names)


def _own_names(nodes: list[ast.AST]) -> set[str]:
    """Names, methods and attributes that the source itself defines."""
    own = set()
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                own.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                own.add(name)
    return own
