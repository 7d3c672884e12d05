"""Draws the trace of one workflow run as a graph: operator calls from top to bottom, arrows where text flowed.

A trace says what each call was given and what it returned, not where an argument came from; that is inferred. An
argument that equals an earlier output, or holds a longer one that was not in the problem, came from the latest call
that returned it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from scripts.reporting.formatting import amount, duration
from scripts.reporting.reading import Row, mapping, number, one_line, sequence
from scripts.reporting.svg import element, svg

MAX_CALLS = 20
MAX_LEAVES = 50
# Shorter texts occur in others by chance.
MIN_CONTAINED = 8
NODE_WIDTH, NODE_HEIGHT, GAP_X, GAP_Y = 178.0, 71.0, 14.0, 42.0
PROBLEM = -1


@dataclass(frozen=True)
class Call:
    """One operator call as the report shows it; the texts are short."""

    operator: str
    args: str
    output: str
    preview: str
    prompt_tokens: float | None
    completion_tokens: float | None
    cost_usd: float | None
    seconds: float | None
    cached: bool
    error: str

    @classmethod
    def of(cls, call: Mapping[str, Any]) -> "Call":
        """Read a call of a trace, with nothing where it has nothing usable."""
        return cls(
            operator=one_line(call.get("operator"), 30) or "?",
            args=one_line(call.get("args"), 140),
            output=one_line(call.get("output"), 140),
            preview=one_line(_preview(call.get("output")), 60),
            prompt_tokens=number(call.get("prompt_tokens")),
            completion_tokens=number(call.get("completion_tokens")),
            cost_usd=number(call.get("cost_usd")),
            seconds=number(call.get("seconds")),
            cached=call.get("cached") is True,
            error=one_line(call.get("error"), 160),
        )

    @property
    def tokens(self) -> str:
        """Executor tokens in and out."""
        return f"{amount(self.prompt_tokens)} → {amount(self.completion_tokens)} tokens"

    @property
    def time(self) -> str:
        """Wall time, which a row of an evaluation does not have, and whether the replies came from the cache."""
        known = [] if self.seconds is None else [duration(self.seconds)]
        return ", ".join([*known, *["cached"] * self.cached])


def _preview(output: Any) -> Any:
    """Return what is worth the little room of a node: no braces, and no fields without a value."""
    if not isinstance(output, Mapping):
        return output
    return ", ".join(f"{name}: {value}" for name, value in list(output.items())[:4] if value not in ("", None))


@dataclass(frozen=True)
class Edge:
    """An arrow between two calls; `PROBLEM` and the number of calls stand for the ends.

    Args:
        source, target (`int`): indices of calls.
        data (`bool`): whether text flowed; otherwise only the order is known.
    """

    source: int
    target: int
    data: bool


@dataclass(frozen=True)
class TraceView:
    """A trace as the report shows it.

    Args:
        calls (`Sequence[Call]`): the first `MAX_CALLS`.
        more (`int`): number of further calls.
        graph (`Markup`): the drawing.
        error (`str`): why the run ended early.
        seconds (`float`, *optional*): wall time.
    """

    calls: Sequence[Call]
    more: int
    graph: Markup
    error: str
    seconds: float | None


def trace_view(row: Row) -> TraceView | None:
    """Return what the report shows of a row's trace; `None` without one."""
    if not isinstance(row.get("trace"), Mapping):
        return None
    trace = mapping(row["trace"])
    every = [mapping(call) for call in sequence(trace.get("calls"))]
    raw = every[:MAX_CALLS]
    calls = [Call.of(call) for call in raw]
    answer = trace.get("answer")
    edges = flow(raw, answer, complete=len(raw) == len(every))
    ended = mapping(trace.get("error"))
    error = one_line(f"{ended.get('class')}: {ended.get('message')}", 300) if ended else ""
    last = one_line(answer, 60) if isinstance(answer, str) else f"no answer: {one_line(trace.get('outcome'), 30)}"
    return TraceView(
        calls=calls,
        more=len(every) - len(raw),
        graph=draw(calls, edges, one_line(row.get("question"), 60), last),
        error=error,
        seconds=number(trace.get("seconds")),
    )


