"""Draws the tree of a search: nodes coloured by score, edges labelled with the modification."""

from collections.abc import Sequence

from markupsafe import Markup

from aflow_ops.search.node import Node
from aflow_ops.search.tree import Tree
from scripts.reporting.charts import Figure
from scripts.reporting.formatting import shown
from scripts.reporting.reading import one_line
from scripts.reporting.svg import element, svg

MAX_NODES = 80
COLUMN, ROW, RADIUS = 210.0, 30.0, 9.0


def search_tree(nodes: Sequence[Node]) -> Figure:
    """Draw the nodes that ran, roots to the left; rejected proposals are only counted.

    Args:
        nodes (`Sequence[Node]`): of a search, in order.
    """
    title = "The tree"
    ran = [node for node in nodes if node.status != "rejected"]
    kept = ran[:MAX_NODES]
    if not kept:
        return Figure(title, "", missing="no workflow was run")
    places = _places(kept)
    tree = Tree(nodes)
    scores = {node.id: tree.reward(node) for node in kept if node.validation is not None and node.status == "ok"}
    low, high = min(scores.values(), default=0.0), max(scores.values(), default=1.0)
    parts: list[Markup] = []
    for node in kept:
        if node.parent in places:
            parts += _edge(node, places[node.parent], places[node.id])
    for node in kept:
        parts.append(_node(node, places[node.id], scores.get(node.id), low, high))
    width = max(x for x, _ in places.values()) + COLUMN
    height = max(y for _, y in places.values()) + ROW
    more = f" The first {MAX_NODES} of {len(ran)} are drawn." * (len(ran) > MAX_NODES)
    rejected = len(nodes) - len(ran)
    more += f" Rejected, and not drawn: {rejected}." * (rejected > 0)
    caption = f"Stronger colour: higher reward, from {low:.3f} to {high:.3f}; ringed: crashed.{more}"
    return Figure(title, caption, svg(title, *parts, width=width, height=height, class_="graph"))


def _places(nodes: Sequence[Node]) -> dict[int, tuple[float, float]]:
    """Depth to the right; every leaf has a row of its own, and a parent stands beside its first child."""
    known = {node.id for node in nodes}
    children: dict[int | None, list[int]] = {}
    for node in nodes:
        children.setdefault(node.parent if node.parent in known else None, []).append(node.id)
    places: dict[int, tuple[float, float]] = {}
    row = 0
    pending = [(identity, 0) for identity in reversed(children.get(None, []))]
    while pending:
        identity, depth = pending.pop()
        places[identity] = (RADIUS + 6 + depth * COLUMN, RADIUS + 8 + row * ROW)
        below = children.get(identity, [])
        row += not below
        pending += [(child, depth + 1) for child in reversed(below)]
    return places


def _edge(node: Node, start: tuple[float, float], end: tuple[float, float]) -> list[Markup]:
    (x1, y1), (x2, y2) = start, end
    bend = x1 + 22
    path = (
        f"M{x1 + RADIUS:.1f} {y1:.1f}C{bend:.1f} {y1:.1f} {x1 + RADIUS:.1f} {y2:.1f} {bend + 8:.1f} {y2:.1f}H{x2:.1f}"
    )
    label = element(
        "text", element("title", one_line(node.modification, 300)), one_line(node.modification, 27),
        x=bend + 10, y=y2 - 4, class_="small faded",
    )  # fmt: skip
    return [element("path", d=path, class_="edge"), label]


def _node(node: Node, place: tuple[float, float], score: float | None, low: float, high: float) -> Markup:
    x, y = place
    validation = node.validation
    said = f"node {node.id}, round {node.round}, {node.origin}: {one_line(node.modification, 200)}"
    if validation is not None:
        said += f"\nreward {validation.reward:.3f} on {validation.n} problems"
    failed = node.status == "crashed"
    share = 0.0 if score is None or high <= low else (score - low) / (high - low)
    circle = element(
        "circle", cx=x, cy=y, r=RADIUS, fill_opacity=f"{0.12 + 0.88 * share:.2f}",
        class_="mark dot heat" + " failed" * failed,
    )  # fmt: skip
    number = element("text", f"{node.id}: {shown(score, '.2f')}", x=x + RADIUS + 4, y=y + 13, class_="small")
    return element("g", element("title", said), circle, number)
