"""Measure the reward pipeline stage by stage: `make bench`, some six minutes on two idle cores; `--only` for less.

Each line is one stage with its number and what to compare it with, in the same run. The endpoint is a local HTTP server
with a fixed latency, in a process of its own. Writes the numbers to outputs/bench.json too.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL
from pathlib import Path

from rich.console import Console
from rich.table import Table

from aflow_ops.executor import ExecutorConfig, open_executor
from aflow_ops.language import parse_workflow
from aflow_ops.opening import open_runtime
from aflow_ops.sandbox import open_sandbox
from data.corpus import load_corpus
from data.files import write_atomically
from data.problem import DOMAINS
from data.registry import load_problems
from recipes.run.command import CommandParser, run_command
from scripts.benching import rings
from scripts.benching.evaluating import CALLS, LATENCY, SEQUENCE, WORKFLOWS
from scripts.benching.evaluating import STAGES as EVALUATING
from scripts.benching.grading import STAGES as GRADING
from scripts.benching.searching import STAGES as SEARCHING
from scripts.benching.serving import endpoint
from scripts.benching.stage import Stage, seconds_of


async def parsing() -> float:
    """Parse and check every corpus workflow 20 times; with prompts of its own, even none, it is not remembered."""
    corpus = load_corpus()
    start = time.monotonic()
    for _ in range(20):
        for item in corpus:
            has_tests = DOMAINS[item.domains[0]].has_tests
            parse_workflow(item.text, domain=item.domains[0], has_entry_point=has_tests, prompts={})
    return (time.monotonic() - start) / 20 / len(corpus) * 1e3


async def starting() -> float:
    """Parse, check and run workflows that ask nobody, one after the other: the median."""
    text = "async def workflow(problem):\n    return problem"
    problem = load_problems("arithmetic", "train", 1, 0)[0]
    with endpoint(0) as url:
        config = ExecutorConfig(executor_base_url=url, executor_cache_dir="none")
        async with open_runtime(config, workflows_at_once=8) as runtime:
            taken = []
            for _ in range(200):
                start = time.monotonic()
                workflow = parse_workflow(f"{text} + '{start}'", domain="math", has_entry_point=False, prompts={})
                await runtime.run(workflow, problem.view)
                taken.append(time.monotonic() - start)
    return sorted(taken)[len(taken) // 2] * 1e3


async def batch(workflows: int, latency: float = LATENCY) -> float:
    """Run many workflows that wait for the executor most of their life; the interpreters are started before."""
    problem = load_problems("arithmetic", "train", 1, 0)[0]
    with endpoint(latency) as url:
        config = ExecutorConfig(executor_base_url=url, executor_cache_dir="none", executor_max_concurrency=workflows)
        programs = [parse_workflow(SEQUENCE.format(i), domain="math", has_entry_point=False) for i in range(workflows)]
        async with open_runtime(config, workflows_at_once=min(workflows, 256)) as runtime:
            await asyncio.gather(*(runtime.run(program, problem.view) for program in programs))
            return await seconds_of(lambda: asyncio.gather(*(runtime.run(p, problem.view) for p in programs)))


async def running() -> float:
    """As many workflows as a large training step has."""
    return await batch(WORKFLOWS)


async def running_many() -> float:
    """Four times as many."""
    return await batch(4 * WORKFLOWS)


async def cache_hits() -> float:
    """Ask for 500 replies that are in the cache."""
    with endpoint(0) as url, tempfile.TemporaryDirectory() as folder:
        async with open_executor(ExecutorConfig(executor_base_url=url, executor_cache_dir=folder)) as executor:

            async def ask() -> None:
                for index in range(500):
                    message = [{"role": "user", "content": str(index)}]
                    await executor.complete(message, temperature=0, max_tokens=8)  # type: ignore[arg-type]

            await ask()
            return await seconds_of(ask) / 500 * 1e3


async def sandboxing(program: str = "print(1)") -> float:
    """Run a program in warm confined workers, two at a time; their start is not counted."""
    async with open_sandbox(concurrency=2) as sandbox:
        await asyncio.gather(*(sandbox.run(program, timeout=60) for _ in range(4)))
        taken = await seconds_of(lambda: asyncio.gather(*(sandbox.run(program, timeout=60) for _ in range(100))))
    return taken / 100 * 1e3


async def sandboxing_sympy() -> float:
    """The same for a program that imports sympy and numpy."""
    return await sandboxing("import numpy, sympy\nprint(sympy.Integer(1))")


async def bare_interpreter() -> float:
    """A fresh interpreter without confinement, one after the other."""
    start = time.monotonic()
    for _ in range(40):
        process = await asyncio.create_subprocess_exec(sys.executable, "-I", "-c", "print(1)", stdout=DEVNULL)
        await process.wait()
    return (time.monotonic() - start) / 40 * 1e3


async def trainer_overhead() -> float:
    """What the trainer adds to a step of TRL's own."""
    # torch takes seconds to import and no other stage needs it
    from scripts.benching.trainer import overhead

    with endpoint(0) as url:
        return await asyncio.to_thread(overhead, url)


