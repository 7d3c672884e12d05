"""What the second ring costs: starting it, keeping many workflows waiting in it, and the memory of one that waits."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager

import psutil

from aflow_ops.executor import ExecutorConfig, open_executor
from aflow_ops.language import parse_workflow
from aflow_ops.runtime import RuntimeLimits, WorkflowRuntime
from aflow_ops.sandbox import open_sandbox
from data.problem import ProblemView

Endpoint = Callable[[float], AbstractContextManager[str]]
VIEW = ProblemView("What is 6 * 7?", "math")
IDLE = "async def workflow(problem):\n    return problem"
ASKING = "async def workflow(problem):\n    return (await custom(input=problem + '{}'))['response']"
# Seconds. Long enough for 256 processes to be forked one after the other.
LIMIT = 10.0


@asynccontextmanager
async def cpython(url: str, workflows: int, limit: float = 180.0) -> AsyncIterator[WorkflowRuntime]:
    """A runtime that uses the second ring for everything, with its workers warm."""
    config = ExecutorConfig(executor_base_url=url, executor_cache_dir="none", executor_max_concurrency=workflows)
    async with (
        open_sandbox() as sandbox,
        open_executor(config) as executor,
        WorkflowRuntime(executor, sandbox, RuntimeLimits(timeout=limit), "cpython") as runtime,
    ):
        await run_all(runtime, [IDLE] * 2)
        yield runtime


async def run_all(runtime: WorkflowRuntime, sources: list[str]) -> None:
    """Run workflows at the same time."""
    parsed = [parse_workflow(source, domain="math", has_entry_point=False, prompts={}) for source in sources]
    await asyncio.gather(*(runtime.run(workflow, VIEW) for workflow in parsed))


async def starting(endpoint: Endpoint) -> float:
    """Milliseconds from a workflow's text to the end of its run, which asks nobody: the median of 100."""
    with endpoint(0) as url:
        async with cpython(url, 1) as runtime:
            taken = []
            for _ in range(100):
                start = time.monotonic()
                await run_all(runtime, [IDLE])
                taken.append(time.monotonic() - start)
    return statistics.median(taken) * 1e3


async def waiting(endpoint: Endpoint, workflows: int = 256) -> float:
    """How many times a reply of half a second many workflows take that wait for one at the same time."""
    with endpoint(0.5) as url:
        async with cpython(url, workflows) as runtime:
            start = time.monotonic()
            await run_all(runtime, [ASKING.format(number) for number in range(workflows)])
            return (time.monotonic() - start) / 0.5


async def limiting(endpoint: Endpoint, workflows: int = 256) -> float:
    """How many times their limit many workflows take that wait for longer than it."""
    with endpoint(10 * LIMIT) as url:
        async with cpython(url, workflows, LIMIT) as runtime:
            start = time.monotonic()
            await run_all(runtime, [ASKING.format(number) for number in range(workflows)])
            return (time.monotonic() - start) / LIMIT


async def memory(endpoint: Endpoint, workflows: int = 64) -> float:
    """MiB that a workflow holds for itself while it waits: the mean."""
    with endpoint(3600) as url:
        async with cpython(url, workflows) as runtime:
            before = set(psutil.Process().children(recursive=True))
            running = asyncio.ensure_future(run_all(runtime, [ASKING.format(number) for number in range(workflows)]))
            children: set[psutil.Process] = set()
            while len(children) < workflows:
                await asyncio.sleep(0.5)
                children = set(psutil.Process().children(recursive=True)) - before
            await asyncio.sleep(2)  # the last ones ask
            held: list[int] = [child.memory_full_info().uss for child in children]
            running.cancel()
            await asyncio.wait([running])
    return statistics.mean(held) / 2**20
