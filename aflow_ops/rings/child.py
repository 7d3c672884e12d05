"""The program in the sandbox that runs one workflow in CPython. Executed by `second.py`, not imported.

It has the globals of a conversation (`_send`, `_receive`, `_channel`; see `Sandbox.converse`). The first message is the
job: `{"source", "inputs", "functions", "modules", "parts", "inside", "limits"}`. Operators are coroutine functions that
send a frame and wait for its answer on an event loop of asyncio's, so that tasks, timeouts, locks and generators are
Python's.

What is hidden from the workflow here, modules and builtins, is courtesy: it gets the error that it would get in the
first ring. The walls of the sandbox are what holds. Nothing that this process knows or can send is worth a forgery.
"""

import __future__

import ast
import asyncio
import builtins
import importlib
import itertools
import json
import math
import operator
import os
import signal
import string
import sys
import typing
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from decimal import Decimal
from fractions import Fraction
from types import FrameType, GeneratorType, ModuleType
from typing import Any, NoReturn

MAX_DEPTH = 50
MAX_ITEMS = 100_000
# The first ring has none of them either.
HIDDEN = frozenset(
    {"open", "compile", "input", "breakpoint", "globals", "help", "exit", "quit", "copyright", "credits", "license"}
)
# Frames of the library above the workflow's own: a call of `asyncio`, of `re` or of `copy` is none of its recursion.
LIBRARY_DEPTH = 60
SEQUENCES: tuple[type, ...] = (
    list,
    set,
    frozenset,
    deque,
    range,
    type({}.keys()),
    type({}.values()),
    map,
    filter,
    zip,
    GeneratorType,
)


def plain(value: Any, chars: int, depth: int = 0) -> Any:
    """A value as JSON can carry it.

    Args:
        value (`Any`): whatever the workflow has.
        chars (`int`): what is left of a text.
        depth (`int`): how far inside it is.
    """
    if depth > MAX_DEPTH:
        raise ValueError("a value is nested too deeply")
    if isinstance(value, str):
        return str.__getitem__(value, slice(chars))
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (Decimal, Fraction)):
        return str(value)
    if isinstance(value, dict):
        return {_key(key): plain(item, chars, depth + 1) for key, item in value.items()}
    if isinstance(value, tuple):
        return {"__tuple__": [plain(item, chars, depth + 1) for item in value]}
    if isinstance(value, SEQUENCES):
        items: Any = value
        return [plain(item, chars, depth + 1) for item in itertools.islice(items, MAX_ITEMS)]
    return {"__other__": [type(value).__name__, text_of(value)[:1000]]}


def _key(key: Any) -> str:
    return key if isinstance(key, str) else json.dumps(key) if isinstance(key, (int, float)) else str(key)


def text_of(value: object) -> str:
    """The text of a value or error, whose own code may raise."""
    try:
        return str(value)
    except Exception:
        return ""


def send(frame: dict[str, Any]) -> None:
    """Send a frame."""
    _send(json.dumps(frame).encode())  # type: ignore[name-defined]  # noqa: F821


def end(frame: dict[str, Any]) -> NoReturn:
    """Say how it ended, and end, whatever is still under way.

    Not before the other side has heard it: an answer that met a closed channel would sweep away what is unread.
    """
    try:
        try:
            send(frame)
        except ValueError as error:  # such as an integer of more digits than Python prints
            send(raised(error))
        while os.read(_channel, 1 << 16):  # type: ignore[name-defined]  # noqa: F821
            continue
    finally:
        os._exit(0)


def raised(error: BaseException) -> dict[str, Any]:
    """The frame that names an error."""
    return {"raised": [type(error).__name__, text_of(error)[:10_000]]}