def flow(calls: Sequence[Mapping[str, Any]], answer: Any, *, complete: bool = True) -> list[Edge]:
    """Infer which call's output went into which call.

    Args:
        calls (`Sequence[Mapping]`): `calls` of a trace, in order of their start.
        answer (`Any`): the workflow's answer.
        complete (`bool`): whether these are all of its calls; if not, the last one leads to the answer by order only.

    Returns:
        `list[Edge]`: every call has an incoming edge, from the problem if from nowhere else, and every call but those
        that led nowhere has an outgoing one.
    """
    outputs = [_leaves(call.get("output")) for call in calls]
    givens = "\n".join(_leaves(calls[0].get("args"))) if calls else ""
    edges = []
    for target, call in enumerate(calls):
        sources = _sources(_leaves(call.get("args")), outputs[:target], givens)
        edges += [Edge(source, target, True) for source in sorted(sources)]
    end = len(calls)
    final = _sources([answer], outputs, givens) if isinstance(answer, str) and complete else set()
    edges += [Edge(source, end, True) for source in sorted(final)]
    return _with_order(edges, end)


def _with_order(edges: Sequence[Edge], end: int) -> list[Edge]:
    """Add what only the order tells: an output that nothing took, and calls that took nothing."""
    followed = {edge.source for edge in edges}
    added = [Edge(source, source + 1, False) for source in range(end) if source not in followed]
    reached = {edge.target for edge in (*edges, *added)}
    roots = [Edge(PROBLEM, target, True) for target in range(end) if target not in reached]
    if end not in reached:
        added.append(Edge(end - 1 if end else PROBLEM, end, False))
    return sorted([*edges, *added, *roots], key=lambda edge: (edge.target, edge.source))


def _sources(texts: Sequence[str], outputs: Sequence[Sequence[str]], givens: str) -> set[int]:
    """Return the calls that the texts came from: a text given twice is from the two latest that returned it."""
    found: set[int] = set()
    for text in dict.fromkeys(texts):
        equal = [index for index, leaves in enumerate(outputs) if text in leaves]
        if equal:
            found.update(equal[-texts.count(text) :])
            continue
        for index, leaves in enumerate(outputs):
            if any(len(leaf) >= MIN_CONTAINED and leaf in text and leaf not in givens for leaf in leaves):
                found.add(index)
    return found


def _leaves(value: Any) -> list[str]:
    """Return the non-empty texts inside a JSON value, the first `MAX_LEAVES` of them."""
    found: list[str] = []
    pending = [value]
    while pending and len(found) < MAX_LEAVES:
        item = pending.pop()
        if isinstance(item, str) and item.strip():
            found.append(item.strip())
        elif isinstance(item, Mapping):
            pending += reversed(list(item.values()))
        elif isinstance(item, list):
            pending += reversed(item[:MAX_LEAVES])
    return found


@dataclass(frozen=True)
class _Box:
    """Where a node is drawn."""

    row: int
    x: float
    y: float
    width: float = NODE_WIDTH
    height: float = NODE_HEIGHT

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


def _rows(edges: Sequence[Edge], end: int) -> list[list[int]]:
    """Put each call below everything that it took text from; calls that took from the same stand side by side."""
    depth = {PROBLEM: 0}
    for index in range(end):
        depth[index] = 1 + max((depth[edge.source] for edge in edges if edge.target == index), default=0)
    depth[end] = 1 + max(depth.values())
    return [[index for index in depth if depth[index] == level] for level in sorted(set(depth.values()))]


