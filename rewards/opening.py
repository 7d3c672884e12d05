"""The scorer with everything it needs, opened together and closed together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Unpack

from aflow_ops.executor import ExecutorConfig
from aflow_ops.opening import RuntimeOptions, open_runtime
from rewards.judge import JudgeConfig
from rewards.rollout import RolloutScorer


@asynccontextmanager
async def open_scorer(
    config: ExecutorConfig, *, judge: JudgeConfig | None = None, seed: str = "", **options: Unpack[RuntimeOptions]
) -> AsyncIterator[RolloutScorer]:
    """Open what turns completions into rewards: executor, sandbox and runtime (`scorer.runtime`), and the graders.

    Args:
        config (`ExecutorConfig`): the executor's flags.
        judge (`JudgeConfig`, *optional*): who is asked about disputable answers; nobody by default.
        seed (`str`): of the run; see `RolloutScorer`.
        options (`RuntimeOptions`): see `aflow_ops/opening.py`.

    Raises:
        UsageError: no key, a missing package, or a kernel that cannot confine code.
        ExecutorError: the embedded executor did not start.

    Example:

        async with open_scorer(config, workflow_timeout=60) as scorer:
            rollout = await scorer.score(completion, problem)
    """
    async with open_runtime(config, **options) as runtime:
        yield RolloutScorer(runtime, runtime.sandbox, judge, seed)
