"""The report of a search: its tree, scores over rounds, cost against score, controls, and every node's difference."""

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aflow_ops.search.node import Node, Spend
from aflow_ops.search.plan import without_plan
from aflow_ops.search.tree import Tree
from scripts.reporting.charts import Bar, bar_chart
from scripts.reporting.elements import Cell, Section, Table, number_cell
from scripts.reporting.formatting import amount, bounds, dollars, file_size, shown
from scripts.reporting.overview import Tile
from scripts.reporting.page import document, with_content
from scripts.reporting.reading import mapping, number, one_line, read_object
from scripts.reporting.search_charts import cost_chart, pass_at_k_chart, rounds_chart
from scripts.reporting.search_tree import search_tree

# The page shows the difference of so many nodes, the best first, and so much of each.
MAX_DIFFS, MAX_DIFF_CHARS = 400, 3_000
# Likewise of what was refused, and of the problems that the best workflow does not solve.
MAX_REJECTED, MAX_REPLY_CHARS = 200, 1_500
MAX_UNSOLVED = 100
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
            except (ValueError, TypeError, AttributeError, RecursionError):
                unreadable += 1
                continue
            if node.id == len(nodes) and (node.parent is None or 0 <= node.parent < node.id):
                nodes.append(node)
            else:
                unreadable += 1
    return nodes, unreadable


def _sections(nodes: Sequence[Node], summary: Mapping[str, Any]) -> list[Section]:
    separate = _is_per_problem(nodes, summary)
    charts = [rounds_chart(nodes, separate), pass_at_k_chart(summary), cost_chart(nodes)]
    return [
        _result_section(summary),
        Section("tree", "Tree", figures=[search_tree(nodes)]),
        Section("course", "Course", figures=charts),
        Section("nodes", "Workflows", "Each with what it changed of its parent.", tables=[_differences(nodes)]),
        Section("unsolved", "Problems that are not solved", tables=[_unsolved(nodes, summary, separate)]),
        Section("refused", "Rejected and crashed", tables=_refused(nodes)),
    ]


def _is_per_problem(nodes: Sequence[Node], summary: Mapping[str, Any]) -> bool:
    """Whether every problem has a search of its own; a search that is not over has no summary."""
    if "mode" in summary:
        return bool(summary["mode"] == "problem")
    problems = [tuple(node.per_problem) for node in nodes if node.per_problem]
    return len(set(problems)) > 1 and all(len(each) == 1 for each in problems)


def _tiles(nodes: Sequence[Node], summary: Mapping[str, Any]) -> list[Tile]:
    ran = [node for node in nodes if node.status == "ok"]
    tokens, cost = (sum((getattr(node, name) for node in nodes), Spend()) for name in ("tokens", "cost_usd"))
    best = mapping(summary.get("best"))
    heldout, validation = mapping(best.get("heldout")), mapping(best.get("validation"))
    tiles = [
        ("workflows", shown(len(ran)), f"{len(nodes) - len(ran)} rejected or crashed"),
        ("executor's tokens", amount(tokens.executor), f"{dollars(cost.executor)} by price"),
        ("optimizer's tokens", amount(tokens.optimizer), f"{dollars(cost.optimizer)} by price"),
    ]
    if "stopped" in summary:
        tiles.append(("rounds", shown(summary.get("rounds")), f"stopped: {one_line(summary['stopped'], 40)}"))
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
    separate = summary.get("mode") == "problem"
    where, on = ("a run of each", "the problems") if separate else ("held-out", "held-out problems")
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
            short = label.replace("independent", "indep.")[:14]
            bars.append(Bar(where, short, reward, "s0" if name == "found" else "s4", interval))
    rows.sort(key=lambda row: -row[0])
    cells = [
        [Cell(label), number_cell(reward, ".3f"), number_cell(heldout.get("correct"), ".3f"), number_cell(tokens)]
        for reward, label, heldout, tokens in rows
    ]
    table = Table(on.capitalize(), ("workflow", "reward", "correct", "tokens"), cells, sortable=True)
    figures = [bar_chart("Found and controls", bars, f"Mean reward on {on}, 95 % intervals.")] if bars else []
    return Section("result", "Result", figures=figures, tables=[table] if rows else [])


