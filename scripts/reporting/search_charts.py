"""The plots of a search: reward and pass@k over rounds with their intervals, and cost against reward."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from aflow_ops.search.node import Node
from aflow_ops.search.tree import Tree
from scripts.reporting.charts import Figure, Interval, Line, line_chart
from scripts.reporting.formatting import amount, bounds, dollars
from scripts.reporting.reading import mapping, number
from scripts.reporting.svg import Axes, Point, element, svg


def rounds_chart(nodes: Sequence[Node], per_problem: bool) -> Figure:
    """Plot reward over rounds: of every workflow and of the best so far, or, problem by problem, means over these.

    Args:
        nodes (`Sequence[Node]`): of the search.
        per_problem (`bool`): whether every problem has a search of its own.
    """
    lines, caption = _by_problem(nodes) if per_problem else _of_one_search(nodes)
    return line_chart("Reward over rounds", lines, "reward", caption, (0.0, 1.0), "nothing ran", x_label="round")


def _of_one_search(nodes: Sequence[Node]) -> tuple[list[Line], str]:
    tree = Tree(nodes)
    whole = {node.id for node in tree.whole(tree.most_problems)}
    points, best = list[Point](), list[Point]()
    intervals, best_intervals = list[Interval](), list[Interval]()
    highest, ends = -1.0, (0.0, 0.0)
    for node in nodes:
        if node.status != "ok" or node.validation is None:
            continue
        at, reward = float(node.round), tree.reward(node)
        points.append((at, reward))
        if node.id in whole:
            intervals.append((at, *node.validation.ci95))
            if reward > highest:
                highest, ends = reward, node.validation.ci95
        if highest >= 0:
            best.append((at, highest))
            best_intervals.append((at, *ends))
    lines = [Line("a round", points, "s4", "raw", intervals), Line("best so far", best, "s0", "raw", best_intervals)]
    return lines, (
        "Mean reward on the validation problems, 95 % intervals over these. A workflow that was given up early has no "
        "interval: it is placed by what it lost to the best one on the problems that both were run on."
    )


def _by_problem(nodes: Sequence[Node]) -> tuple[list[Line], str]:
    """Means over problems: of the best workflow so far, and of a round's."""
    found: dict[str, dict[int, float]] = {}
    for node in nodes:
        for problem, rewards in node.per_problem.items():
            rounds = found.setdefault(problem, {})
            rounds[node.round] = max(fmean(rewards), rounds.get(node.round, 0.0))
    series: dict[str, list[tuple[float, list[float]]]] = {"a round": [], "best so far": []}
    for last in sorted({at for rounds in found.values() for at in rounds}):
        series["a round"].append((last, [rounds[last] for rounds in found.values() if last in rounds]))
        until = [[reward for at, reward in rounds.items() if at <= last] for rounds in found.values()]
        series["best so far"].append((last, [max(rewards) for rewards in until if rewards]))
    lines = []
    for style, (label, rows) in zip(("s4", "s0"), series.items(), strict=True):
        rows = [(at, values) for at, values in rows if values]
        points = [(float(at), fmean(values)) for at, values in rows]
        lines.append(Line(label, points, style, "raw", [(float(at), *_ends(values)) for at, values in rows]))
    return lines, f"Means over {len(found)} problems, each with its own search; 95 % intervals over these."


def _ends(values: Sequence[float]) -> Point:
    half = 1.96 * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return max(0.0, fmean(values) - half), min(1.0, fmean(values) + half)


def pass_at_k_chart(summary: Mapping[str, Any]) -> Figure:
    """Plot pass@k over rounds, as the summary has it."""
    series: dict[str, list[Point]] = {}
    intervals: dict[str, list[Interval]] = {}
    for round_name, values in mapping(summary.get("pass_at_k")).items():
        for k, found in mapping(values).items():
            mean = number(mapping(found).get("mean"))
            if mean is None or not str(round_name).isdecimal():
                continue
            series.setdefault(str(k), []).append((float(round_name), mean))
            low, high = (number(end) for end in bounds(mapping(found).get("ci95")))
            if low is not None and high is not None:
                intervals.setdefault(str(k), []).append((float(round_name), low, high))
    lines = [
        Line(f"pass@{k}", points, f"s{index % 6}", "raw", intervals.get(k, ()))
        for index, (k, points) in enumerate(series.items())
    ]
    caption = "Unbiased estimates over all that was tried up to a round; 95 % Wilson intervals over problems."
    missing = "only a search for every problem by itself has it"
    return line_chart("pass@k over rounds", lines, "share", caption, (0.0, 1.0), missing, x_label="round")


def cost_chart(nodes: Sequence[Node]) -> Figure:
    """Plot cost against reward, with the Pareto front: in dollars, or in tokens where there is no price."""
    title = "Cost and reward"
    ran = [node for node in nodes if node.status == "ok" and node.validation is not None]
    priced = any(node.usd_per_problem for node in ran)
    if not any(node.tokens_per_run for node in ran) and not priced:
        return Figure(title, "", missing="nothing was asked of the executor")

    def cost(node: Node) -> float:
        return node.usd_per_problem if priced else node.tokens_per_run

    tree, unit = Tree(nodes), "USD a problem" if priced else "tokens a problem"
    axes = Axes((0.0, max(map(cost, ran)) * 1.05), (0.0, 1.0))
    parts = axes.drawn("reward", unit, x_least=0.0)
    front = tree.pareto(cost)
    steps = "L".join(f"{axes.at_x(spent):.1f} {axes.at_y(reward):.1f}" for spent, reward, _ in front)
    parts.append(element("path", d=f"M{steps}", class_="mark line s2"))
    whole = {node.id for node in tree.whole(tree.most_problems)}
    for node in ran:
        reward = tree.reward(node)
        early = "" if node.id in whole else ", given up early"
        spent = dollars(cost(node)) if priced else f"{amount(cost(node))} tokens"
        said = element("title", f"node {node.id}: {reward:.3f}, {spent} a problem{early}")
        x, y = axes.at_x(cost(node)), axes.at_y(reward)
        parts.append(element("circle", said, cx=x, cy=y, r=4, class_="mark dot s0" + " pale" * bool(early)))
    legend = (("s0", "a workflow"), ("s2", "no other is cheaper and better"))
    caption = "Executor's cost of one run against mean reward; pale: given up early, and not in the front."
    return Figure(title, caption, svg(title, *parts), legend)