class Loop(asyncio.SelectorEventLoop):
    """An event loop without threads: what is meant for one (`asyncio.to_thread`) is done at once."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Call a function; the future has what came of it."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


class Door:
    """The operators.

    Args:
        loop (`asyncio.AbstractEventLoop`): on which the workflow runs.
        chars (`int`): characters of one text that an operator takes.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, chars: int) -> None:
        self._loop, self._chars = loop, chars
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count()
        loop.add_reader(_channel, self._answered)  # type: ignore[name-defined]  # noqa: F821

    def function(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Return an operator by its name."""

        async def call(*args: Any, **kwargs: Any) -> Any:
            number = next(self._numbers)
            frame = {"call": number, "name": name, "args": plain(list(args), self._chars)}
            send({**frame, "kwargs": plain(kwargs, self._chars)})
            self._waiting[number] = self._loop.create_future()
            try:
                return await self._waiting[number]
            finally:
                if self._waiting.pop(number, None) is not None:  # it gave up waiting
                    send({"cancel": number})

        call.__name__ = call.__qualname__ = name
        return call

    def _answered(self) -> None:
        try:
            answer = json.loads(_receive())  # type: ignore[name-defined]  # noqa: F821
        except EOFError:
            os._exit(1)
        waiting = self._waiting.pop(answer["call"], None)
        if waiting is None or waiting.done():
            return
        if "error" in answer:
            kind, message = answer["error"]
            error = getattr(builtins, kind, RuntimeError)
            waiting.set_exception((error if issubclass(error, Exception) else RuntimeError)(message))
        else:
            waiting.set_result(answer["result"])


def partial_module(name: str, parts: Iterable[str]) -> ModuleType:
    """A module that holds nothing but some of another one."""
    whole, partial = importlib.import_module(name), ModuleType(name)
    for part in parts:
        setattr(partial, part, getattr(whole, part))
    return partial


def visible_builtins(modules: frozenset[str], parts: dict[str, list[str]], inside: frozenset[str]) -> dict[str, Any]:
    """What the workflow sees of Python itself.

    Args:
        modules (`frozenset[str]`): what it may import.
        parts (`dict[str, list[str]]`): of modules of which it may have a part, that part.
        inside (`frozenset[str]`): attributes that it does not get by name.
    """
    real_import = builtins.__import__

    def guarded_import(
        name: str, globals: Any = None, locals: Any = None, fromlist: Iterable[str] = (), level: int = 0
    ) -> Any:
        # `_strptime` is what Python's own `strptime` imports in the name of its caller.
        if level or name.split(".")[0] not in modules | {"_strptime"}:
            raise ModuleNotFoundError(f"No module named {name!r}")
        if name in parts:
            return partial_module(name, parts[name])
        return real_import(name, globals, locals, tuple(fromlist or ()), 0)

    def no_files(file: object, *args: object, **kwargs: object) -> NoReturn:
        raise PermissionError(f"Permission denied: {text_of(file)!r}")

    def guarded_getattr(owner: object, name: str, *default: object) -> Any:
        value = getattr(owner, name, *default)
        if name in inside or (isinstance(owner, ModuleType) and leads_out(owner, name, value)):
            raise AttributeError(f"{type(owner).__name__!r} object has no attribute {name!r}")
        return value

    def leads_out(owner: ModuleType, name: str, value: object) -> bool:
        is_other = isinstance(value, ModuleType) and value.__name__.split(".")[0] not in modules - set(parts)
        return is_other or name == "__dict__" or (name.startswith("_") and not name.startswith("__"))

    def guarded_vars(*owner: object) -> Any:
        if owner and isinstance(owner[0], ModuleType):
            raise TypeError("vars() argument must have __dict__ attribute")
        return vars(*owner) if owner else sys._getframe(1).f_locals

    def by_name(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*names: Any, **kwargs: Any) -> Any:
            for part in ".".join(name for name in names if isinstance(name, str)).split("."):
                if part in inside:
                    raise AttributeError(f"object has no attribute {part!r}")
            return make(*names, **kwargs)

        return made

    # The library's own ways to an attribute whose name is a text.
    operator.attrgetter, operator.methodcaller = by_name(operator.attrgetter), by_name(operator.methodcaller)  # type: ignore[assignment,misc]
    vars(string)["getattr"] = guarded_getattr
    seen = {name: value for name, value in vars(builtins).items() if name not in HIDDEN}
    guarded = {"__import__": guarded_import, "open": no_files, "getattr": guarded_getattr, "vars": guarded_vars}
    return {**seen, **guarded}


def bound(limits: dict[str, Any]) -> None:
    """End this process when it has computed for too long, and bound its recursion.

    The handler does not raise: the workflow could catch that. The kernel's own limit is a second later.
    """

    def out_of_time(number: int, frame: FrameType | None) -> None:
        end({"raised": ["TimeoutError", f"computed for more than {limits['compute_seconds']:g} s"]})

    signal.signal(signal.SIGPROF, out_of_time)
    signal.setitimer(signal.ITIMER_PROF, limits["compute_seconds"])
    sys.setrecursionlimit(limits["recursion_depth"] + LIBRARY_DEPTH)


def compiled(source: str) -> Any:
    """The code of a program whose last expression is its result, under the name `_result`."""
    tree = ast.parse(source, "<workflow>")
    last = tree.body[-1]
    assert isinstance(last, ast.Expr)
    tree.body[-1] = ast.copy_location(ast.Assign([ast.Name("_result", ast.Store())], last.value), last)
    ast.fix_missing_locations(tree)
    # Names in annotations mean nothing when it runs, as in the first ring: what they need is often not imported.
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | __future__.annotations.compiler_flag
    return compile(tree, "<workflow>", "exec", flags=flags, dont_inherit=True)


def batched(items: Iterable[Any], size: int) -> Iterator[tuple[Any, ...]]:
    """Python 3.12's `itertools.batched`."""
    iterator = iter(items)
    while batch := tuple(itertools.islice(iterator, size)):
        yield batch


def add_later_names() -> None:
    """Give the library the names that Python 3.12 added: whether a workflow runs must not depend on who runs it."""
    later: dict[tuple[ModuleType, str], Any] = {
        (itertools, "batched"): batched,
        (typing, "override"): lambda method: method,
        (math, "sumprod"): lambda p, q: sum(a * b for a, b in zip(p, q, strict=True)),
    }
    for (module, name), value in later.items():
        if not hasattr(module, name):
            setattr(module, name, value)


async def run(job: dict[str, Any]) -> NoReturn:
    """Run the workflow, and end with it: its tasks and generators have no say in that."""
    try:
        door = Door(asyncio.get_running_loop(), job["limits"]["argument_chars"])
        code = compiled(job["source"])
        # Dataclasses and others look up the module of a class.
        sys.modules["workflow"] = ModuleType("workflow")
        names = vars(sys.modules["workflow"])
        # Python's own `format` comes before the operator of its name, as in the first ring.
        names.update({name: door.function(name) for name in job["functions"] if not hasattr(builtins, name)})
        add_later_names()
        seen = visible_builtins(frozenset(job["modules"]), job["parts"], frozenset(job["inside"]))
        names.update(job["inputs"], __builtins__=seen)
        bound(job["limits"])
        body = eval(code, names)
        if body is not None:
            await body
        last = {"done": plain(names["_result"], sys.maxsize)}
    except BaseException as error:
        last = raised(error)
    end(last)


def main() -> None:
    """Run the workflow that comes first on the channel."""
    send({"ready": True})
    try:
        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(run(json.loads(_receive())))  # type: ignore[name-defined]  # noqa: F821
    except BaseException as error:  # such as SystemExit, which passes through the event loop
        end(raised(error))
