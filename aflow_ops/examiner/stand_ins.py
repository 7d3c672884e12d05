"""The tests' side of the pipe: stand-ins for the solution's functions, classes and objects.

An object that cannot cross stays with the solution; a test holds a `Remote` of it. Whatever a test asks of a `Remote`
(its length, its items, its text, an attribute, a method) is answered before the solution knows what the answer is
compared with. What would tell it, or let it decide, is not asked: comparing with a value, arithmetic, a method that
values have (a `startswith` that always agrees). Of an object that the test made, operators are what is under test
(`operators.py`). Two objects are equal when class and attributes are, provided that
the test made one of them and that its attributes hold everything which it was made from.

Part of the program of `harness.py`.
"""

import builtins
import collections
import fractions
import re
import sys
import time
import types
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from aflow_ops.examiner.operators import Operators
from aflow_ops.examiner.wire import MAX_PRINTED_BYTES, Member, decode, dumps, encode, receive, send

_VALUE_TYPES = (str, bytes, list, tuple, dict, set, frozenset, int, float, complex, range, slice, collections.deque)
VALUE_METHODS = frozenset(name for kind in (*_VALUE_TYPES, fractions.Fraction, re.Match) for name in dir(kind))
MAX_ITEMS = 1_000_000
_BY_NAME = (types.BuiltinFunctionType, types.FunctionType, types.MethodDescriptorType, type)


class LostError(Exception):
    """The worker hung or died."""


