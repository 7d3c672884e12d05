"""Evaluate a fixed workflow, or a policy that writes one for each problem.

    python scripts/evaluate.py --data rows.jsonl --workflow workflow.py --output outputs/eval
    python scripts/evaluate.py --data rows.jsonl --model Qwen/Qwen2.5-7B-Instruct --adapter outputs/grpo_mixed \\
        --output outputs/eval --num_samples 4

Rows: one JSON object a line, {"question", "answer", "source"} and the optional keys of data/jsonl.py. Writes rows.jsonl
(one graded row per problem and sample) and summary.json into the output folder. A run that was interrupted goes on
where it stopped when it is given the same arguments.
"""

import argparse
import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from aflow_ops.concurrency import gather_or_cancel
from aflow_ops.errors import BudgetExceededError, UsageError
from aflow_ops.executor import (
    ExecutorConfig,
    check_executor,
    executor_argument_group,
    executor_config_from,
    open_executor,
)
from aflow_ops.policy_prompt import PROMPT_STYLES, policy_messages
from aflow_ops.runtime import RuntimeLimits, WorkflowRuntime
from aflow_ops.sandbox import open_sandbox
from data.files import write_atomically
from data.jsonl import read_problems
from data.problem import Problem
from rewards.evaluation import summarize_rows
from rewards.judge import JudgeConfig
from rewards.rollout import RolloutScorer
from scripts.cli import run_command

Row = dict[str, Any]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", type=Path, required=True, help="problems, a JSONL file")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--workflow", type=Path, help="file with one workflow, run on every problem")
    what.add_argument("--model", help="policy: a Hub name or a folder")
    parser.add_argument("--adapter", help="PEFT adapter for the model: a Hub name or a folder")
    parser.add_argument("--output", type=Path, required=True, help="folder for rows.jsonl and summary.json")
    parser.add_argument("--num_samples", type=int, default=1, help="samples per problem, for pass@k [1]")
    parser.add_argument("--temperature", type=float, default=0.15, help="the policy's sampling temperature [0.15]")
    parser.add_argument("--max_completion_length", type=int, default=1024, help="tokens of one completion [1024]")
    parser.add_argument(
        "--prompt_style", choices=PROMPT_STYLES, help="policy prompt [what the adapter was trained with, else full]"
    )
    parser.add_argument("--batch_size", type=int, default=16, help="completions generated at once [16]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the policy's sampling [0]")
    parser.add_argument("--workflow_timeout", type=float, default=180.0, help="seconds for one workflow [180]")
    parser.add_argument("--unsafe_subprocess", action="store_true", help="run solution code with rlimits only")
    parser.add_argument("--judge", action="store_true", help="ask the executor about answers that the rules may miss")
    executor_argument_group(parser)
    arguments = parser.parse_args()
    if arguments.num_samples < 1:
        parser.error(f"--num_samples {arguments.num_samples} must be at least 1")
    if arguments.adapter and not arguments.model:
        parser.error("--adapter needs --model, the base model that it belongs to")
    return arguments


def completions_for(arguments: argparse.Namespace, samples: Sequence[Problem], console: Console) -> list[str]:
    """Return one completion for every sample: the fixed workflow's text, or what the policy writes."""
    if arguments.workflow is not None:
        try:
            text = arguments.workflow.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--workflow {arguments.workflow} cannot be read: {error}") from None
        return [text] * len(samples)
    # torch takes seconds to import and a fixed workflow does not need it
    from recipes.generation import generate_completions, load_policy, trained_prompt_style
    from recipes.progress import quiet_libraries

    quiet_libraries()
    model, tokenizer = load_policy(arguments.model, arguments.adapter)
    style = arguments.prompt_style or trained_prompt_style(arguments.adapter) or "full"
    with Progress(console=console) as progress:
        task = progress.add_task("writing workflows", total=len(samples))
        return generate_completions(
            model,
            tokenizer,
            [policy_messages(problem.view, style) for problem in samples],
            max_new_tokens=arguments.max_completion_length,
            temperature=arguments.temperature,
            batch_size=arguments.batch_size,
            seed=arguments.seed,
            on_batch=lambda done: progress.update(task, completed=done),
        )


