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
    "re": "A ASCII DOTALL I IGNORECASE M MULTILINE Match Pattern S compile error escape findall finditer fullmatch "
    "match search split sub",
    "time": "monotonic perf_counter process_time sleep time",
    "typing": "Annotated Any Callable ClassVar Dict Final FrozenSet Generic Iterable Iterator List Literal Mapping "
    "Never NoReturn Optional Protocol Self Sequence Set TYPE_CHECKING Tuple Type TypeVar Union",
}
_NO_BUILTINS = frozenset(
    "BaseExceptionGroup ExceptionGroup StopAsyncIteration aiter anext ascii bytearray callable classmethod delattr dir "
    "iter issubclass memoryview next staticmethod super vars BlockingIOError BrokenPipeError BufferError "
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
_SPECIAL_METHODS = frozenset("__init__ __call__ __str__ __repr__ __getitem__ __enter__ __exit__ __eq__".split())
_TYPES = (str, list, dict, set, frozenset, tuple, int, float, bytes, Decimal, Fraction)
_METHODS = frozenset(name for kind in _TYPES for name in dir(kind) if not name.startswith("_"))
# Methods of its values that it lacks, on one type or another.
_NO_METHODS = frozenset(
    "as_integer_ratio bit_count bit_length combine conjugate ctime difference_update expand expandtabs format_map "
    "from_bytes fromhex fromisocalendar fromisoformat fromkeys fromordinal fromtimestamp hex intersection_update "
    "is_integer isocalendar lastgroup maketrans strptime subn symmetric_difference_update timetuple to_bytes today "
    "toordinal translate update_wrapper".split()
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
            case ast.Call(func=ast.Attribute(attr="gather"), keywords=[_, *_]):
                yield "`gather` with options"
            case ast.Call(func=ast.Attribute(attr="sleep"), args=[ast.Constant(value=int() | float() as pause)]):
                yield from [f"a pause of {pause} s"] if pause > _LONGEST_SLEEP else []
            case ast.Call(func=ast.Name(id="round"), args=[_, _]):  # it rounds 2.675 up, which is below in binary
                yield "`round` to digits"
            case ast.Name(id="__name__"):  # there it says that the source is run as a program
                yield "`__name__`"
            case ast.Name(id=name, ctx=ast.Load()) if name in _NO_BUILTINS - own:
                yield f"`{name}`"
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in modules:
                yield from [] if _has(modules[name], attribute) else [f"{modules[name]}.{attribute}"]
            case ast.Attribute(attr=attribute, ctx=ast.Load()) if attribute not in own:
                if attribute in _NO_METHODS or (attribute in _METHODS and id(node) not in called):
                    yield f"the method `{attribute}`"
                if attribute.startswith("__") and attribute not in ("__name__", "__class__"):
                    yield f"`{attribute}`"


def _words_of_errors(nodes: list[ast.AST]) -> Iterator[str]:
    """Monty adds what it compared to the message of an assertion, which a workflow that catches it may read."""
    caught = any(isinstance(node, ast.ExceptHandler) and node.name for node in nodes)
    if caught and any(isinstance(node, ast.Assert) for node in nodes):
        yield "the words of an assertion"


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
    return names == "*" or name in names.split()


def _bound_modules(nodes: list[ast.AST]) -> Iterator[tuple[str, str]]:
    """Modules by the names that the source has for them; those of the prelude are always there."""
    yield from ((name, name) for name in MODULES_AT_HAND)
    for node in nodes:
        if isinstance(node, ast.Import):
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