class Remote(Operators):
    """An object of the solution's, where a test has it.

    Args:
        solution (`Solution`): who has it.
        handle (`int`): what it is called there.
        made_from (`list`, *optional*): arguments of the test that made it, none for what an operator made of such;
            `None` when the solution returned it.
    """

    def __init__(self, solution: "Solution", handle: int, made_from: list[Any] | None = None) -> None:
        self.__dict__.update(_solution=solution, _handle=int(handle), _made_from=made_from)

    def _ask(self, operation: str, *args: Any) -> Any:
        return self._solution.request(operation, self._handle, *args)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("an object of the solution cannot be copied")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it, where it is a function or a method."""
        return self._solution.call(self._handle, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or (self._made_from is None and name in VALUE_METHODS):
            raise AttributeError(f"an object of the solution is not asked for {name}")
        return self._ask("get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("set", name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._ask("item", key)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._ask("iter"))

    def __len__(self) -> int:
        return int(self._ask("len"))

    def __bool__(self) -> bool:
        return self._ask("bool") is True

    def __str__(self) -> str:
        return str(self._ask("str"))

    def __repr__(self) -> str:
        return str(self._ask("repr"))

    def __int__(self) -> int:
        return int(self._ask("int"))

    def __float__(self) -> float:
        return float(self._ask("float"))

    def __index__(self) -> int:
        return int(self._ask("index"))

    def __eq__(self, other: object) -> bool:
        if other is None or other is self:
            return other is self
        if not isinstance(other, Remote):
            raise TypeError("an object of the solution is compared with a value")
        if not any(side.holds_what_it_was_made_from() for side in (self, other)):
            raise TypeError("two objects that the solution made are compared")
        return same_state(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return 0  # a set has to ask whether two are equal

    def holds_what_it_was_made_from(self) -> bool:
        """Whether a test made it and its attributes tell of every argument."""
        if not self._made_from:
            return False
        values = list(self.state()[1].values())
        return all(any(_same_part(value, item) for value in values) for item in self._made_from)

    def state(self) -> Any:
        """Name of its class and attributes by name."""
        return self._solution.request("state", self._handle)


class RemoteClass:
    """A class of the solution's, where a test makes objects of it."""

    def __init__(self, solution: "Solution", name: str) -> None:
        self._solution, self._name = solution, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Make an object, which stays with the solution."""
        made = self._solution.call(self._name, args, kwargs)
        return Remote(self._solution, made._handle, [*args, *kwargs.values()]) if isinstance(made, Remote) else made

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = self._solution.request("get", self._name, name)
        if isinstance(found, Member) and found.name != name:
            raise TypeError(f"{name} is another name of {found.name}")
        return found

    def __instancecheck__(self, value: object) -> bool:
        if isinstance(value, Member):
            return value.kind == self._name
        return isinstance(value, Remote) and self._name in self._solution.request("kinds", value._handle)

    def __subclasscheck__(self, other: type) -> bool:
        kinds = self._solution.request("kinds", other._name) if isinstance(other, RemoteClass) else []
        return self._name in kinds


def same_state(left: Any, right: Any, depth: int = 0) -> bool:
    """Whether two objects of the solution have equal attributes, and those of theirs."""
    if depth > 50:
        return False
    if left._handle == right._handle:
        return True
    (name, mine), (other_name, theirs) = left.state(), right.state()
    if name != other_name or not isinstance(mine, dict) or set(mine) != set(theirs):
        return False
    return all(_same_part(value, theirs[key], depth + 1) for key, value in mine.items())


def _same_part(left: Any, right: Any, depth: int = 0) -> bool:
    if isinstance(left, Remote) or isinstance(right, Remote):
        return isinstance(left, Remote) and isinstance(right, Remote) and same_state(left, right, depth)
    if isinstance(left, (list, tuple)) and type(left) is type(right):
        return len(left) == len(right) and all(_same_part(a, b, depth + 1) for a, b in zip(left, right, strict=True))
    return type(left) is type(right) and bool(left == right)


class Stream:
    """An iterator that stayed with the solution; its items come in growing portions."""

    def __init__(self, solution: "Solution", handle: int) -> None:
        self._solution, self._handle, self._size = solution, int(handle), 1
        self._items: list[Any] = []
        self._end: Any = "more"

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> Any:
        if not self._items and self._end == "more":
            items, self._end = self._solution.request("next", self._handle, self._size)
            self._items, self._size = list(reversed(items)), min(2 * self._size, 1024)
        if self._items:
            return self._items.pop()
        if isinstance(self._end, list):
            (kind, text), self._end = self._end, "end"
            raise self._solution.error(kind, text)
        raise StopIteration


class Solution:
    """The worker, and the stand-ins for what it has.

    Args:
        fd (`int`): our end of the pipe.

    Attributes:
        deadline (`float`): of the running test, on `time.monotonic`'s clock.
        names (`dict[str, str]`): what the solution defines, each `"function"`, `"class"` or `"exception"`.
        given (`dict`): what the question defines: objects of these classes cross by their attributes.
        lost (`bool`): it hung, died or wrote nonsense.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.deadline = 0.0
        self.names: dict[str, str] = {}
        self.given: dict[str, Any] = {}
        self.lost = self.loaded = False
        self._stand_ins: dict[str, Any] = {}
        self._callbacks: list[Callable[..., Any]] = []
        self._readers: dict[str, Callable[[Any], Any]] = {
            "object": self._object,
            "stream": lambda parts: Stream(self, parts[0]),
            "coroutine": _finished,
        }

    def load(self) -> None:
        """Wait until the worker has loaded the solution.

        Raises:
            LostError: it does not load.
        """
        if self.loaded:
            return
        reply = self._guarded(lambda: decode(receive(self.fd, self.deadline), {}))
        if reply[0] != "loaded":
            self.lost = True
            raise LostError(str(reply[1]))
        self.names = {str(name): str(kind) for name, kind in reply[1]}
        self.loaded = True

    def stand_in(self, name: str) -> Any:
        """What a test finds under a name of the solution's."""
        if name not in self._stand_ins:
            kind = self.names.get(name)
            if kind == "exception":
                self._stand_ins[name] = type(name, (Exception,), {})
            else:
                self._stand_ins[name] = RemoteClass(self, name) if kind == "class" else self._function(name)
        return self._stand_ins[name]

    def _function(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return self.call(name, args, kwargs)

        call.__name__ = name
        return call

    def call(self, target: str | int, args: Any, kwargs: Any) -> Any:
        """Call a function of the solution; arguments that it changes in place are changed here too."""
        given = [encode(item, self.refer) for item in args]
        result, changed = self._exchange(["call", target, given, encode(kwargs, self.refer)])
        for before, after in zip(args, changed, strict=False):
            if type(before) in (list, bytearray) and type(after) is type(before):
                before[:] = after
            elif type(before) is collections.deque and type(after) is collections.deque:
                before.clear()
                before.extend(after)
            elif type(before) in (dict, set) and type(after) is type(before):
                before.clear()
                before.update(after)
        return result

    def request(self, operation: str, target: str | int, *args: Any) -> Any:
        """Ask something of an object that stayed with the solution."""
        return self._exchange([operation, target, *[encode(item, self.refer) for item in args]])[0]

    def printed(self, stdin: str) -> str:
        """Run the solution as a program and return what it printed.

        Raises:
            AssertionError: it failed; says how.
            LostError: the worker hung or died.
        """
        seconds = max(0.0, self.deadline - time.monotonic())

        def exchange() -> bytes:
            send(self.fd, dumps([stdin, seconds]))
            # The worker notices the limit itself and lives on.
            return receive(self.fd, self.deadline + 1.0, MAX_PRINTED_BYTES + 1)

        reply: bytes = self._guarded(exchange)
        if reply[:1] != b"+":
            raise AssertionError(reply[1:].decode("utf-8", "replace"))
        return reply[1:].decode("utf-8", "replace")

    def refer(self, value: Any) -> Any:
        """Write what has no form of its own: objects of the solution's, functions of the test, classes."""
        if isinstance(value, Remote):
            return {"object": value._handle}
        if isinstance(value, Member) and self.names.get(value.kind) == "class":
            return {"global": f"__solution__:{value.kind}.{value.name}"}
        for name, stand_in in self._stand_ins.items():
            if value is stand_in:
                return {"global": f"__solution__:{name}"}
        if isinstance(value, _BY_NAME) and (path := _importable(value)):
            return {"global": path}
        if callable(value) and not isinstance(value, type):
            self._callbacks.append(value)
            return {"callback": len(self._callbacks) - 1}
        if hasattr(value, "__next__"):
            items = list(islice(value, MAX_ITEMS))
            return {"iterator": [encode(item, self.refer) for item in items]}
        if type(value).__module__ in ("__test__", "__given__"):
            state = {"dict": [[k, encode(v, self.refer)] for k, v in vars(value).items()]}
            return {"instance": [type(value).__name__, state]}
        raise TypeError(f"a value of type {type(value).__name__} cannot reach the solution")

    def error(self, kind: Any, text: Any) -> Exception:
        """The exception that a test sees: never an exit, and never one that ends a loop of the test in silence."""
        name = str(kind)
        if self.names.get(name) == "exception":
            return Exception.__new__(self.stand_in(name), str(text))  # type: ignore[no-any-return]
        found = getattr(builtins, name, None)
        usable = isinstance(found, type) and issubclass(found, Exception)
        if not usable or issubclass(found, (StopIteration, StopAsyncIteration)):  # type: ignore[arg-type]
            return RuntimeError(f"{name}: {text}")
        try:
            return found(str(text))  # type: ignore[misc,no-any-return]
        except TypeError:  # such as UnicodeDecodeError, which wants five arguments
            return RuntimeError(f"{name}: {text}")

    def _object(self, parts: Any) -> Any:
        handle, kind = parts
        given = self.given.get(str(kind))
        if isinstance(given, type):
            return self._given_object(given, int(handle))
        return Remote(self, handle)

    def _given_object(self, kind: type, handle: int) -> Any:
        """An object of a class that the question gives: one of our class, with the attributes of the solution's."""
        made: Any = object.__new__(kind)
        vars(made).update(Remote(self, handle).state()[1])
        return made

    def _exchange(self, message: list[Any]) -> list[Any]:
        """Send a message and answer callbacks until the reply is there."""
        reply = self._guarded(lambda: self._turn(dumps(message)))
        while reply[0] == "callback":
            answer = self._called_back(*reply[1:])
            reply = self._guarded(lambda data=answer: self._turn(data))  # type: ignore[misc]
        if reply[0] == "error":
            raise self.error(reply[1], reply[2])
        return [reply[1], reply[2] or []]

    def _turn(self, data: bytes) -> Any:
        send(self.fd, data)
        return decode(receive(self.fd, self.deadline), self._readers)

    def _called_back(self, number: Any, args: Any, kwargs: Any) -> bytes:
        """Call a function of the test for the solution."""
        try:
            result = self._callbacks[int(number)](*args, **kwargs)
            return dumps(["result", encode(result, self.refer)])
        except LostError:
            raise
        except Exception as error:
            return dumps(["raised", type(error).__name__, str(error)[:500]])

    def _guarded(self, step: Callable[[], Any]) -> Any:
        """Do one step of the conversation; whatever breaks it ends it."""
        try:
            return step()
        except (TimeoutError, EOFError) as error:
            self.lost = True
            raise LostError(str(error)) from None
        except (OSError, ValueError, TypeError, LookupError, MemoryError):
            self.lost = True
            raise LostError("no usable reply") from None


def _finished(value: Any) -> Any:
    """A coroutine that has its result: the solution awaited it already."""

    async def finished() -> Any:
        return value

    return finished()


def _importable(value: Any) -> str | None:
    """Where the other side finds the same thing, if both can import it."""
    module = getattr(value, "__module__", None) or getattr(getattr(value, "__objclass__", None), "__module__", None)
    name = getattr(value, "__qualname__", "")
    if module not in sys.stdlib_module_names and str(module).split(".")[0] not in ("numpy", "sympy"):
        return None
    found: Any = sys.modules.get(str(module))
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}:{name}" if found is value else None