class Journal:
    """Graded rows of an unfinished evaluation, kept as they come, so that a second start goes on from there.

    Args:
        path (`Path`): the journal.
        fingerprint (`str`): of everything that decides the rows; a journal of other arguments is not used.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        self.rows: dict[str, Row] = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        if lines and lines[0] == json.dumps(fingerprint):
            for line in lines[1:]:
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue  # cut off when the run was stopped
                self.rows[entry["key"]] = entry["row"]
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as file:
            file.write(json.dumps(fingerprint) + "\n")
            for key, row in self.rows.items():
                file.write(json.dumps({"key": key, "row": row}) + "\n")
        self._file = path.open("a", encoding="utf-8")

    def add(self, key: str, row: Row) -> None:
        """Keep one more row."""
        self.rows[key] = row
        self._file.write(json.dumps({"key": key, "row": row}) + "\n")
        self._file.flush()

    def close(self, *, finished: bool) -> None:
        """Close the file; a finished evaluation needs no journal."""
        self._file.close()
        if finished:
            self.path.unlink()


async def graded_rows(
    arguments: argparse.Namespace,
    config: ExecutorConfig,
    pairs: Sequence[tuple[Problem, str]],
    journal: Journal,
    console: Console,
) -> tuple[list[Row], dict[str, Any]]:
    """Run and grade every pair that the journal does not have; returns all rows in order, and the executor's totals."""
    keys = [f"{index}" for index in range(len(pairs))]
    seconds = {"startup": 0.0, "run": 0.0}
    start = time.monotonic()
    async with AsyncExitStack() as stack:
        executor = await stack.enter_async_context(open_executor(config, run_dir=arguments.output))
        sandbox = await stack.enter_async_context(open_sandbox(unsafe_subprocess=arguments.unsafe_subprocess))
        limits = RuntimeLimits(timeout=arguments.workflow_timeout, processes=config.workflows_at_once)
        runtime = await stack.enter_async_context(WorkflowRuntime(executor, sandbox, limits))
        scorer = RolloutScorer(runtime, sandbox, JudgeConfig(enabled=arguments.judge))
        progress = stack.enter_context(Progress(console=console))
        task = progress.add_task("running workflows", total=len(pairs), completed=len(journal.rows))
        seconds["startup"] = round(time.monotonic() - start, 3)
        start = time.monotonic()

        async def one(key: str, problem: Problem, completion: str) -> None:
            row = (await scorer.score(completion, problem)).to_row()
            if row["reward"] is not None:
                journal.add(key, row)
            else:
                journal.rows[key] = row  # a failure of ours: tried again by the next start
            progress.advance(task)

        todo = [(key, *pair) for key, pair in zip(keys, pairs, strict=True) if key not in journal.rows]
        await gather_or_cancel(one(*item) for item in todo)
        if scorer.spent is not None:
            raise BudgetExceededError(
                f"{scorer.spent}; the same command goes on from {len(journal.rows)} finished rows"
            )
        seconds["run"] = round(time.monotonic() - start, 3)
        usage = executor.usage
    return [journal.rows[key] for key in keys], {
        "calls": usage.calls,
        "cache_hits": usage.cache_hits,
        "seconds": seconds,
    }


def fingerprint(pairs: Sequence[tuple[Problem, str]], config: ExecutorConfig, *settings: object) -> str:
    """Return a hash of everything that decides the rows."""
    facts = [[problem.to_row(), completion] for problem, completion in pairs]
    facts.append([asdict(config), *settings])
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()


def without_clock(row: Row) -> Row:
    """Return a row without wall times: replaying an evaluation from the cache gives the same file, byte for byte.

    How long it took is in the summary.
    """
    if row["trace"] is None:
        return row
    clock = ("seconds", "lost_seconds")
    trace = {name: value for name, value in row["trace"].items() if name not in clock}
    calls = [{name: value for name, value in call.items() if name not in clock} for call in trace["calls"]]
    return {**row, "trace": {**trace, "calls": calls}}


def latencies(rows: Sequence[Row]) -> dict[str, float | None]:
    """Return the median and the 95th percentile of the workflows' wall seconds."""
    seconds = sorted(row["trace"]["seconds"] for row in rows if row["trace"] is not None)
    if not seconds:
        return {"p50": None, "p95": None}
    return {"p50": seconds[len(seconds) // 2], "p95": seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))]}


def show(summary: dict[str, Any], output: Path) -> None:
    """Print the summary as a table."""
    table = Table(title=f"{summary['n']} problems", title_justify="left")
    for column in ("", "problems", "reward", "correct", "valid"):
        table.add_column(column, justify="left" if not column else "right")
    for name, part in [*summary["by_domain"].items(), ("all", summary)]:
        means = ["-" if part[key] is None else f"{part[key]:.3f}" for key in ("reward", "correct", "valid")]
        table.add_row(name, str(part["n"]), *means)
    console = Console()
    console.print(table)
    console.print(
        f"outcomes {summary['outcomes']}; ${summary['cost_usd']:.4f}; {summary['calls']} executor calls, "
        f"{summary['cache_hits']} from the cache; rows and summary in {output}/",
        markup=False,
    )


def main() -> None:
    """Read, generate, run, grade, write."""
    arguments = parse_arguments()
    try:
        config = executor_config_from(arguments)
    except ValueError as error:
        raise UsageError(str(error)) from None
    problems = read_problems(arguments.data)
    asyncio.run(check_executor(config))
    console = Console(stderr=True)
    samples = [problem for problem in problems for _ in range(arguments.num_samples)]
    start = time.monotonic()
    pairs = list(zip(samples, completions_for(arguments, samples, console), strict=True))
    generation = time.monotonic() - start
    settings = arguments.workflow_timeout, arguments.judge
    journal = Journal(arguments.output / "rows.partial.jsonl", fingerprint(pairs, config, *settings))
    finished = False
    try:
        rows, totals = asyncio.run(graded_rows(arguments, config, pairs, journal, console))
        totals["seconds"]["startup"] = round(totals["seconds"]["startup"] + generation, 3)
        summary = {**summarize_rows(rows), **totals, "latency_seconds": latencies(rows)}
        with write_atomically(arguments.output / "rows.jsonl") as file:
            file.writelines(json.dumps(without_clock(row), ensure_ascii=False) + "\n" for row in rows)
        with write_atomically(arguments.output / "summary.json") as file:
            file.write(json.dumps(summary, indent=2) + "\n")
        finished = True
    finally:
        journal.close(finished=finished)
    show(summary, arguments.output)


if __name__ == "__main__":
    sys.exit(run_command(main))
