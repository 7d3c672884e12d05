"""The reward function that TRL calls: async, one call for all completions of a step.

Dataset rows bring the whole problem, gold answer included, as JSON in the column `problem`; the policy's prompt is made
elsewhere and never sees it.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from aflow_ops.concurrency import gather_or_cancel
from aflow_ops.trace import Trace
from data.problem import Problem
from rewards.rollout import Rollout, RolloutScorer
from rewards.tiers import TIER_REWARDS

LogMetric = Callable[[str, float], None]
LogExtra = Callable[[str, list[Any]], None]
# The completions table keeps this much of an answer and of a trace.
MAX_CELL_CHARS = 500


@dataclass(frozen=True)
class Scored:
    """Completions that were run and graded.

    Args:
        rollouts (`list[Rollout]`): in the order of the completions, without replayed ones.
        wall_seconds (`float`): from the first one's start to the last one's end.
    """

    rollouts: list[Rollout]
    wall_seconds: float


class WorkflowReward:
    """Scores completions and keeps their rollouts for whoever needs more than a number.

    Args:
        scorer (`RolloutScorer`, *optional*): may be set later, before the first call.

    Attributes:
        last (`list[Rollout]`): rollouts of the latest call, in the order of its completions.
        begun (`asyncio.Task[Scored]`, *optional*): `score` of the next call's completions, begun before; set and unset
            by whoever began it.
        waited (`float`): seconds that the latest call waited for its rollouts.
    """

    def __init__(self, scorer: RolloutScorer | None = None) -> None:
        self.__name__ = "workflow"  # TRL names the reward's metrics after it
        self.scorer = scorer
        self.last: list[Rollout] = []
        self.begun: asyncio.Task[Scored] | None = None
        self.waited = 0.0

    async def __call__(
        self,
        completions: Sequence[Any],
        problem: Sequence[str],
        replayed: Sequence[Mapping[str, Any] | None] | None = None,
        log_metric: LogMetric | None = None,
        log_extra: LogExtra | None = None,
        **_: Any,
    ) -> list[float | None]:
        """Score completions, all at once.

        Args:
            completions (`Sequence`): texts, or conversations of which the last message counts.
            problem (`Sequence[str]`): `Problem.to_row()` as JSON, one for each completion.
            replayed (`Sequence`, *optional*): what is known of each completion that is not to be run
                (`Rollout.replayed`); `None` for the others.
            log_metric (`Callable`, *optional*): TRL's `log_metric(name, value)`.
            log_extra (`Callable`, *optional*): TRL's `log_extra(column, values)`, for its table of completions.

        Returns:
            `list[float | None]`: tier rewards in [0, 1]; `None` where the failure was ours, which TRL leaves out of
            the group, and for what is not run.

        Raises:
            FatalExecutorError: the executor refuses every call, or the budget is spent: the run must stop.
        """
        start = time.monotonic()
        scored = await (self.begun or self.score(completions, problem, replayed))
        self.waited = time.monotonic() - start
        self.last = _with_replayed(scored.rollouts, completions, problem, replayed)
        if log_metric is not None:
            assert self.scorer is not None
            judged = self.scorer.judge.counts.metrics() if self.scorer.judge is not None else {}
            # Workers that a program left changed or dead, a program so far: near 0 unless the policy attacks them.
            attacked = {"sandbox/replaced_workers": self.scorer.grader.sandbox.counts.replaced_share}
            for name, value in {**stage_metrics(scored.rollouts, scored.wall_seconds), **judged, **attacked}.items():
                log_metric(name, value)
        if log_extra is not None:
            for name, column in table_columns(self.last).items():
                log_extra(name, column)
        return [rollout.reward for rollout in self.last]

    async def score(
        self,
        completions: Sequence[Any],
        problem: Sequence[str],
        replayed: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> Scored:
        """Run and grade what is not replayed, all at once; arguments and errors as for a call."""
        if self.scorer is None:
            raise RuntimeError("WorkflowReward.scorer must be set before the first call")
        known = replayed if replayed is not None else [None] * len(completions)
        pairs = [
            (Problem.from_row(json.loads(row)), completion_text(completion))
            for completion, row, past in zip(completions, problem, known, strict=True)
            if past is None
        ]
        start = time.monotonic()
        rollouts = await score_all(self.scorer, pairs)
        return Scored(rollouts, time.monotonic() - start)


def _with_replayed(
    scored: Sequence[Rollout],
    completions: Sequence[Any],
    problem: Sequence[str],
    replayed: Sequence[Mapping[str, Any] | None] | None,
) -> list[Rollout]:
    """All rollouts of a call in the order of its completions, those included that were not run."""
    rollouts = iter(scored)
    known = replayed if replayed is not None else [None] * len(completions)
    return [
        next(rollouts)
        if past is None
        else Rollout(Problem.from_row(json.loads(row)), completion_text(completion), replayed=past)
        for completion, row, past in zip(completions, problem, known, strict=True)
    ]


async def score_all(
    scorer: RolloutScorer,
    pairs: Sequence[tuple[Problem, str]],
    on_result: Callable[[Rollout], None] | None = None,
) -> list[Rollout]:
    """Score many completions at once; the first error that is not a verdict cancels the rest and is raised.

    Args:
        scorer (`RolloutScorer`): where they are run.
        pairs (`Sequence[tuple[Problem, str]]`): problems with completions.
        on_result (`Callable`, *optional*): called with each rollout as it finishes.
    """

    async def one(problem: Problem, completion: str) -> Rollout:
        rollout = await scorer.score(completion, problem)
        if on_result is not None:
            on_result(rollout)
        return rollout

    return await gather_or_cancel(one(problem, completion) for problem, completion in pairs)


def completion_text(completion: Any) -> str:
    """Return the text of a completion in TRL's standard or conversational form."""
    if isinstance(completion, str):
        return completion
    content = completion[-1].get("content") if completion else ""
    return content if isinstance(content, str) else ""


