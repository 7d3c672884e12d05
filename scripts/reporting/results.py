"""Sections on how good the policy is: on held-out problems before and after training, and in an evaluation."""

from collections.abc import Mapping
from typing import Any

from data.problem import DOMAINS
from recipes.run.routers import NAMES
from rewards.statistics import bootstrap_mean
from scripts.reporting.charts import Bar, bar_chart
from scripts.reporting.collect import RunFiles
from scripts.reporting.elements import Cell, Section, Table, domain_style, number_cell
from scripts.reporting.formatting import bounds, shown, signed_interval
from scripts.reporting.reading import mapping, number, one_line
from scripts.reporting.rows import MAX_PROBLEMS, RowsReader

# (all or a domain, the numbers of `summary.json` for it)
Part = tuple[str, Mapping[str, Any]]

RESAMPLES = 1_000


def _parts(summary: Mapping[str, Any]) -> list[Part]:
    by_domain = mapping(summary.get("by_domain"))
    return [("all", summary), *((domain, mapping(by_domain.get(domain))) for domain in DOMAINS)]


def _reward_bar(bar: tuple[str, str, str], reader: RowsReader | None, phase: str, mean: Any) -> list[Bar]:
    """A bar of (group, label, style) from the rows, with an interval, or else of the summary's mean, without."""
    group, label, style = bar
    rewards = reader.rewards(phase, None if group == "all" else group) if reader is not None else {}
    if rewards:
        value, low, high = bootstrap_mean(list(rewards.values()), seed=0, resamples=RESAMPLES)
        return [Bar(group, label, value, style, (low, high))]
    known = number(mean)
    return [] if known is None else [Bar(group, label, known, style)]


def heldout_section(run: RunFiles) -> Section:
    """Bars before, after and of the best fixed workflow, and a table of all fixed workflows."""
    heldout = mapping((run.summary or {}).get("heldout"))
    parts = _parts(heldout)
    bars: list[Bar] = []
    for name, numbers in parts:
        for phase, style in (("before", "s0 pale"), ("after", "s0")):
            bars += _reward_bar((name, phase, style), run.heldout, phase, numbers.get(phase))
        best = _best_baseline(numbers)
        if best is not None:
            bars.append(Bar(name, "best fixed", best[1], "s5"))
    caption = (
        "Mean reward of a problem. Whiskers: 95 % percentile bootstrap over problems. The best fixed workflow is the "
        "best on these very problems; it has no interval: the run keeps only its mean."
    )
    chart = bar_chart("Before, after, best fixed workflow", bars, caption)
    told = [part for part in parts if part[1]]
    tables = [_baselines_table(told), _gain_table(told), _routers_table(mapping(heldout.get("routers")))]
    return Section("heldout", "Held-out problems", figures=[chart], tables=tables)


def _best_baseline(numbers: Mapping[str, Any]) -> tuple[str, float] | None:
    known = {name: number(value) for name, value in mapping(numbers.get("baselines")).items()}
    return max(((n, v) for n, v in known.items() if v is not None), key=lambda item: item[1], default=None)


def _baselines_table(parts: list[Part]) -> Table:
    names = list(mapping(parts[0][1].get("baselines")))[:40] if parts else []
    rows = [
        [Cell(one_line(name, 60))]
        + [number_cell(mapping(numbers.get("baselines")).get(name), ".3f") for _, numbers in parts]
        for name in names
    ]
    columns = ("fixed workflow", *(name for name, _ in parts))
    return Table("Mean reward of the fixed workflows", columns, rows, sortable=True)


def _gain_table(parts: list[Part]) -> Table:
    rows = []
    for name, numbers in parts:
        best = _best_baseline(numbers)
        gain = f"{shown(numbers.get('gain'), '+.3f')} {signed_interval(numbers.get('gain_ci95'))}"
        valid = f"{shown(numbers.get('valid_before'), '.0%')} → {shown(numbers.get('valid_after'), '.0%')}"
        rows.append(
            [
                Cell(name),
                number_cell(numbers.get("n")),
                *(number_cell(numbers.get(key), ".3f") for key in ("before", "after")),
                Cell(gain, style="number"),
                Cell(valid, style="number"),
                Cell(f"{best[1]:.3f} {one_line(best[0], 60)}" if best else "not run"),
            ]
        )
    columns = ("domain", "problems", "before", "after", "gain, 95 % interval", "valid", "best fixed workflow")
    return Table("Gain", columns, rows)


def _routers_table(routers: Mapping[str, Any]) -> Table:
    """The policy against fixed workflows chosen for all problems, for each domain and for each kind of problem."""
    rows = []
    for name, numbers in ((name, mapping(routers.get(name))) for name in NAMES):
        if numbers:
            difference = f"{shown(numbers.get('difference'), '+.3f')} {signed_interval(numbers.get('difference_ci95'))}"
            chosen = mapping(numbers.get("workflows")).items()
            rows.append(
                [
                    Cell(NAMES[name]),
                    number_cell(numbers.get("reward"), ".3f"),
                    Cell(difference, style="number"),
                    Cell("; ".join(one_line(f"{group}: {workflow}", 90) for group, workflow in list(chosen)[:40])),
                ]
            )
    columns = ("chosen with hindsight", "mean reward", "policy's difference, 95 % interval", "workflows")
    return Table("The policy against fixed workflows", columns, rows)


def evaluation_section(run: RunFiles) -> Section:
    """Bars and a table of an evaluation's means by domain."""
    summary = run.summary or {}
    bars, rows = [], []
    for name, numbers in _parts(summary):
        bars += _reward_bar((name, "reward", domain_style(name)), run.rows, "", numbers.get("reward"))
        if numbers:
            means = [number_cell(numbers.get(key), ".3f") for key in ("reward", "correct", "valid")]
            rows.append([Cell(name), number_cell(numbers.get("n")), *means])
    caption = "Mean over problems. Whiskers: 95 % percentile bootstrap over problems."
    if run.rows is not None and len(run.rows.problems) >= MAX_PROBLEMS:
        caption += f" Only the first {MAX_PROBLEMS:,} problems are in it."
    chart = bar_chart("Mean reward by domain", bars, caption)
    tables = [Table("Means", ("domain", "problems", "reward", "correct", "valid"), rows), _metrics_table(summary)]
    return Section("evaluation", "Evaluation", figures=[chart], tables=tables)


def _metrics_table(summary: Mapping[str, Any]) -> Table:
    """The benchmarks' own metrics and pass@k, with their intervals."""
    rows = []
    for source, metrics in mapping(summary.get("metrics")).items():
        for name, value in mapping(metrics).items():
            facts = mapping(value)
            numbers = [number_cell(part, ".3f") for part in (facts.get("mean"), *bounds(facts.get("ci95")))]
            rows.append([Cell(one_line(source, 40)), Cell(one_line(name, 20)), *numbers, number_cell(facts.get("n"))])
    for k, value in mapping(summary.get("pass_at_k")).items():
        rows.append([Cell("all"), Cell(f"pass@{one_line(k, 4)}"), number_cell(value, ".3f"), *[Cell("")] * 3])
    return Table("The benchmarks' own metrics", ("source", "metric", "mean", "low", "high", "problems"), rows)
