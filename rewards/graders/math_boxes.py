r"""Boxes in LaTeX: the last `\boxed{}` of a text, and those that belong to the same answer.

Example: `\boxed{1} and \boxed{-2}` is the answer `1, -2`; `\boxed{72} \boxed{10}` is `10`.
"""

import re
from dataclasses import dataclass

_BOX = re.compile(r"\\f?boxed?(?![a-zA-Z])\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BARE = re.compile(r"-?(?:\\[a-zA-Z]+(?=\s*\{)|\\[a-zA-Z]+|[\w.]+)")
_DELIMITER = re.compile(r"\\[()\[\]]|\$|\\text\s*\{\s*(and|or)\s*\}|\\q?quad\b|\\[,;: ]|\s+")
# One below the other, or in a list of Markdown.
_BREAK = re.compile(r"\\\\|\n\s*(?:[-*•]|\d\.)\s|\\?&")
_JOINT = re.compile(r"(?:,|;|、|and|or|或|和)+((?:[a-zA-Z](?:_\{?\w+\}?)?=)?)")
_LABEL_BEFORE = re.compile(r"(?<![\w\\])([a-zA-Z](?:_\{?\w{1,3}\}?)?)\s*=\s*$")
# What stands at a box and makes another value of it: a minus that is no bullet, `2\boxed{3}`, `\sqrt{\boxed{3}}`.
_MINUS = re.compile(r"(?:[=:$(\[{,>]\s*[-−]\s*|^\s*[-−])(?:\\,)?$")
_INSIDE = re.compile(
    r"(?:(?<![\w.,])\d+|(?:(?<![\w.,])\d+)?(?:\\sqrt(?:\[\d+\])?\{|\\[dt]?frac\{(?:[^{}]{1,20}\}\{)?))$"
)
_GROUP_END = re.compile(r"\s*\}(?:\{[^{}]{1,20}\})?")
_FACTOR_BEHIND = re.compile(
    r"(?:\s*(?:\\(?:pi|sqrt)(?![a-zA-Z])|[π√]|\^\s*\{?\s*[-\da-zA-Z])|(?<=\})[a-bknp-rtxyz](?![a-zA-Z]))[^$\n=,]{0,40}"
)
# Between two boxes of one answer there is little.
_MAX_BETWEEN = 60


@dataclass(frozen=True)
class _Box:
    start: int
    end: int
    content: str


def last_boxed(text: str) -> str | None:
    """Return what the last box holds, joined to those before it that belong to it; `None` without a box."""
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
    if len(group) == 1:
        return group[0].content
    first = _LABEL_BEFORE.search(text[max(0, group[0].start - 12) : group[0].start])
    labels.insert(0, f"{first.group(1)}=" if first and any(labels) else "")
    return ", ".join(f"{label}{box.content}" for label, box in zip(labels, group, strict=True))


def behind_boxes(text: str) -> str:
    """Return what stands behind the last box; nothing without a box."""
    boxes = _boxes(text)
    return text[boxes[-1].end :] if boxes else ""


def operand(text: str) -> str | None:
    r"""Return what the last box is a part of, where a sign or a factor beside it makes another value of it.

    Example: of `x = -\boxed{7}` it is `-7`, of `\boxed{2}\sqrt{3}` and `\sqrt{\boxed{3}}` the formula; `None` of
    `x = \boxed{7}` and `\boxed{7}^\circ`.
    """
    boxes = _boxes(text)
    if not boxes:
        return None
    before = text[: boxes[-1].start]
    behind = _FACTOR_BEHIND.match(text, boxes[-1].end)
    if _MINUS.search(before) and behind is None:
        return f"-({boxes[-1].content})"
    ahead = _INSIDE.search(before[-_MAX_BETWEEN:])
    if ahead is not None and ahead.group().endswith("{"):
        behind = _GROUP_END.match(text, boxes[-1].end)
    if ahead is None and behind is None:
        return None
    return f"{ahead.group() if ahead else ''}\\boxed{{{boxes[-1].content}}}{behind.group() if behind else ''}"


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
