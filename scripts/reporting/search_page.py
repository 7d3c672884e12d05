"""The report of a search: its tree, scores over rounds, cost against score, controls, and every node's difference."""

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aflow_ops.search.node import Node
from aflow_ops.search.tree import Tree
from scripts.reporting.charts import Bar, Figure, Line, bar_chart, line_chart
from scripts.reporting.elements import Cell, Section, Table, number_cell
from scripts.reporting.formatting import amount, bounds, dollars, file_size, shown
from scripts.reporting.overview import Tile
from scripts.reporting.page import document, with_content
from scripts.reporting.reading import mapping, number, one_line, read_object
from scripts.reporting.search_tree import search_tree
from scripts.reporting.svg import Axes, element, svg

# The page shows the difference of so many nodes, the best first, and so much of each.
MAX_DIFFS, MAX_DIFF_CHARS = 40, 3_000
MAX_REJECTED = 40
SEARCH_FILES = ("nodes.jsonl", "settings.json", "summary.json", "trajectories.jsonl")


def render_search(folder: Path) -> str:
    """Return the report of a search's folder as one HTML document.

    Args:
        folder (`Path`): with nodes.jsonl; a search may still be writing it.
    """
    nodes, unreadable = read_nodes(folder / "nodes.jsonl")
    summary = read_object(folder / "summary.json") or {}
    return document(
        title=one_line(folder.resolve().name, 80),
        kind="workflow search",
        tiles=_tiles(nodes, summary),
        files=_files(folder, len(nodes), unreadable),
        missing=[] if summary else [("summary.json", "held-out reward, controls, and why the search stopped")],
        sections=with_content(_sections(nodes, summary)),
    )


def read_nodes(path: Path) -> tuple[list[Node], int]:
    """Read the nodes of a search, and count the lines that are none."""
    nodes: list[Node] = []
    unreadable = 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                node = Node.from_row(json.loads(line))
            except (ValueError, TypeError, AttributeError):
                unreadable += 1
                continue
            if node.id == len(nodes) and (node.parent is None or 0 <= node.parent < node.id):
                nodes.append(node)
            else:
                unreadable += 1
    return nodes, unreadable


def _sections(nodes: Sequence[Node], summary: Mapping[str, Any]) -> list[Section]:
    return [
        _result_section(summary),
        Section("tree", "Tree", figures=[search_tree(nodes)]),
        Section("course", "Course", figures=[_rounds(nodes), _pass_at_k(summary), _cost(nodes)]),
        Section("nodes", "Workflows", "Each with what it changed of its parent.", tables=[_differences(nodes)]),
        Section("refused", "Rejected and crashed", tables=_refused(nodes)),
    ]


def _tiles(nodes: Sequence[Node], summary: Mapping[str, Any]) -> list[Tile]:
    ran = [node for node in nodes if node.status == "ok"]
    tokens = sum(node.tokens.executor + node.tokens.optimizer for node in nodes)
    cost = sum(node.cost_usd.executor + node.cost_usd.optimizer for node in nodes)
    best = mapping(summary.get("best"))
    heldout, validation = mapping(best.get("heldout")), mapping(best.get("validation"))
    tiles = [
        ("workflows", shown(len(ran)), f"{len(nodes) - len(ran)} rejected or crashed"),
        ("tokens", amount(tokens), f"{dollars(cost)} by price, optimizer and executor"),
    ]
    if number(validation.get("reward")) is not None:
        gap = f"gap to held-out {shown(best.get('gap'), '+.3f')}"
        tiles.insert(0, ("best on validation", shown(validation.get("reward"), ".3f"), gap))
    if number(heldout.get("reward")) is not None:
        low, high = bounds(heldout.get("ci95"))
        remark = f"95 % [{shown(low, '.3f')}, {shown(high, '.3f')}], {shown(heldout.get('n'))} problems"
        tiles.insert(0, ("held-out reward", shown(heldout.get("reward"), ".3f"), remark))
    return tiles


def _result_section(summary: Mapping[str, Any]) -> Section:
    """The workflow found beside its controls."""
    best = mapping(summary.get("best"))
    results = {"found": {"heldout": best.get("heldout")}, **mapping(summary.get("controls"))}
    bars, rows = [], []
    for name, control in results.items():
        heldout = mapping(mapping(control).get("heldout"))
        reward = number(heldout.get("reward"))
        if reward is None:
            continue
        low, high = (number(end) for end in bounds(heldout.get("ci95")))
        interval = None if low is None or high is None else (low, high)
        label = one_line(name.replace("_", " ").removeprefix("fixed: "), 60)
        tokens = mapping(control).get("tokens", heldout.get("tokens"))
        rows.append((reward, label, heldout, tokens))
        if not name.startswith("fixed: "):
            bars.append(Bar("held-out", label[:16], reward, "s0" if name == "found" else "s4", interval))
    rows.sort(key=lambda row: -row[0])
    cells = [
        [Cell(label), number_cell(reward, ".3f"), number_cell(heldout.get("correct"), ".3f"), number_cell(tokens)]
        for reward, label, heldout, tokens in rows
    ]
    table = Table("Held-out problems", ("workflow", "reward", "correct", "tokens"), cells, sortable=True)
    figures = (
        [bar_chart("Found and controls", bars, "Mean reward on held-out problems, 95 % intervals.")] if bars else []
    )
    return Section("result", "Result", figures=figures, tables=[table] if rows else [])


