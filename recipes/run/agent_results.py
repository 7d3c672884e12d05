"""What a finished run of a multi-agent recipe shows: `summary.json`, `heldout.jsonl`, a curve and one line a metric."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object

from aflow_ops.agents.team import Outcome
from aflow_ops.executor import ExecutorUsage
from recipes.run.open import Run
from recipes.run.results import HeldOut, Row, write_results


def finish_agents(
    run: Run,
    trainer: Any,
    before: Sequence[Row],
    after: Sequence[Row],
    controls: Mapping[str, Sequence[Row]] | None = None,
) -> None:
    """Write the adapters and the results of a training that came to its end, and show them.

    Args:
        run (`Run`): open.
        trainer (`AgentGRPOTrainer`): trained, and not closed yet.
        before (`Sequence[Row]`): held-out episodes before the training (`recipes/training/agent_heldout.py`).
        after (`Sequence[Row]`): the same after it.
        controls (`Mapping`, *optional*): episodes of what the team is compared with, by name.
    """
    trainer.save_model()
    trainer.rollout_log.close()
    usage = sum(gather_object([trainer.usage]), ExecutorUsage())
    if PartialState().is_main_process:
        result = HeldOut(before, after, controls or {})
        agents = {
            "roles": trainer.team.names,
            "trained": trainer.trained,
            "adapters": trainer.adapters.names,
            "alpha": trainer.recipe.alpha,
            "before": team_metrics(before, trainer.team.measure),
            "after": team_metrics(after, trainer.team.measure),
            "controls": {name: team_metrics(rows, trainer.team.measure) for name, rows in (controls or {}).items()},
        }
        history = trainer.state.log_history
        write_results(run.folder, result, run.seconds, usage, history, trainer.recipe.prompt_style, agents=agents)
        print_agents(run, result, agents)
    if run.backup is not None:
        run.backup.results(trainer.state.global_step)


def team_metrics(rows: Sequence[Row], measure: Any) -> dict[str, float]:
    """Return the recipe's own metrics over held-out episodes, and the tokens of an episode."""
    if not rows:
        return {}
    names = dict.fromkeys(name for row in rows for name in row["metrics"])
    metrics = {name: fmean(row["metrics"][name] for row in rows if name in row["metrics"]) for name in names}
    outcomes = [Outcome(row["reward"], verdicts=row["verdicts"]) for row in rows]
    tokens = fmean(sum(row["tokens"].values()) for row in rows)
    return {**metrics, **measure(outcomes), "tokens": tokens}


def print_agents(run: Run, result: HeldOut, agents: Mapping[str, Any]) -> None:
    """Print the team's held-out success and its metrics, before and after."""
    summary = result.summary()
    low, high = summary["gain_ci95"]
    print(
        f"team success on {summary['n']} held-out problems: {summary['before']:.3f} > {summary['after']:.3f}, "
        f"gain {summary['gain']:+.3f}, 95% interval [{low:+.3f}, {high:+.3f}]"
    )
    for name, value in summary["baselines"].items():
        tokens = agents["controls"].get(name, {}).get("tokens", float("nan"))
        print(f"  {name.replace('_', ' ')} with as many tokens ({tokens:.0f}): {value:.3f}")
    before, after = agents["before"], agents["after"]
    for name in after:
        print(f"  {name:<34} {before.get(name, float('nan')):8.3f} > {after[name]:8.3f}")
    print(f"adapter, rollouts, metrics and reward_curve.png: {run.folder}/")
