"""Measure the reward pipeline stage by stage: `make bench`, about a minute.

Each line is one stage with its number and what to compare it with. The endpoint is a local HTTP server with a fixed
latency, in this process, so its own work is included.
"""

import asyncio
import os
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL
from collections.abc import Awaitable, Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from aflow_ops.executor import ExecutorConfig, open_executor
from aflow_ops.language import parse_workflow
from aflow_ops.runtime import RuntimeLimits, WorkflowRuntime
from aflow_ops.sandbox import open_sandbox
from data.corpus import load_corpus
from data.registry import load_problems
from rewards.code_grader import grade_code
from rewards.math_grader import grade_math
from scripts.cli import run_command
from tests.stub_endpoint import StubEndpoint

LATENCY, WORKFLOWS, CALLS = 0.5, 256, 4
SEQUENCE = (
    "async def workflow(problem):\n    text = problem\n"
    f"    for _ in range({CALLS}):\n"
    "        text = (await custom(input=text + '{}'))['response']\n    return text"
)


async def seconds_of(work: Callable[[], Awaitable[object]]) -> float:
    """Wall seconds of one await."""
    start = time.monotonic()
    await work()
    return time.monotonic() - start


async def parsing() -> str:
    """Parse and check every corpus workflow 20 times."""
    corpus = load_corpus()
    start = time.monotonic()
    for _ in range(20):
        for item in corpus:
            parse_workflow(item.text, domain=item.domains[0], has_entry_point=item.domains[0] == "code")
    return f"{(time.monotonic() - start) / 20 / len(corpus) * 1e3:.2f} ms a workflow"


async def running() -> str:
    """Run many workflows that wait for the executor most of their life."""
    os.environ.setdefault("OPENAI_API_KEY", "sk-bench")
    problem = load_problems("arithmetic", "train", 1, 0)[0]
    with StubEndpoint(latency=LATENCY) as stub:
        config = ExecutorConfig(
            executor_base_url=stub.url, executor_cache_dir="none", executor_max_concurrency=WORKFLOWS
        )
        workflows = [parse_workflow(SEQUENCE.format(i), domain="math", has_entry_point=False) for i in range(WORKFLOWS)]
        async with (
            open_executor(config) as executor,
            open_sandbox() as sandbox,
            WorkflowRuntime(executor, sandbox, RuntimeLimits(processes=WORKFLOWS)) as runtime,
        ):
            taken = await seconds_of(lambda: asyncio.gather(*(runtime.run(w, problem.view) for w in workflows)))
    return f"{taken:.2f} s"


async def sandboxing() -> str:
    """Start confined interpreters, two at a time as the graders do."""
    sandbox = open_sandbox()
    taken = await seconds_of(lambda: asyncio.gather(*(sandbox.run("print(1)", timeout=10) for _ in range(40))))
    return f"{taken / 40 * 1e3:.0f} ms a run"


async def bare_interpreter() -> str:
    """The same without confinement, one after the other."""
    start = time.monotonic()
    for _ in range(40):
        process = await asyncio.create_subprocess_exec(sys.executable, "-I", "-c", "print(1)", stdout=DEVNULL)
        await process.wait()
    return f"{(time.monotonic() - start) / 40 * 1e3:.0f} ms a run"


async def code_grading() -> str:
    """Grade canonical solutions of HumanEval, every hidden test timed apart."""
    sandbox, problems = open_sandbox(), load_problems("humaneval", "train", 32, 0)
    taken = await seconds_of(lambda: asyncio.gather(*(grade_code(p.answer, p, sandbox) for p in problems)))
    return f"{taken / len(problems) * 1e3:.0f} ms a solution"


async def math_grading() -> str:
    """Grade numbers, which never needs the sandbox."""
    sandbox, problems = open_sandbox(), load_problems("gsm_symbolic", "train", 200, 0)
    taken = await seconds_of(lambda: asyncio.gather(*(grade_math(p.answer, p, sandbox) for p in problems)))
    return f"{taken / len(problems) * 1e3:.2f} ms an answer"


async def embedded_executor() -> str:
    """Ask the embedded executor 48 different questions, 8 at a time."""
    problems = load_problems("arithmetic", "train", 48, 99)
    with tempfile.TemporaryDirectory() as folder:
        config = ExecutorConfig(executor="local", executor_cache_dir="none", executor_max_concurrency=8)
        async with (
            open_executor(config, run_dir=Path(folder)) as executor,
            open_sandbox() as sandbox,
            WorkflowRuntime(executor, sandbox, RuntimeLimits()) as runtime,
        ):
            workflow = parse_workflow("Programmer", domain="math", has_entry_point=False)
            taken = await seconds_of(lambda: asyncio.gather(*(runtime.run(workflow, p.view) for p in problems)))
            calls = executor.usage.calls
    return f"{calls / taken:.1f} calls a second"


STAGES: list[tuple[str, Callable[[], Awaitable[str]], str]] = [
    ("parse and check", parsing, ""),
    (f"run {WORKFLOWS} workflows x {CALLS} calls x {LATENCY} s", running, f"ideal {CALLS * LATENCY:.2f} s"),
    ("sandboxed interpreter", sandboxing, "two at a time"),
    ("bare interpreter", bare_interpreter, "one at a time"),
    ("grade code (HumanEval)", code_grading, ""),
    ("grade math (numbers)", math_grading, ""),
    ("embedded executor (Programmer)", embedded_executor, "runs of solve() included"),
]


def main() -> None:
    """Run every stage and print the table."""
    console = Console()
    table = Table(title=f"{os.cpu_count()} cores, Python {sys.version.split()[0]}", title_justify="left")
    for column in ("stage", "measured", "compare"):
        table.add_column(column)
    for name, stage, note in STAGES:
        with console.status(name):
            table.add_row(name, asyncio.run(stage()), note)
    console.print(table)


if __name__ == "__main__":
    sys.exit(run_command(main))
