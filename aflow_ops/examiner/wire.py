"""Values on their way between a solution and its tests: as JSON, in a closed list of types.

    [1, (2.5, "x"), {3: Decimal("0.5")}]   <->   [1, {"tuple": [2.5, "x"]}, {"dict": [[3, {"Decimal": ["0.5"]}]]}]

Reading makes values of the standard library only, whatever was written: no class, no code and no method of the other
side comes along. What has no form of its own is for `refer` (writing) and `readers` (reading) of either side.

Part of the program of `harness.py`.
"""

import builtins
import collections
import datetime
import decimal
import enum
import fractions
import json
import os
import re
import select
import time
from collections.abc import Callable
from typing import Any

MAX_DEPTH = 50
# Of one value; what a program prints has a limit of its own.
MAX_VALUE_BYTES = 4 << 20
MAX_PRINTED_BYTES = 32 << 20
# Reading an integer takes time in proportion to the square of its digits.
MAX_DIGITS = 100_000

Refer = Callable[[Any], Any]
Readers = dict[str, Callable[[Any], Any]]

_ATOMS = frozenset({int, float, bool, str, type(None)})


def _pairs(value: Any) -> list[Any]:
    return [[key, item] for key, item in value.items()]


# Tag and parts of each type; the parts are written in turn.
_WRITERS: dict[type, tuple[str, Callable[[Any], list[Any]]]] = {
    tuple: ("tuple", list),
    set: ("set", list),
    frozenset: ("frozenset", list),
    dict: ("dict", _pairs),
    collections.OrderedDict: ("OrderedDict", _pairs),
    collections.Counter: ("Counter", _pairs),
    collections.defaultdict: ("defaultdict", _pairs),
    collections.deque: ("deque", lambda value: [list(value), value.maxlen]),
    type({}.keys()): ("keys", list),
    type({}.values()): ("values", list),
    type({}.items()): ("items", list),
    range: ("range", lambda value: [value.start, value.stop, value.step]),
    slice: ("slice", lambda value: [value.start, value.stop, value.step]),
    complex: ("complex", lambda value: [value.real, value.imag]),
    bytes: ("bytes", lambda value: [value.decode("latin-1")]),
    bytearray: ("bytearray", lambda value: [bytes(value).decode("latin-1")]),
    memoryview: ("bytes", lambda value: [value.tobytes().decode("latin-1")]),
    fractions.Fraction: ("Fraction", lambda value: [value.numerator, value.denominator]),
    decimal.Decimal: ("Decimal", lambda value: [str(value)]),
    datetime.date: ("date", lambda value: [value.isoformat()]),
    datetime.time: ("time", lambda value: [value.isoformat()]),
    datetime.datetime: ("datetime", lambda value: [value.isoformat()]),
    datetime.timedelta: ("timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    type(...): ("Ellipsis", lambda value: []),
    re.Match: (
        "Match",
        lambda value: [
            value.string,
            value.re.pattern,
            [list(value.span(group)) for group in range(value.re.groups + 1)],
            _pairs(value.re.groupindex),
            value.lastindex,
        ],
    ),
}


class Match:
    """A match object by what it found: its spans, in a text that both sides hold."""

    def __init__(self, string: str, pattern: str, spans: list[Any], names: list[Any], lastindex: int | None) -> None:
        self.string, self.pattern, self.lastindex = string, pattern, lastindex
        self._spans = [(int(start), int(end)) for start, end in spans]
        self._names = {str(name): int(index) for name, index in names}

    def _index(self, group: Any) -> int:
        index = self._names[group] if isinstance(group, str) else int(group)
        if not 0 <= index < len(self._spans):
            raise IndexError("no such group")
        return index

    def __getitem__(self, group: Any) -> str | None:
        start, end = self._spans[self._index(group)]
        return None if start < 0 else self.string[start:end]

    def group(self, *groups: Any) -> Any:
        """The text of one group, or of several."""
        found = tuple(self[group] for group in groups or (0,))
        return found[0] if len(found) == 1 else found

    def groups(self, default: Any = None) -> tuple[Any, ...]:
        """The text of every group but the whole."""
        return tuple(default if (text := self[i]) is None else text for i in range(1, len(self._spans)))

    def groupdict(self, default: Any = None) -> dict[str, Any]:
        """The text of every named group."""
        return {name: default if (text := self[index]) is None else text for name, index in self._names.items()}

    def span(self, group: Any = 0) -> tuple[int, int]:
        """Start and end of a group."""
        return self._spans[self._index(group)]

    def start(self, group: Any = 0) -> int:
        """Start of a group."""
        return self.span(group)[0]

    def end(self, group: Any = 0) -> int:
        """End of a group."""
        return self.span(group)[1]


class Member:
    """A member of an enumeration by class and name."""

    def __init__(self, kind: str, name: str, value: Any) -> None:
        self.kind, self.name, self.value = str(kind), str(name), value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Member) and (self.kind, self.name) == (other.kind, other.name)

    def __hash__(self) -> int:
        return hash((self.kind, self.name))

    def __repr__(self) -> str:
        return f"{self.kind}.{self.name}"


def _named_tuple(parts: Any) -> Any:
    name, fields, values = parts
    return collections.namedtuple(name, fields)(*values)  # its names are checked by namedtuple


