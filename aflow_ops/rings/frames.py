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
    try:
        frame = json.loads(data, object_hook=_revived)
    except (ValueError, RecursionError, MemoryError) as error:
        raise FrameError(f"{type(error).__name__}: no JSON") from None
    match frame:
        case {"call": int(), "name": str(), "args": list(), "kwargs": dict()} if len(frame) == 4:
            return dict(frame)
        case {"cancel": int()} | {"done": _} if len(frame) == 1:
            return dict(frame)
        case {"raised": [str() as kind, str() as message]} if len(frame) == 1:
            return {"raised": (kind[:100], message[:MAX_TRACE_CHARS])}
    raise FrameError("no such frame")


def _revived(value: dict[str, Any]) -> Any:
    """A tuple, or a value of another kind; anything else is the dict that it looks like."""
    match value:
        case {"__tuple__": list() as items} if len(value) == 1:
            return tuple(items)
        case {"__other__": [str() as kind, str() as text]} if len(value) == 1:
            return type(kind[:60] if kind.isidentifier() else "object", (Foreign,), {})(text)
    return value


def written(frame: dict[str, Any]) -> bytes:
    """Return a frame for the child."""
    return json.dumps(frame, default=str).encode()
