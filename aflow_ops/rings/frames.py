"""What the second ring's two sides say to each other: JSON, of which the child's half is written by nobody we trust.

The child sends `{"call": number, "name", "args", "kwargs"}`, `{"cancel": number}` and, as its last, `{"done": value}`
or `{"raised": [class, message]}`;
it gets `{"call": number, "result"}` or `{"call": number, "error": [class, message]}`.
"""

import json
from typing import Any

from aflow_ops.values import MAX_TRACE_CHARS

# Of one frame, and of all that one run sends. A sound one has at most 32 texts of 40,000 characters.
MAX_FRAME_BYTES = 8 << 20
MAX_SENT_BYTES = 32 << 20
# Of one frame: values inside values. Reading millions of them keeps this process, and all other runs, for seconds.
MAX_FRAME_PARTS = 100_000
MAX_FRAME_DEPTH = 110  # the child's 50, of which each may be a tuple
MAX_KINDS = 16


class FrameError(Exception):
    """A frame that the child's prelude does not send: the workflow's code has written it."""


class Foreign:
    """A value of a kind that stays where it is: no operator and no answer can be made of it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text


def read_frame(data: bytes) -> dict[str, Any]:
    """Read a frame of the child's.

    Returns:
        `dict`: with exactly the keys of one kind of frame, their values of the right types.

    Raises:
        FrameError: it is none.
    """
    # Brackets and commas inside texts count too: a text of nothing else is no call that an operator can answer.
    if data.count(b",") + data.count(b"[") + data.count(b"{") > 4 * MAX_FRAME_PARTS:
        raise FrameError("too many parts")
    try:
        frame = json.loads(data)
    except (ValueError, RecursionError, MemoryError) as error:
        raise FrameError(f"{type(error).__name__}: no JSON") from None
    if not isinstance(frame, dict):
        raise FrameError("no such frame")
    frame = {key: _Revival().value(part) for key, part in frame.items()}
    match frame:
        case {"call": int(), "name": str(), "args": list(), "kwargs": dict()} if len(frame) == 4:
            return dict(frame)
        case {"cancel": int()} | {"done": _} if len(frame) == 1:
            return dict(frame)
        case {"raised": [str() as kind, str() as message]} if len(frame) == 1:
            return {"raised": (kind[:100], message[:MAX_TRACE_CHARS])}
    raise FrameError("no such frame")


_OBJECT: type[Foreign] = type("object", (Foreign,), {})


class _Revival:
    """Gives one frame's values their kinds back: a tuple, or a value of another kind; a dict otherwise stays one."""

    def __init__(self) -> None:
        self._left = MAX_FRAME_PARTS
        self._kinds: dict[str, type[Foreign]] = {}

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return a value with all that is in it.

        Raises:
            FrameError: more parts or levels than a frame may have.
        """
        if isinstance(value, list):
            self._count(len(value), depth)
            return [self.value(item, depth + 1) for item in value]
        if not isinstance(value, dict):
            return value
        self._count(len(value), depth)
        if len(value) == 1:
            ((tag, parts),) = value.items()
            if tag == "__tuple__" and isinstance(parts, list):
                return tuple(self.value(parts, depth + 1))
            if tag == "__other__" and isinstance(parts, list) and [type(part) for part in parts] == [str, str]:
                return self._kind(parts[0])(parts[1])
        return {key: self.value(item, depth + 1) for key, item in value.items()}

    def _count(self, parts: int, depth: int) -> None:
        self._left -= parts
        if self._left < 0 or depth > MAX_FRAME_DEPTH:
            raise FrameError("too many parts")

    def _kind(self, name: str) -> type[Foreign]:
        """The class of a value of another kind. There are few: a class takes as long to make as a thousand texts."""
        if name not in self._kinds and name.isidentifier() and len(self._kinds) < MAX_KINDS:
            self._kinds[name] = type(name[:60], (Foreign,), {})
        return self._kinds.get(name, _OBJECT)


def written(frame: dict[str, Any]) -> bytes:
    """Return a frame for the child."""
    return json.dumps(frame, default=str).encode()
