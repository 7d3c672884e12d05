"""What a finished run shows: `summary.json`, `reward_curve.png`, a table and the best workflows on the terminal."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich import box
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from aflow_ops.executor.types import ExecutorUsage
from aflow_ops.terminal import printable
from data.files import write_atomically
from recipes.run.checkpoints import best_of
from recipes.run.routers import against_routers, router_line
from rewards.evaluation import by_problem
from rewards.statistics import paired_bootstrap

Row = dict[str, Any]
# Width of a log, where no terminal says its own.
LOG_COLUMNS = 100


@dataclass(frozen=True)
class HeldOut:
    """Rows of the held-out problems: the policy before and after, and every fixed baseline by name."""

    before: Sequence[Row]
    after: Sequence[Row]
    baselines: Mapping[str, Sequence[Row]]

    def split(self, column: str) -> dict[str, "HeldOut"]:
        """The parts by a column of the rows (`"domain"`, or `"source"`, a kind of problem), in alphabetical order."""

        def part(rows: Sequence[Row], value: str) -> list[Row]:
            return [row for row in rows if row[column] == value]

        return {
            value: HeldOut(
                part(self.before, value),
                part(self.after, value),
                {name: part(rows, value) for name, rows in self.baselines.items()},
            )
            for value in sorted({row[column] for row in self.after})
        }

    def summary(self) -> dict[str, Any]:
        """Means, the gain with its paired 95 % bootstrap interval over problems, valid shares and baselines."""
        before, after = by_problem(self.before), by_problem(self.after)
        paired = sorted(before.keys() & after.keys())
        gain, low, high = paired_bootstrap([before[key] for key in paired], [after[key] for key in paired], seed=0)
        return {
            "n": len(paired),
            "before": _mean(before.values()),
            "after": _mean(after.values()),
            "gain": gain,
            "gain_ci95": [low, high],
            "gain_valid_only": self.gain_valid_only(),
            "valid_before": _valid_share(self.before),
            "valid_after": _valid_share(self.after),
            "baselines": {name: _mean(by_problem(rows).values()) for name, rows in self.baselines.items()},
        }

    def gain_valid_only(self) -> float | None:
        """Mean gain over the problems with a valid workflow both before and after; `None` when there is none."""
        before = by_problem([row for row in self.before if _is_valid(row)])
        after = by_problem([row for row in self.after if _is_valid(row)])
        paired = before.keys() & after.keys()
        return _mean(after[key] - before[key] for key in paired) if paired else None

    def best_baseline(self) -> tuple[str, float] | None:
        """Name and mean reward of the best single fixed workflow, if baselines were run."""
        means = self.summary()["baselines"]
        return max(means.items(), key=lambda item: item[1]) if means else None


def _is_valid(row: Row) -> bool:
    return row["workflow"] is not None


def _valid_share(rows: Sequence[Row]) -> float:
    return _mean(float(_is_valid(row)) for row in rows)


def _mean(values: Any) -> float:
    numbers = list(values)
    return fmean(numbers) if numbers else float("nan")


def write_results(
    run_dir: Path,
    result: HeldOut,
    seconds: Mapping[str, float],
    usage: ExecutorUsage,
    log_history: Sequence[Mapping[str, Any]],
    prompt_style: str,
    **more: Any,
) -> None:
    """Write `summary.json`, `heldout.jsonl` and `reward_curve.png` into the run's folder.

    Args:
        run_dir (`Path`): `outputs/<run>`.
        result (`HeldOut`): rows before and after.
        seconds (`Mapping[str, float]`): wall seconds by phase.
        usage (`ExecutorUsage`): totals of the executor.
        log_history (`Sequence[Mapping]`): the trainer's logs.
        prompt_style (`str`): the style that the policy was trained with; evaluating it needs the same.
        more: further parts of `summary.json`.
    """
    parts = {
        f"by_{column}": {name: part.summary() for name, part in result.split(column).items()}
        for column in ("domain", "source")
    }
    summary = {
        "run": run_dir.name,
        "seconds": dict(seconds),
        "heldout": {**result.summary(), **parts, "routers": against_routers(result.after, result.baselines)},
        "executor": {**asdict(usage), "tokens": usage.tokens},
        "prompt_style": prompt_style,
        "best": best_of(run_dir),
        **more,
    }
    with write_atomically(run_dir / "summary.json") as file:
        json.dump(summary, file, indent=2)
        file.write("\n")
    with write_atomically(run_dir / "heldout.jsonl") as file:
        for phase, rows in (("before", result.before), ("after", result.after)):
            for row in rows:
                file.write(json.dumps({"phase": phase, **row}, ensure_ascii=False) + "\n")
    plot_rewards(run_dir / "reward_curve.png", result, log_history)


def plot_rewards(path: Path, result: HeldOut, log_history: Sequence[Mapping[str, Any]]) -> None:
    """Draw training reward and valid share over steps, with the held-out means and the best baseline beside them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    logs = [log for log in log_history if log.get("reward") is not None]
    steps = [log["step"] for log in logs]
    rewards = [log["reward"] for log in logs]
    summary, best = result.summary(), result.best_baseline()
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    axes.plot(steps, rewards, color="tab:blue", alpha=0.25, linewidth=1)
    axes.plot(steps, _smoothed(rewards), color="tab:blue", linewidth=2, label="training reward (moving average)")
    valid = [log.get("workflow/valid") for log in logs]
    axes.plot(steps, _smoothed([value or 0.0 for value in valid]), color="tab:gray", linewidth=1, label="valid share")
    last = steps[-1] if steps else 0
    axes.plot([0, last], [summary["before"], summary["after"]], "D", color="tab:red", label="held-out before / after")
    for step, mean in ((0, summary["before"]), (last, summary["after"])):
        axes.annotate(f"{mean:.2f}", (step, mean), xytext=(0, 8), textcoords="offset points", ha="center")
    if best is not None:
        axes.axhline(best[1], color="tab:green", linestyle="--", linewidth=1, label=f"best fixed workflow: {best[0]}")
    axes.set(xlabel="GRPO step", ylabel="reward", ylim=(0, 1.02), title=f"{path.parent.name}: reward over training")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    temporary = path.with_name(".reward_curve.partial.png")
    figure.savefig(temporary, dpi=120)
    pyplot.close(figure)
    temporary.replace(path)