def table_columns(rollouts: Sequence[Rollout]) -> dict[str, list[Any]]:
    """Return what the completions table shows of rollouts, by column. Nothing of it knows a gold answer or hidden test.

    `answer` is the workflow's own, `trace` its operators in order with what they cost.
    """
    return {
        "workflow": [rollout.workflow.text if rollout.workflow else None for rollout in rollouts],
        "tier": [rollout.grade.tier if rollout.grade else None for rollout in rollouts],
        "outcome": [rollout.ending for rollout in rollouts],
        "answer": [_cut(rollout.trace.answer) if rollout.trace else None for rollout in rollouts],
        "trace": [_short(rollout.trace) if rollout.trace else _cut(rollout.invalid) for rollout in rollouts],
    }


def _short(trace: Trace) -> str:
    steps = [call.operator + (f" ({call.error})" if call.error else "") for call in trace.calls]
    steps += [f"{trace.error.kind}: {trace.error.message}"] if trace.error else []
    return _cut(f"{trace.tokens} tokens, ${trace.cost_usd:.4f}, {trace.seconds:.1f} s: {' > '.join(steps)}") or ""


def _cut(text: str | None) -> str | None:
    """Shorten to a cell; lone surrogates cannot be written as UTF-8."""
    return None if text is None else text[:MAX_CELL_CHARS].encode("utf-8", "replace").decode("utf-8")


def stage_metrics(rollouts: Sequence[Rollout], wall_seconds: float = 0.0) -> dict[str, float]:
    """Return where completions got to: shares in [0, 1] over all rollouts, and means a rollout.

    `workflow/valid` parsed and passed the checks; `workflow/executed` also ran to its end; `reward/tier_1` to
    `reward/tier_5` share the graded ones; `workflow/operators` calls, `executor/tokens` and `executor/cost_usd` a
    rollout; `executor/cache_hit` the share of operator calls answered from the cache; `workflow/infra_error` ours;
    `executor/lost_seconds` waited a rollout for retries, limits and outages; `executor/efficiency` the longest
    workflow's own time over the wall time of all (`wall_seconds`): 1 when nothing had to queue.
    """
    if not rollouts:
        return {}
    tiers = Counter(rollout.grade.tier for rollout in rollouts if rollout.grade is not None)
    traces = [rollout.trace for rollout in rollouts if rollout.trace is not None]
    calls = [call for trace in traces for call in trace.calls if call.prompt_tokens]
    count = len(rollouts)
    longest = max((trace.seconds - trace.lost_seconds for trace in traces), default=0.0)
    return {
        "workflow/valid": fmean(rollout.workflow is not None for rollout in rollouts),
        "workflow/executed": fmean(rollout.ending == "ok" for rollout in rollouts),
        "workflow/infra_error": fmean(rollout.ending == "infra_error" for rollout in rollouts),
        "workflow/operators": sum(len(trace.calls) for trace in traces) / count,
        "executor/tokens": sum(trace.tokens for trace in traces) / count,
        "executor/cost_usd": sum(trace.cost_usd for trace in traces) / count,
        "executor/lost_seconds": sum(trace.lost_seconds for trace in traces) / count,
        "executor/efficiency": min(1.0, longest / wall_seconds) if wall_seconds > 0 else 0.0,
        "executor/cache_hit": fmean(call.cached for call in calls) if calls else 0.0,
        **{f"reward/tier_{tier}": tiers[tier] / max(1, sum(tiers.values())) for tier in sorted(TIER_REWARDS)},
    }
