"""What a search leaves: summary.json, the best workflow in AFlow's form, training rows, a table."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from aflow_ops.search.expand import Check, as_completion
from aflow_ops.search.native import native_files
from aflow_ops.search.node import Node, Spend
from aflow_ops.search.tree import Tree
from data.files import write_atomically

# The table has so many of the fixed workflows, the best ones; the summary has all.
SHOWN_FIXED = 3


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    with write_atomically(path) as file:
        file.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_best(folder: Path, best: Node, check: Check, dataset: str) -> None:
    """Write `best/graph.py` and `best/prompt.py`, AFlow-native."""
    files = native_files(check(as_completion(best.workflow, best.prompts)), dataset=dataset, number=1)
    for name, text in (("graph.py", files.graph), ("prompt.py", files.prompt)):
        with write_atomically(folder / "best" / name) as file:
            file.write(text)


def totals(nodes: Sequence[Node]) -> dict[str, Any]:
    """Return tokens and dollars of all nodes, optimizer and executor apart."""
    tokens = sum((node.tokens for node in nodes), Spend())
    cost = sum((node.cost_usd for node in nodes), Spend())
    return {"tokens": vars(tokens), "cost_usd": vars(cost)}


def node_result(node: Node) -> dict[str, Any]:
    """Return what the summary says of a node's validation."""
    row: dict[str, Any] = node.to_row()["validation"]
    return row


def finalist_result(node: Node) -> dict[str, Any]:
    """Return what the summary says of a finalist's runs on the fresh problems."""
    return {"id": node.id, **node_result(node), "tokens": node.tokens.executor, "cost_usd": node.cost_usd.executor}


def pareto_of(tree: Tree) -> list[list[float]]:
    """Return the Pareto front as the summary holds it: `[cost_usd, reward, id]`."""
    return [[cost, reward, identity] for cost, reward, identity in tree.pareto()]


def show(summary: Mapping[str, Any], output: Path) -> None:
    """Print what was found beside its controls."""
    table = Table(title=f"{output.name}: {summary['rounds']} rounds, {summary['stopped']}", title_justify="left")
    where = "held out" if summary["mode"] == "dataset" else "a run of each"
    for column in ("", where, "95 %", "correct", "tokens each"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=bool(column))
    best = summary["best"]
    if best and best["heldout"]:
        table.add_row(f"found (node {best['id']})", *_cells(best["heldout"], best["heldout"]["tokens"]))
    controls = sorted(summary["controls"].items(), key=lambda item: -item[1]["heldout"]["reward"])
    fixed = [name for name, _ in controls if name.startswith("fixed: ")]
    for name, control in controls:
        if name not in fixed[SHOWN_FIXED:]:
            table.add_row(name.replace("_", " "), *_cells(control["heldout"], control["tokens"]))
    console = Console()
    if table.row_count:
        console.print(table)
    if best:
        validation = best["validation"]
        gap = "" if best["gap"] is None else f"; validation - held-out {best['gap']:+.3f}"
        console.print(
            f"best: node {best['id']}, validation reward {validation['reward']:.3f} on {validation['n']} problems{gap}",
            highlight=False,
        )
    for number, values in list(summary["pass_at_k"].items())[-1:]:
        shown = ", ".join(f"pass@{k} {value['mean']:.3f}" for k, value in values.items())
        console.print(f"after round {number}: {shown}", highlight=False)
        for name in ("independent_samples", "single_agent"):
            if tried := summary["controls"].get(name, {}).get("pass_at_k"):
                shown = ", ".join(f"pass@{k} {value['mean']:.3f}" for k, value in tried.items())
                console.print(f"{name.replace('_', ' ')} for as many tokens: {shown}", highlight=False)
    cost = summary["cost_usd"]
    console.print(
        f"${cost['optimizer'] + cost['executor']:.4f} by price (optimizer ${cost['optimizer']:.4f}); "
        f"{summary['tokens']['executor']:,.0f} executor tokens; files in {output}/",
        highlight=False,
        soft_wrap=True,
    )


def _cells(result: Mapping[str, Any], tokens: float) -> list[str]:
    low, high = result["ci95"]
    each = tokens / result["n"] if result["n"] else 0.0
    return [f"{result['reward']:.3f}", f"[{low:.3f}, {high:.3f}]", f"{result['correct']:.3f}", f"{each:,.0f}"]