def _smoothed(values: Sequence[float], window: int = 9) -> list[float]:
    """Centred moving average, with a shorter window at both ends."""
    half = window // 2
    return [fmean(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]


def best_workflows(rows: Sequence[Row], count: int) -> list[tuple[str, str, float, int]]:
    """Return the best distinct workflows, the best of each domain first.

    Returns:
        `list` of (domain, workflow text, mean reward, problems it was written for).
    """
    rewards: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["workflow"] is not None and row["reward"] is not None:
            rewards.setdefault((row["domain"], row["workflow"]), []).append(row["reward"])
    ranked = sorted(
        ((domain, text, fmean(values), len(values)) for (domain, text), values in rewards.items()),
        key=lambda item: (item[2] * item[3], item[2]),
        reverse=True,
    )
    seen: dict[str, int] = {}
    order = []
    for item in ranked:
        seen[item[0]] = seen.get(item[0], -1) + 1
        order.append((seen[item[0]], item))
    return [item for _, item in sorted(order, key=lambda pair: pair[0])[:count]]


def print_results(run_dir: Path, result: HeldOut) -> None:
    """Print the table of domains and three of the policy's best workflows; in a log, these in a line each."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=LOG_COLUMNS)
    summary = result.summary()
    console.print(results_table(result, boxed=console.is_terminal))
    low, high = summary["gain_ci95"]
    valid_only = summary["gain_valid_only"]
    console.print(
        f"gain {summary['gain']:+.3f}, 95% interval [{low:+.3f}, {high:+.3f}]"
        + (f"; {valid_only:+.3f} among valid workflows" if valid_only is not None else "")
    )
    if routers := against_routers(result.after, result.baselines):
        console.print(router_line(routers))
    for domain, text, reward, count in best_workflows(result.after, 3):
        if console.is_terminal:
            console.print(f"\n[bold]{domain}[/bold]: mean reward {reward:.2f} on {count} problems")
            console.print(Syntax(printable(text), "python", background_color="default"))
        else:
            line = f"{domain}: mean reward {reward:.2f} on {count} problems: {printable(' '.join(text.split()))}"
            print(line if len(line) <= LOG_COLUMNS else line[: LOG_COLUMNS - 1] + "…")
    print("\n" * console.is_terminal + f"adapter, rollouts, metrics and reward_curve.png: {run_dir}/")


def results_table(result: HeldOut, *, boxed: bool) -> Table:
    """Return the table of held-out reward by domain."""
    title = f"held-out mean reward, {result.summary()['n']} problems"
    table = Table(title=title, title_justify="left", box=box.HEAVY_HEAD if boxed else None)
    for column in ("", "before", "after", "gain", "valid"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    table.add_column("best fixed workflow", overflow="fold")
    parts = result.split("domain")
    for name, part in {**parts, "all": result}.items():
        numbers, fixed = part.summary(), part.best_baseline()
        table.add_row(
            name,
            f"{numbers['before']:.3f}",
            f"{numbers['after']:.3f}",
            f"{numbers['gain']:+.3f}",
            f"{numbers['valid_before']:.0%} > {numbers['valid_after']:.0%}",
            f"{fixed[1]:.3f} {fixed[0]}" if fixed else "not run",
            end_section=name == list(parts)[-1],
        )
    return table
