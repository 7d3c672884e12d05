"""Evaluate a policy, fixed workflows, or published baselines on problems of any source.

    python scripts/evaluate.py --data gsm8k --workflow workflow.py --output outputs/eval
    python scripts/evaluate.py --data gsm8k humaneval --limit 200 --baseline all --output outputs/baselines
    python scripts/evaluate.py --data rows.jsonl --model Qwen/Qwen2.5-7B-Instruct --adapter outputs/grpo_mixed \\
        --output outputs/eval --num_samples 8 --pass_k 1 4 8
    python scripts/evaluate.py --data gsm8k --model my-policy --model_base_url http://localhost:8000/v1 --output ...
    python scripts/evaluate.py --data word_problems --agents recipes/math_tool.py --model MODEL --adapter outputs/RUN \\
        --output outputs/eval

Data: processed benchmarks by name (their test set; scripts/process_datasets.py), or JSONL files of {"question",
"answer", "source"} rows with the optional keys of data/jsonl.py. Writes rows.jsonl (one graded row per problem and
sample) and summary.json (tiers, the benchmarks' own metrics, pass@k, cost, latency, 95 % bootstrap intervals); several
workflows or baselines get a folder each. A team's controls (a single agent with as many tokens, the untrained roles)
have theirs beside its files. A run that was stopped goes on where it was when it is given the same
arguments, and pays for nothing twice. Compare runs with scripts/compare.py.
"""