def draw(calls: Sequence[Call], edges: Sequence[Edge], problem: str, answer: str) -> Markup:
    """Return the graph.

    Args:
        calls (`Sequence[Call]`): the nodes.
        edges (`Sequence[Edge]`): the arrows.
        problem (`str`): what the workflow was given, in one short line.
        answer (`str`): what it returned, likewise.
    """
    end = len(calls)
    rows = _rows(edges, end)
    across = max(len(row) for row in rows)
    inner = max(260.0, across * (NODE_WIDTH + GAP_X) - GAP_X)
    boxes: dict[int, _Box] = {}
    y = 8.0
    for number_, row in enumerate(rows):
        ends = row[0] in (PROBLEM, end)
        width, height = (260.0, 28.0) if ends else (NODE_WIDTH, NODE_HEIGHT)
        x = 8 + (inner - len(row) * (width + GAP_X) + GAP_X) / 2
        for place, index in enumerate(row):
            boxes[index] = _Box(number_, x + place * (width + GAP_X), y, width, height)
        y += height + GAP_Y
    bypasses = [edge for edge in edges if _is_blocked(boxes, edge)]
    lanes = {edge: 8 + inner + 14 + 10 * lane for lane, edge in enumerate(bypasses)}
    parts = [_arrow(boxes[edge.source], boxes[edge.target], edge, lanes.get(edge)) for edge in edges]
    parts.append(_end(boxes[PROBLEM], "problem", problem))
    parts += [_node(boxes[index], index, call) for index, call in enumerate(calls)]
    parts.append(_end(boxes[end], "answer", answer))
    width = inner + 16 + (16 + 10 * len(bypasses) if bypasses else 0)
    label = "operator calls: " + ", ".join(call.operator for call in calls)
    return svg(label, *parts, width=width, height=y - GAP_Y + 8, class_="graph")


def _is_blocked(boxes: Mapping[int, _Box], edge: Edge) -> bool:
    """Whether a straight arrow would cross a node of a row in between."""
    source, target = boxes[edge.source], boxes[edge.target]
    left, right = sorted((source.middle, target.middle))
    return any(
        source.row < box.row < target.row and box.x - 4 < right and box.x + box.width + 4 > left
        for box in boxes.values()
    )


def _arrow(source: _Box, target: _Box, edge: Edge, lane: float | None) -> Markup:
    """A curve from the bottom of one node to the top of the other, or around the nodes in between."""
    if lane is None:
        x1, y1, x2, y2 = source.middle, source.y + source.height, target.middle, target.y - 5
        half = (y1 + y2) / 2
        path = f"M{x1:.0f} {y1:.0f}C{x1:.0f} {half:.0f} {x2:.0f} {half:.0f} {x2:.0f} {y2:.0f}"
        head = f"M{x2 - 4:.0f} {y2 - 2:.0f}L{x2:.0f} {y2 + 5:.0f}L{x2 + 4:.0f} {y2 - 2:.0f}Z"
    else:
        x1, y1 = source.x + source.width, source.y + source.height / 2
        x2, y2 = target.x + target.width + 5, target.y + target.height / 2
        path = (
            f"M{x1:.0f} {y1:.0f}C{lane:.0f} {y1:.0f} {lane:.0f} {y1:.0f} {lane:.0f} {y1 + 24:.0f}"
            f"V{y2 - 24:.0f}C{lane:.0f} {y2:.0f} {lane:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"
        )
        head = f"M{x2 + 2:.0f} {y2 - 4:.0f}L{x2 - 5:.0f} {y2:.0f}L{x2 + 2:.0f} {y2 + 4:.0f}Z"
    title = element("title", "text flowed" if edge.data else "order only")
    kind = "edge" if edge.data else "edge order"
    return element("g", title, element("path", d=path, class_=kind), element("path", d=head, class_="head"))


def _end(box: _Box, name: str, content: str) -> Markup:
    shape = element("rect", x=box.x, y=box.y, width=box.width, height=box.height, rx=14, class_="end")
    label = element("tspan", f"{name}  ", class_="name")
    words = element(
        "text", label, one_line(content, 28), x=box.middle, y=box.y + 18, text_anchor="middle", class_="small"
    )
    return element("g", element("title", f"{name}: {content}"), shape, words)


def _node(box: _Box, index: int, call: Call) -> Markup:
    outcome = f"error: {call.error}" if call.error else call.preview
    title = element("title", f"{index + 1}. {call.operator}\n{call.tokens}\n{call.time}\n{outcome}")
    style = "mark node" + " failed" * bool(call.error)
    shape = element("rect", x=box.x, y=box.y, width=box.width, height=box.height, rx=5, class_=style)
    lines = [
        (f"{index + 1}. {call.operator[:20]}", 17, "name"),
        (call.tokens, 33, "small"),
        (call.time, 48, "small"),
        (one_line(call.error or call.preview, 26), 63, "small failure" if call.error else "small faded"),
    ]
    texts = [element("text", line, x=box.x + 8, y=box.y + dy, class_=style) for line, dy, style in lines]
    return element("g", title, shape, *texts)