def _differences(nodes: Sequence[Node]) -> Table:
    """Every node that was run, the best first, those that crashed last."""
    tree = Tree(nodes)
    rewards = {node.id: tree.reward(node) for node in nodes if node.status == "ok" and node.validation is not None}
    ran = sorted((node for node in nodes if node.status != "rejected"), key=lambda node: -rewards.get(node.id, -1.0))
    rows = []
    for node in ran[:MAX_DIFFS]:
        parent = None if node.parent is None else nodes[node.parent]
        low, high = (None, None) if node.validation is None else node.validation.ci95
        rows.append(
            [
                number_cell(node.id),
                Cell("-" if parent is None else str(parent.id), style="number"),
                number_cell(rewards.get(node.id), ".3f") if node.status == "ok" else Cell("crashed", -1.0),
                Cell(f"[{shown(low, '.2f')}, {shown(high, '.2f')}]", low),
                number_cell(0 if node.validation is None else node.validation.n),
                Cell(one_line(node.modification, 300), style="wide"),
                Cell(difference(parent, node), style="wide code"),
            ]
        )
    columns = ("node", "parent", "reward", "95 %", "problems", "modification", "difference")
    more = f"The best {MAX_DIFFS} of {len(ran)}." * (len(ran) > MAX_DIFFS)
    given_up = any(tree.reward(node) != node.score() for node in ran if node.id in rewards)
    more += " Of one that was given up early, what it would earn beside the best one." * given_up
    return Table("", columns, rows, more.strip(), sortable=True)


def _unsolved(nodes: Sequence[Node], summary: Mapping[str, Any], per_problem: bool) -> Table:
    """Problems that the best workflow, or where each has its own search any workflow, does not solve."""
    ran: dict[str, list[tuple[float, Node]]] = {}
    for node in nodes:
        for problem, rewards in node.per_problem.items():
            ran.setdefault(problem, []).append((sum(rewards) / len(rewards), node))
    best_id = number(mapping(summary.get("best")).get("id"))
    rows = []
    for problem, found in ran.items():
        highest, first = max(found, key=lambda pair: (pair[0], -pair[1].id))
        mine = [(reward, node) for reward, node in found if node.id == best_id]
        reward, node = (highest, first) if per_problem or not mine else mine[0]
        if reward < 1.0:
            ended = Cell(one_line(node.failed.get(problem, ""), 20))
            rows.append([Cell(one_line(problem, 80)), number_cell(reward, ".3f"), ended, number_cell(highest, ".3f"),
                         number_cell(first.id)])  # fmt: skip
    rows.sort(key=lambda row: (row[1].key, row[0].text))
    note = f"The first {MAX_UNSOLVED} of {len(rows)}." * (len(rows) > MAX_UNSOLVED)
    columns = ("problem", "reward", "ended in", "highest of all workflows", "node")
    return Table("", columns, rows[:MAX_UNSOLVED], note, sortable=True, tall=True)


def difference(parent: Node | None, node: Node) -> str:
    """Return what changed from a parent to a node, as a unified diff; the whole workflow of a root."""
    if parent is None:
        return "\n".join(_lines(node))[:MAX_DIFF_CHARS]
    before, after = map(_lines, (parent, node))
    lines = list(difflib.unified_diff(before, after, lineterm="", n=1))[2:]
    return "\n".join(lines)[:MAX_DIFF_CHARS] or "nothing"


def _lines(node: Node) -> list[str]:
    """A workflow and its prompts, without the comment that says its plan again."""
    prompts = [f"{name} = {text!r}" for name, text in node.prompts.items()]
    return [*without_plan(node.workflow).splitlines(), *prompts]


def _refused(nodes: Sequence[Node]) -> list[Table]:
    refused = [node for node in nodes if node.status != "ok"]
    rows = [
        [
            number_cell(node.id),
            number_cell(node.parent),
            Cell(node.status),
            Cell(one_line(node.error or "", 300), style="wide"),
            Cell(one_line(node.modification, 200), style="wide"),
            Cell(node.workflow[:MAX_REPLY_CHARS], style="wide code"),
        ]
        for node in refused[-MAX_REJECTED:]
    ]
    if not rows:
        return []
    note = f"The last {MAX_REJECTED} of {len(refused)}." * (len(refused) > MAX_REJECTED)
    return [Table("", ("node", "parent", "status", "why", "modification", "what was written"), rows, note, tall=True)]


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