async def with_rollouts_ahead(rollouts_ahead: int = 1) -> float:
    """A step's time over the longer of generating and training, and of running workflows; both are measured without.

    Workflows take 2 s, the policy about as long. Without rollouts ahead it is their sum over the longer one.
    """
    # torch takes seconds to import and no other stage needs it
    from scripts.benching.pipeline import step_times

    with endpoint(LATENCY) as url:
        plain = await asyncio.to_thread(step_times, url, SEQUENCE, rollouts_ahead=0)
        longer = max(plain.whole - plain.waited, plain.waited)
        if not rollouts_ahead:
            return plain.whole / longer
        ahead = await asyncio.to_thread(step_times, url, SEQUENCE, rollouts_ahead=rollouts_ahead)
        return ahead.whole / longer


async def embedded_executor() -> float:
    """Ask the embedded executor 48 different questions, 8 at a time."""
    problems = load_problems("arithmetic", "train", 48, 99)
    with tempfile.TemporaryDirectory() as folder:
        config = ExecutorConfig(executor="local", executor_cache_dir="none", executor_max_concurrency=8)
        async with open_runtime(config, run_dir=Path(folder)) as runtime:
            workflow = parse_workflow("Programmer", domain="math", has_entry_point=False)
            taken = await seconds_of(lambda: asyncio.gather(*(runtime.run(workflow, p.view) for p in problems)))
            return runtime.executor.usage.calls / taken


STAGES = [
    Stage("parse and check", parsing, "ms a workflow"),
    Stage("parse, check, start and end", starting, "ms a workflow", "median; goal 5"),
    Stage("the same in the second ring", lambda: rings.starting(endpoint), "ms a workflow", "median; goal 10"),
    Stage("256 in the second ring wait 0.5 s", lambda: rings.waiting(endpoint), "times 0.5 s"),
    Stage("256 in it wait past their limit", lambda: rings.limiting(endpoint), "times it", "goal 1.5"),
    Stage("one that waits in it holds", lambda: rings.memory(endpoint), "MiB"),
    Stage(f"run {WORKFLOWS} workflows x {CALLS} calls x {LATENCY} s", running, "s", "ideal 2, goal 3"),
    Stage(f"run {4 * WORKFLOWS} of them", running_many, "s", "goal: no more than four times as long"),
    *EVALUATING,
    Stage("a reply from the cache", cache_hits, "ms"),
    Stage("sandboxed program", sandboxing, "ms a run", "two at a time"),
    Stage("sandboxed program with sympy", sandboxing_sympy, "ms a run", "two at a time; an import takes a second"),
    Stage("bare interpreter", bare_interpreter, "ms a run", "one at a time"),
    *GRADING,
    *SEARCHING,
    Stage("trainer: a step over plain GRPO's", trainer_overhead, "% more", "goal 3"),
    Stage("trainer: a step without rollouts ahead", lambda: with_rollouts_ahead(0), "times the longer half"),
    Stage("trainer: a step with --rollouts_ahead 1", with_rollouts_ahead, "times the longer half", "goal 1.15"),
    Stage("embedded executor", embedded_executor, "calls a second", "Programmer, runs of solve() included"),
]


def main() -> None:
    """Run the stages and print the table."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("--only", default="", help="only stages whose name contains this")
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/bench.json"), help="file of the numbers [outputs/bench.json]"
    )
    arguments = parser.parse_args()
    os.environ.setdefault("OPENAI_API_KEY", "sk-bench")
    console = Console()
    table = Table(title=f"{os.cpu_count()} cores, Python {sys.version.split()[0]}", title_justify="left")
    for column in ("stage", "measured", "compare"):
        table.add_column(column)
    results = []
    for stage in STAGES:
        if arguments.only not in stage.name:
            continue
        with console.status(stage.name):
            value = asyncio.run(stage.measure())
        results.append({"stage": stage.name, "value": value, "unit": stage.unit})
        table.add_row(stage.name, f"{value:.3g} {stage.unit}", stage.compare)
    console.print(table)
    with write_atomically(arguments.output) as file:
        file.write(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(run_command(main))