def _rounds(nodes: Sequence[Node]) -> Figure:
    points, best = [], []
    for node in nodes:
        if node.status == "ok" and node.validation is not None:
            points.append((float(node.round), node.validation.reward))
            best.append((float(node.round), max(value for _, value in points)))
    lines = [Line("a round", points, "s4", "raw"), Line("best so far", best, "s0", "raw")]
    caption = "Mean reward on the validation problems a workflow was run on."
    return line_chart("Reward over rounds", lines, "reward", caption, (0.0, 1.0), "nothing ran", x_label="round")


def _pass_at_k(summary: Mapping[str, Any]) -> Figure:
    series: dict[str, list[tuple[float, float]]] = {}
    for round_name, values in mapping(summary.get("pass_at_k")).items():
        for k, found in mapping(values).items():
            mean = number(mapping(found).get("mean"))
            if mean is not None and str(round_name).isdecimal():
                series.setdefault(str(k), []).append((float(round_name), mean))
    lines = [Line(f"pass@{k}", points, f"s{index % 6}", "raw") for index, (k, points) in enumerate(series.items())]
    missing = "only a search for every problem by itself has it"
    return line_chart("pass@k over rounds", lines, "share", "", (0.0, 1.0), missing, x_label="round")


def _cost(nodes: Sequence[Node]) -> Figure:
    title = "Cost and reward"
    ran = [node for node in nodes if node.status == "ok" and node.validation is not None]
    if not any(node.usd_per_problem for node in ran):
        return Figure(title, "", missing="the executor has no price")
    front = Tree(nodes).pareto()
    axes = Axes((0.0, max(node.usd_per_problem for node in ran) * 1.05), (0.0, 1.0))
    parts = axes.drawn("reward", "USD a problem", x_least=0.0)
    steps = "L".join(f"{axes.at_x(cost):.1f} {axes.at_y(reward):.1f}" for cost, reward, _ in front)
    parts.append(element("path", d=f"M{steps}", class_="mark line s2"))
    for node in ran:
        assert node.validation is not None
        said = element(
            "title", f"node {node.id}: {node.validation.reward:.3f}, {dollars(node.usd_per_problem)} a problem"
        )
        x, y = axes.at_x(node.usd_per_problem), axes.at_y(node.validation.reward)
        parts.append(element("circle", said, cx=x, cy=y, r=4, class_="mark dot s0"))
    legend = (("s0", "a workflow"), ("s2", "no other is cheaper and better"))
    return Figure(title, "Executor price of one run against mean reward.", svg(title, *parts), legend)


def _differences(nodes: Sequence[Node]) -> Table:
    ran = [node for node in nodes if node.status == "ok" and node.validation is not None]
    ran.sort(key=lambda node: (-node.validation.reward if node.validation else 0.0, node.id))
    rows = []
    for node in ran[:MAX_DIFFS]:
        assert node.validation is not None
        low, high = node.validation.ci95
        parent = None if node.parent is None else nodes[node.parent]
        rows.append(
            [
                number_cell(node.id),
                Cell("-" if parent is None else str(parent.id), style="number"),
                number_cell(node.validation.reward, ".3f"),
                Cell(f"[{low:.2f}, {high:.2f}]", low),
                number_cell(node.validation.n),
                Cell(one_line(node.modification, 300), style="wide"),
                Cell(difference(parent, node), style="wide code"),
            ]
        )
    columns = ("node", "parent", "reward", "95 %", "problems", "modification", "difference")
    more = f"The best {MAX_DIFFS} of {len(ran)}." * (len(ran) > MAX_DIFFS)
    return Table("", columns, rows, more, sortable=True)


def difference(parent: Node | None, node: Node) -> str:
    """Return what changed from a parent to a node, as a unified diff; the whole workflow of a root."""
    if parent is None:
        return node.workflow[:MAX_DIFF_CHARS]
    before, after = ([*item.workflow.splitlines(), *_prompt_lines(item)] for item in (parent, node))
    lines = list(difflib.unified_diff(before, after, lineterm="", n=1))[2:]
    return "\n".join(lines)[:MAX_DIFF_CHARS] or "nothing"


def _prompt_lines(node: Node) -> list[str]:
    return [f"{name} = {text!r}" for name, text in node.prompts.items()]


def _refused(nodes: Sequence[Node]) -> list[Table]:
    refused = [node for node in nodes if node.status != "ok"]
    rows = [
        [
            number_cell(node.id),
            number_cell(node.parent),
            Cell(node.status),
            Cell(one_line(node.error or "", 300), style="wide"),
            Cell(one_line(node.modification, 200), style="wide"),
        ]
        for node in refused[-MAX_REJECTED:]
    ]
    if not rows:
        return []
    note = f"The last {MAX_REJECTED} of {len(refused)}." * (len(refused) > MAX_REJECTED)
    return [Table("", ("node", "parent", "status", "why", "modification"), rows, note, tall=True)]


def _files(folder: Path, nodes: int, unreadable: int) -> Table:
    rows = []
    for name in SEARCH_FILES:
        path = folder / name
        if path.is_file():
            remark = "read" if name == "summary.json" else "listed"
            if name == "nodes.jsonl":
                remark = f"{nodes:,} nodes" + f", {unreadable:,} unreadable lines" * bool(unreadable)
            rows.append([Cell(name), Cell(file_size(path.stat().st_size), style="number"), Cell(remark)])
    return Table("", ("file", "size", "in it"), rows)
