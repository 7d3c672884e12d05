r"""Boxes in LaTeX: the last `\boxed{}` of a text, and those that belong to the same answer.

Example: `\boxed{1} and \boxed{-2}` is the answer `1, -2`; `\boxed{72} \boxed{10}` is `10`; `-\boxed{7}` is `-7`.
"""

import re
from dataclasses import dataclass

from rewards.graders.math_operand import with_operands

_BOX = re.compile(r"\\f?boxed?(?![a-zA-Z])\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BARE = re.compile(r"-?(?:\\[a-zA-Z]+(?=\s*\{)|\\[a-zA-Z]+|[\w.]+)")
_DELIMITER = re.compile(r"\\[()\[\]]|\$|\\text\s*\{\s*(and|or)\s*\}|\\q?quad\b|\\[,;: ]|\s+")
# One below the other, or in a list of Markdown.
_BREAK = re.compile(r"\\\\|\n\s*(?:[-*•]|\d\.)\s|\\?&")
_JOINT = re.compile(r"(?:,|;|、|and|or|或|和)+((?:[a-zA-Z](?:_\{?\w+\}?)?=)?)")
_LABEL_BEFORE = re.compile(r"(?<![\w\\])([a-zA-Z](?:_\{?\w{1,3}\}?)?)\s*=\s*$")
# Between two boxes of one answer there is little.
_MAX_BETWEEN = 60


@dataclass(frozen=True)
class _Box:
    start: int
    end: int
    content: str


def last_boxed(text: str) -> str | None:
    """Return what the last box says, joined to those before it that belong to it; `None` without a box."""
    boxes = _boxes(text)
    if not boxes:
        return None
    group = [boxes[-1]]
    labels: list[str] = []
    for box in reversed(boxes[:-1]):
        joint = _joint(text[box.end : group[0].start])
        if joint is None:
            break
        group.insert(0, box)
        labels.insert(0, joint)
    said = [with_operands(text, box.start, box.end, box.content) for box in group]
    if len(group) == 1:
        return said[0]
    first = _LABEL_BEFORE.search(text[max(0, group[0].start - 12) : group[0].start])
    labels.insert(0, f"{first.group(1)}=" if first and any(labels) else "")
    return ", ".join(f"{label}{part}" for label, part in zip(labels, said, strict=True))


def behind_boxes(text: str) -> str:
    """Return what stands behind the last box; nothing without a box."""
    boxes = _boxes(text)
    return text[boxes[-1].end :] if boxes else ""


def _joint(between: str) -> str | None:
    """The label of the next box, perhaps empty, when what stands between two boxes joins them."""
    if len(between) > _MAX_BETWEEN:
        return None
    match = _JOINT.fullmatch(_DELIMITER.sub(lambda found: found.group(1) or "", _BREAK.sub(",", between)))
    return match.group(1) if match else None


def _boxes(text: str) -> list[_Box]:
    """Every box that is closed and not inside another one, from one pass over the braces."""
    starts = list(_BOX.finditer(text))
    if not starts:
        return []
    closing = _closing_braces(text)
    found: list[_Box] = []
    for start in starts:
        if found and start.start() < found[-1].end:
            continue
        if text.startswith("{", start.end()):
            end = closing.get(start.end())
            if end is not None:
                found.append(_Box(start.start(), end + 1, text[start.end() + 1 : end].strip()))
        elif bare := _BARE.match(text, start.end()):
            end = bare.end()
            while (group := re.compile(r"\s*\{").match(text, end)) and group.end() - 1 in closing:
                end = closing[group.end() - 1] + 1
            found.append(_Box(start.start(), end, text[start.end() : end].strip()))
    return found


def _closing_braces(text: str) -> dict[int, int]:
    opened: list[int] = []
    closing: dict[int, int] = {}
    for match in _BRACE.finditer(text):
        if match.group() == "{":
            opened.append(match.start())
        elif match.group() == "}" and opened:
            closing[opened.pop()] = match.start()
    return closing
