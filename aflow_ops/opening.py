"""Executor, sandbox and runtime, opened together and closed together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypedDict, Unpack

from aflow_ops.executor import ExecutorConfig, open_executor
from aflow_ops.runtime import RuntimeLimits, WorkflowRuntime
from aflow_ops.sandbox import open_sandbox


class RuntimeOptions(TypedDict, total=False):
    """What `open_runtime` can be told beside the executor's flags.

    Args:
        workflow_timeout (`float`, defaults to 180): wall seconds for one workflow.
        workflows_at_once (`int`): interpreters at most; by default as many as the executor can keep busy.
        unsafe_subprocess (`bool`, defaults to `False`): run solution code with resource limits only.
        run_dir (`Path`, *optional*): folder for the embedded executor's log and lock.
        ledger (`Path`, *optional*): file over which the processes of this machine share their rate limits.
        proven (`bool`, defaults to `False`): `check_executor` has had an answer from the endpoint.
    """

    workflow_timeout: float
    workflows_at_once: int
    unsafe_subprocess: bool
    run_dir: Path | None
    ledger: Path | None
    proven: bool


@asynccontextmanager
async def open_runtime(config: ExecutorConfig, **options: Unpack[RuntimeOptions]) -> AsyncIterator[WorkflowRuntime]:
    """Open what runs workflows. Its `executor` and `sandbox` close with it, in the opposite order.

    Args:
        config (`ExecutorConfig`): the executor's flags.
        options (`RuntimeOptions`): see there.

    Raises:
        UsageError: no key, a missing package, or a kernel that cannot confine code.
        ExecutorError: the embedded executor did not start.
    """
    limits = RuntimeLimits(
        timeout=options.get("workflow_timeout", RuntimeLimits.timeout),
        processes=options.get("workflows_at_once", config.workflows_at_once),
    )
    async with (
        open_executor(
            config,
            run_dir=options.get("run_dir"),
            ledger=options.get("ledger"),
            proven=options.get("proven", False),
        ) as executor,
        open_sandbox(unsafe_subprocess=options.get("unsafe_subprocess", False)) as sandbox,
        WorkflowRuntime(executor, sandbox, limits) as runtime,
    ):
        yield runtime