import argparse
import asyncio
import dataclasses
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from aflow_ops.concurrency import gather_or_cancel
from aflow_ops.errors import BudgetExceededError, InfraError, UsageError
from aflow_ops.executor import (
    Executor,
    ExecutorConfig,
    check_executor,
    executor_argument_group,
    executor_config_from,
)
from aflow_ops.executor.address import OPENAI_URL, parse_address
from aflow_ops.operators import load_operators, operator_argument
from aflow_ops.policy_prompt import PROMPT_STYLES
from aflow_ops.terminal import printable
from data.files import claimed, write_atomically
from data.problem import Problem
from recipes.run.command import CommandParser, run_command
from rewards.baselines import PUBLISHED_BASELINES
from rewards.benchmark_metrics import benchmark_metrics
from rewards.evaluation import DEFAULT_PASS_K, summarize_rows
from rewards.judge import JudgeConfig
from rewards.opening import open_scorer
from rewards.rollout import RolloutScorer
from scripts.evaluating.journal import Journal, Row, fingerprint
from scripts.evaluating.problems import read_data, sources_of_policy
from scripts.evaluating.systems import System, ask_server, generate, name_base_model, systems


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("--data", nargs="+", required=True, help="processed benchmarks, or JSONL files")
    parser.add_argument("--limit", type=int, help="only the first so many problems of each")
    parser.add_argument(
        "--all_problems", action="store_true", help="also problems that the policy was trained on, as its run says"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--workflow", type=Path, help="file with one workflow, run on every problem; or a folder of them")
    what.add_argument("--model", help="policy: a Hub name or a folder, or its name at --model_base_url [the adapter's]")
    baselines = ["all", *PUBLISHED_BASELINES]
    parser.add_argument(
        "--agents", type=Path, help="recipe of a team, e.g. recipes/math_tool.py, that --model plays [--adapter]"
    )
    what.add_argument("--baseline", nargs="+", choices=baselines, metavar="NAME", help=f"{', '.join(baselines)}")
    parser.add_argument("--adapter", help="PEFT adapter for the model, e.g. outputs/RUN/best: a Hub name or a folder")
    parser.add_argument("--model_base_url", help="the policy is served here by an OpenAI-compatible server")
    parser.add_argument("--output", type=Path, required=True, help="folder for rows.jsonl and summary.json")
    parser.add_argument("--num_samples", type=int, default=1, help="samples per problem, for pass@k [1]")
    parser.add_argument("--pass_k", type=int, nargs="+", help="k of pass@k, at most --num_samples [1, 2, 4, ...]")
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
    operator_argument(parser)
    executor_argument_group(parser)
    arguments = parser.parse_args()
    for name in ("num_samples", "batch_size", "limit", "max_completion_length"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            parser.error(f"--{name} {value} must be at least 1")
    if not arguments.temperature >= 0:  # nan too
        parser.error(f"--temperature {arguments.temperature} must not be negative")
    if not arguments.workflow_timeout > 0:
        parser.error(f"--workflow_timeout {arguments.workflow_timeout} must be above 0")
    for k in arguments.pass_k or ():
        if not 1 <= k <= arguments.num_samples:
            parser.error(f"--pass_k {k} must be from 1 to --num_samples {arguments.num_samples}")
    if not (arguments.workflow or arguments.model or arguments.baseline or arguments.adapter):
        parser.error("one of --workflow, --model, --adapter and --baseline is required")
    if arguments.adapter and (arguments.workflow or arguments.baseline):
        parser.error("--adapter is a policy's: leave out --workflow and --baseline")
    if arguments.model_base_url and (not arguments.model or arguments.adapter):
        parser.error("--model_base_url needs --model, the name at that server, and takes no --adapter: serve it there")
    try:
        parse_address(arguments.model_base_url or OPENAI_URL)
    except ValueError as error:
        parser.error(str(error).replace("executor_base_url=", "--model_base_url "))
    return arguments


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What all systems are evaluated with: flags, executor, problems repeated `num_samples` times, and a console."""

    arguments: argparse.Namespace
    config: ExecutorConfig
    samples: Sequence[Problem]
    console: Console

    def folder(self, system: System, count: int) -> Path:
        """Where a system's files go."""
        output: Path = self.arguments.output
        return output if count == 1 else output / system.name

    def fingerprint(self, system: System) -> str:
        """What decides the system's rows."""
        arguments = self.arguments
        settings = arguments.num_samples, arguments.workflow_timeout, arguments.judge, *arguments.operators
        facts = [problem.to_row() for problem in self.samples], dataclasses.asdict(self.config), settings
        return fingerprint(system.facts, *facts)


def finished_before(folder: Path, facts: str) -> bool:
    """Whether the folder has the results of this very evaluation, all rows graded; shows them then.

    Raises:
        UsageError: the folder is a training run's.
    """
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        summary = None
    if not isinstance(summary, dict) or "fingerprint" not in summary:
        raise UsageError(
            f"--output {folder}: its summary.json is not of an evaluation and would be lost; choose another folder"
        )
    if summary["fingerprint"] != facts:
        print(f"{folder}/ has another evaluation, which this one replaces when it is done", file=sys.stderr)
        return False
    if summary["outcomes"]["infra_error"] or not (folder / "rows.jsonl").is_file():
        return False
    print(f"{folder}/ has this evaluation already; another --output runs it again", file=sys.stderr)
    show(summary, folder)
    return True


@contextmanager
def bar(evaluation: Evaluation, label: str) -> Any:
    """Show progress over all samples while inside; yields what advances it."""
    with Progress(console=evaluation.console) as progress:
        task = progress.add_task(label, total=len(evaluation.samples))
        yield lambda count: progress.advance(task, count)


async def write_completions(evaluation: Evaluation, system: System, journal: Journal) -> list[str]:
    """Return one completion for every sample: the fixed workflow's text, or what the policy wrote."""
    arguments = evaluation.arguments
    if system.text is not None:
        return [system.text(problem) for problem in evaluation.samples]
    if arguments.model_base_url:
        config = dataclasses.replace(
            evaluation.config,
            executor="openai",
            executor_model=arguments.model,
            executor_base_url=arguments.model_base_url,
            executor_budget_usd=0.0,  # the policy's server has no price that is known here
            executor_price=None,
        )
        with bar(evaluation, "writing workflows") as advance:
            await ask_server(arguments, config, evaluation.samples, journal, advance)
    return [journal.completions[index] for index in range(len(evaluation.samples))]


async def graded_rows(
    evaluation: Evaluation, completions: Sequence[str], journal: Journal, scorer: RolloutScorer, label: str
) -> list[Row]:
    """Run and grade what the journal does not have; returns all rows in order.

    Raises:
        BudgetExceededError: the budget is spent; what was graded is in the journal.
    """
    samples, repeats = evaluation.samples, evaluation.arguments.num_samples
    rows = dict(journal.rows)

    async def one(index: int, advance: Callable[[int], object]) -> None:
        rollout = await scorer.score(completions[index], samples[index], repeat=index % repeats)
        rows[index] = {**rollout.to_row(), "metrics": benchmark_metrics(rollout)}
        if rollout.reward is not None:  # a failure of ours is tried again by the next start
            journal.add_row(index, rows[index])
        advance(1)

    with bar(evaluation, label) as advance:
        advance(len(rows))
        await gather_or_cancel(one(index, advance) for index in range(len(samples)) if index not in rows)
    if scorer.spent is not None:
        raise BudgetExceededError(f"{scorer.spent}; the same command goes on from {len(journal.rows)} finished rows")
    return [rows[index] for index in range(len(samples))]


def reproducible(row: Row, executor: Executor) -> Row:
    """Return a row without what depends on the day: wall times, and what the cache saved.

    Costs are by the price table, whether paid or not. So replaying an evaluation, or one that was killed and went on,
    gives the same file, byte for byte; what was really paid and how long it took is in the summary.
    """
    if row["trace"] is None:
        return row
    clock = ("seconds", "lost_seconds", "cached")
    trace = {name: value for name, value in row["trace"].items() if name not in clock}
    calls = [{name: value for name, value in call.items() if name not in clock} for call in trace["calls"]]
    for call in (*calls, trace):
        call["cost_usd"] = executor.price(call["prompt_tokens"], call["completion_tokens"])
    return {**row, "trace": {**trace, "calls": calls}}


def latencies(rows: Sequence[Row]) -> dict[str, float | None]:
    """Return the median and the 95th percentile of the workflows' own seconds, without what they waited for us."""
    traces = [row["trace"] for row in rows if row["trace"] is not None]
    seconds = sorted(trace["seconds"] - trace["lost_seconds"] for trace in traces)
    if not seconds:
        return {"p50": None, "p95": None}
    return {"p50": seconds[len(seconds) // 2], "p95": seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))]}


async def evaluate(evaluation: Evaluation, found: Sequence[tuple[System, Path, Journal]], generation: float) -> None:
    """Run, grade and write every system's rows and summary, with one executor for all."""
    arguments, config = evaluation.arguments, evaluation.config
    start = time.monotonic() - generation
    async with open_scorer(
        config,
        judge=JudgeConfig(enabled=arguments.judge),
        workflow_timeout=arguments.workflow_timeout,
        unsafe_subprocess=arguments.unsafe_subprocess,
        run_dir=arguments.output,
        proven=True,
    ) as scorer:
        executor = scorer.runtime.executor
        for system, folder, journal in found:
            completions = await write_completions(evaluation, system, journal)
            executor.on_paid = journal.add_payment
            began = time.monotonic()
            label = "running workflows" if len(found) == 1 else f"running {system.name}"
            rows = await graded_rows(evaluation, completions, journal, scorer, label)
            seconds = {"startup": round(began - start, 3), "run": round(time.monotonic() - began, 3)}
            write_results(evaluation, folder, journal, rows, executor, seconds)
            start = time.monotonic()


def write_results(
    evaluation: Evaluation,
    folder: Path,
    journal: Journal,
    rows: Sequence[Row],
    executor: Executor,
    seconds: dict[str, float],
) -> None:
    """Write rows.jsonl and summary.json, print the table, and drop the journal.

    Raises:
        InfraError: every run failed through no fault of a workflow's.
    """
    lasting = [reproducible(row, executor) for row in rows]
    summary = summarize_rows(lasting, evaluation.arguments.pass_k or DEFAULT_PASS_K)
    calls = sum(call["replies"] for row in lasting if row["trace"] is not None for call in row["trace"]["calls"])
    summary |= {
        "cost_usd": journal.paid.cost_usd,
        "calls": calls,
        "cache_hits": max(0, calls - journal.paid.calls),
        "cache": executor.cache_statistics,
        "seconds": seconds,
        "latency_seconds": latencies(rows),
        "fingerprint": journal.facts,
    }
    with write_atomically(folder / "rows.jsonl") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in lasting)
    with write_atomically(folder / "summary.json") as file:
        file.write(json.dumps(summary, indent=2) + "\n")
    journal.close(finished=True)
    show(summary, folder)
    reasons = Counter(row["invalid"] for row in lasting if row["invalid"])
    if reasons:
        reason, _ = reasons.most_common(1)[0]
        print(
            f"{reasons.total()} of {len(lasting)} rows have no valid workflow, most often: {printable(reason)}",
            file=sys.stderr,
        )
    if lasting and all(row["reward"] is None for row in lasting):
        raise InfraError(f"nothing could be graded: {lasting[0]['infra_error']}; the same command tries again")


def show(summary: dict[str, Any], output: Path) -> None:
    """Print the summary as a table."""
    low, high = summary["reward_ci95"] or (0.0, 0.0)
    table = Table(title=f"{output.name}: {summary['n']} problems", title_justify="left")
    for column in ("", "problems", "reward", "correct", "valid"):
        table.add_column(column, justify="left" if not column else "right")
    for name, part in [*summary["by_domain"].items(), ("all", summary)]:
        means = ["-" if part[key] is None else f"{part[key]:.3f}" for key in ("reward", "correct", "valid")]
        table.add_row(name, str(part["n"]), *means)
    metrics = [
        f"{source} {name} {value['mean']:.3f} [{value['ci95'][0]:.3f}, {value['ci95'][1]:.3f}]"
        for source, values in summary["metrics"].items()
        for name, value in values.items()
    ]
    passes = [f"pass@{k} {value:.3f}" for k, value in summary["pass_at_k"].items()]
    console = Console()
    console.print(table)
    for line in (
        f"reward 95% interval [{low:.3f}, {high:.3f}]; " + "; ".join([*metrics, *passes]),
        f"outcomes {summary['outcomes']}; ${summary['cost_usd']:.4f} paid; {summary['calls']} executor calls, "
        f"{summary['cache_hits']} from the cache; rows and summary in {output}/",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """Read, generate, run, grade, write."""
    arguments = parse_arguments()
    if arguments.agents is not None:
        from scripts.evaluating.agents import evaluate_team  # loads torch

        name_base_model(arguments)
        evaluate_team(arguments)
        return
    load_operators(arguments.operators)
    config = executor_config_from(arguments)
    name_base_model(arguments)
    found = systems(arguments)
    problems = read_data(arguments.data, arguments.limit, sources_of_policy(arguments))
    samples = [problem for problem in problems for _ in range(arguments.num_samples)]
    evaluation = Evaluation(arguments, config, samples, Console(stderr=True))
    asyncio.run(check_executor(config))
    with claimed(arguments.output):
        run(evaluation, found)


def run(evaluation: Evaluation, found: Sequence[System]) -> None:
    """Evaluate what is not finished."""
    arguments = evaluation.arguments
    start = time.monotonic()
    opened: list[tuple[System, Path, Journal]] = []
    try:
        for system in found:
            folder, facts = evaluation.folder(system, len(found)), evaluation.fingerprint(system)
            if not finished_before(folder, facts):
                opened.append((system, folder, Journal(folder / "rows.partial.jsonl", facts)))
        if opened and arguments.model and not arguments.model_base_url:
            with bar(evaluation, "writing workflows") as advance:
                generate(arguments, evaluation.samples, opened[0][2], advance)
        if opened:
            asyncio.run(evaluate(evaluation, opened, time.monotonic() - start))
    finally:
        for _, _, journal in opened:
            journal.close(finished=False)


if __name__ == "__main__":
    sys.exit(run_command(main))