_READERS: Readers = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "dict": dict,
    "OrderedDict": collections.OrderedDict,
    "Counter": lambda parts: collections.Counter(dict(parts)),
    "defaultdict": lambda parts: collections.defaultdict(None, parts),
    "deque": lambda parts: collections.deque(*parts),
    "keys": lambda parts: dict.fromkeys(parts).keys(),
    "values": lambda parts: dict(enumerate(parts)).values(),
    "items": lambda parts: dict(parts).items(),
    "range": lambda parts: range(*parts),
    "slice": lambda parts: slice(*parts),
    "complex": lambda parts: complex(*parts),
    "bytes": lambda parts: parts[0].encode("latin-1"),
    "bytearray": lambda parts: bytearray(parts[0].encode("latin-1")),
    "Fraction": lambda parts: fractions.Fraction(*parts),
    "Decimal": lambda parts: decimal.Decimal(*parts),
    "date": lambda parts: datetime.date.fromisoformat(*parts),
    "time": lambda parts: datetime.time.fromisoformat(*parts),
    "datetime": lambda parts: datetime.datetime.fromisoformat(*parts),
    "timedelta": lambda parts: datetime.timedelta(*parts),
    "Ellipsis": lambda parts: ...,
    "Match": lambda parts: Match(*parts),
    "enum": lambda parts: Member(*parts),
    "namedtuple": _named_tuple,
    "type": lambda name: _builtin_type(name),
    "iterator": iter,
}


def _builtin_type(name: Any) -> type:
    found = type(None) if name == "NoneType" else getattr(builtins, str(name), None)
    if not isinstance(found, type):
        raise TypeError(f"{name} is no type")
    return found


def encode(value: Any, refer: Refer, depth: int = 0) -> Any:
    """Return the JSON form of a value.

    Args:
        value (`Any`): what is to cross; of a subclass of a built-in type, only the content does.
        refer (`Callable`): writes what has no form of its own, or raises `TypeError`.
        depth (`int`): how deep inside the whole value this one is.

    Raises:
        TypeError: nested too deeply, or refused by `refer`.
    """
    kind: Any = type(value)
    if kind in _ATOMS:
        return value
    if depth > MAX_DEPTH:
        raise TypeError("nested too deeply")
    if kind is list:
        return [encode(item, refer, depth + 1) for item in value]
    writer = _WRITERS.get(kind)
    if writer is not None:
        return {writer[0]: [encode(part, refer, depth + 1) for part in writer[1](value)]}
    if kind is type:
        name = "NoneType" if value is type(None) else next((n for n, v in vars(builtins).items() if v is value), None)
        if name:
            return {"type": name}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {"namedtuple": [kind.__name__, list(value._fields), [encode(v, refer, depth + 1) for v in tuple(value)]]}
    if isinstance(value, enum.Enum) and not isinstance(value, (int, str)):
        return {"enum": [kind.__name__, value.name, encode(value.value, refer, depth + 1)]}
    bases: tuple[Any, ...] = (bool, int, float, str, bytes, list, tuple, dict, set, frozenset)
    for base in bases:
        if isinstance(value, base):
            return encode(base(value), refer, depth + 1)
    if kind.__module__ in ("numpy", "array") and hasattr(value, "tolist"):
        return encode(value.tolist(), refer, depth + 1)
    return refer(value)


def decode(data: bytes, readers: Readers) -> Any:
    """Return the value of a JSON form.

    Args:
        data (`bytes`): from the other side, which may write anything.
        readers (`Readers`): by tag, how this side reads what has no form of its own.

    Raises:
        ValueError: it is no such form.
    """

    def read(tagged: dict[str, Any]) -> Any:
        ((tag, parts),) = tagged.items()
        reader = readers.get(tag) or _READERS[tag]
        return reader(parts)

    try:
        return json.loads(data, object_hook=read, parse_int=_whole)
    except (ValueError, TypeError, KeyError, ArithmeticError, AttributeError, RecursionError, MemoryError) as error:
        raise ValueError(f"no usable reply: {type(error).__name__}") from None


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError("too many digits")
    return int(digits)


def send(fd: int, data: bytes) -> None:
    """Write one message: its length in 8 bytes, then itself."""
    data = len(data).to_bytes(8, "big") + data
    while data:
        data = data[os.write(fd, data) :]


def receive(fd: int, deadline: float, limit: int = MAX_VALUE_BYTES) -> bytes:
    """Read one message.

    Args:
        fd (`int`): our end.
        deadline (`float`): on `time.monotonic`'s clock.
        limit (`int`): most bytes.

    Raises:
        TimeoutError: it did not come in time.
        EOFError: the other side is gone, or it wrote too much.
    """
    data = bytearray()
    size = None
    while size is None or len(data) < size + 8:
        if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError("timed out")
        # Not a byte more than the message: the next one may be there already.
        part = os.read(fd, min(1 << 18, 8 - len(data) if size is None else size + 8 - len(data)))
        if not part:
            raise EOFError("the solution ended the process")
        data += part
        if size is None and len(data) >= 8:
            size = int.from_bytes(data[:8], "big")
            if size > limit:
                raise EOFError("the solution returned too much")
    return bytes(data[8:])


def dumps(message: Any) -> bytes:
    """The bytes of a message that is written already."""
    return json.dumps(message, separators=(",", ":")).encode()
