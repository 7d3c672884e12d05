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
workflows or baselines get a folder each, and a team's controls (a single agent with as many tokens, the untrained
roles) have theirs beside its files. A run that was stopped goes on where it was when it is given the same
arguments, and pays for nothing twice. Compare runs with scripts/compare.py. On several machines: --shard 1/8 to 8/8,
each with an --output of its own, then --merge of these folders, which gives what one run would have.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from aflow_ops.agents.tools.corpus import OWN
from aflow_ops.concurrency import collecting_seldom
from aflow_ops.errors import BudgetExceededError
from aflow_ops.executor import (
    ExecutorConfig,
    check_executor,
    executor_argument_group,
    executor_config_from,
)
from aflow_ops.executor.address import OPENAI_URL, parse_address
from aflow_ops.operators import load_operators, operator_argument
from aflow_ops.policy_prompt import PROMPT_STYLES
from aflow_ops.sandbox import open_sandbox
from data.files import claimed
from recipes.run.command import CommandParser, run_command
from recipes.settings.corpus import corpus_argument_group
from rewards.baselines import PUBLISHED_BASELINES
from rewards.judge import JudgeConfig
from rewards.opening import open_scorer
from rewards.rollout import RolloutScorer
from scripts.evaluating.candidates import Candidate, PolicySettings, ask_server, candidates, generate
from scripts.evaluating.evaluation import Evaluation, Grading, bar, samples_of
from scripts.evaluating.grading import grade, grade_in_processes, processes_for
from scripts.evaluating.journal import Journal
from scripts.evaluating.problems import read_data, sources_of_policy
from scripts.evaluating.results import (
    Measured,
    finished_before,
    merge,
    own_seconds,
    reproducible,
    seal_shard,
    summary_of,
    tell,
    write_files,
)
from scripts.evaluating.shards import Shard
from scripts.run_agents import team_argument


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(description=__doc__)
    merging = "--merge" in sys.argv
    parser.add_argument("--data", nargs="+", required=not merging, help="processed benchmarks, or JSONL files")
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
    parser.add_argument("--shard", type=Shard.parsed, metavar="K/N", help="only this part of the problems, e.g. 3/8")
    parser.add_argument("--merge", type=Path, nargs="+", metavar="DIR", help="put the folders of all shards together")
    parser.add_argument("--num_samples", type=int, default=1, help="samples per problem, for pass@k [1]")
    parser.add_argument("--pass_k", type=int, nargs="+", help="k of pass@k, at most --num_samples [1, 2, 4, ...]")
    parser.add_argument("--temperature", type=float, default=0.15, help="the policy's sampling temperature [0.15]")
    parser.add_argument("--max_completion_length", type=int, default=1024, help="tokens of one completion [1024]")
    parser.add_argument(
        "--prompt_style", choices=PROMPT_STYLES, help="policy prompt [what the adapter was trained with, else full]"
    )
    parser.add_argument("--batch_size", type=int, default=16, help="completions generated at once [16]")
    parser.add_argument(
        "--processes",
        type=int,
        help="event loops to grade on, a process each [one for every 256 workflows at once, at most one a core]",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the policy's sampling [0]")
    parser.add_argument("--workflow_timeout", type=float, default=180.0, help="seconds for one workflow [180]")
    parser.add_argument("--unsafe_subprocess", action="store_true", help="run solution code with rlimits only")
    parser.add_argument("--judge", action="store_true", help="ask the executor about answers that the rules may miss")
    team_argument(parser)
    corpus_argument_group(parser)
    operator_argument(parser)
    executor_argument_group(parser)
    arguments = parser.parse_args()
    if not arguments.merge:
        check_numbers(parser, arguments)
        check_together(parser, arguments)
    elif arguments.data or arguments.shard:
        parser.error("--merge takes the folders of shards and --output: leave out --data and --shard")
    return arguments


def check_numbers(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Refuse numbers out of range, each by its flag."""
    for name in ("num_samples", "batch_size", "limit", "max_completion_length", "processes"):
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


def check_together(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Refuse flags that have no meaning together, or none without another one."""
    if (arguments.processes or 1) > 1 and is_one_process(arguments):
        parser.error(
            f"--processes {arguments.processes} needs an executor that is served elsewhere, no --executor_budget_usd, "
            "which one process keeps, and no --model that is loaded here"
        )
    if not (arguments.workflow or arguments.model or arguments.baseline or arguments.adapter):
        parser.error("one of --workflow, --model, --adapter and --baseline is required")
    if not arguments.agents and (arguments.team_settings or arguments.agent_models is not None):
        parser.error("--team_settings and --agent_models are for --agents: a workflow has no team")
    if not arguments.agents and (arguments.corpus != OWN or arguments.retriever_url):
        parser.error("--corpus and --retriever_url are for --agents: a workflow searches nothing")
    if arguments.agents and arguments.shard:
        parser.error("--shard is for workflows: leave it out with --agents")
    if arguments.adapter and (arguments.workflow or arguments.baseline):
        parser.error("--adapter is a policy's: leave out --workflow and --baseline")
    if arguments.model_base_url and (not arguments.model or arguments.adapter):
        parser.error("--model_base_url needs --model, the name at that server, and takes no --adapter: serve it there")
    try:
        parse_address(arguments.model_base_url or OPENAI_URL)
    except ValueError as error:
        parser.error(str(error).replace("executor_base_url=", "--model_base_url "))


async def write_completions(evaluation: Evaluation, candidate: Candidate, journal: Journal) -> dict[int, str]:
    """Return one completion for every sample by its number: the fixed workflow's text, or what the policy wrote."""
    if candidate.text is not None:
        return {index: candidate.text(evaluation.samples[index]) for index in evaluation.mine}
    if not evaluation.policy.is_loaded_here:
        repeats = evaluation.arguments.num_samples
        with bar(evaluation, "writing workflows") as advance:
            await ask_server(
                evaluation.policy, evaluation.config, evaluation.samples, evaluation.mine, journal, advance, repeats
            )
    return {index: journal.completions[index] for index in evaluation.mine}


def opened_scorer(
    evaluation: Evaluation, config: ExecutorConfig, ledger: Path | None = None
) -> AbstractAsyncContextManager[RolloutScorer]:
    """Return what grades, to be opened; with a ledger where several processes share the rate limits."""
    return open_scorer(
        config,
        judge=JudgeConfig(enabled=evaluation.arguments.judge),
        workflow_timeout=evaluation.arguments.workflow_timeout,
        unsafe_subprocess=evaluation.arguments.unsafe_subprocess,
        run_dir=evaluation.arguments.output,
        ledger=ledger,
        proven=True,
    )


async def evaluate(evaluation: Evaluation, found: Sequence[tuple[Candidate, Path, Journal]], generation: float) -> None:
    """Run, grade and write every candidate's rows and summary, with one executor for all."""
    start = time.monotonic() - generation
    async with opened_scorer(evaluation, evaluation.config) as scorer:
        executor = scorer.runtime.executor
        for candidate, folder, journal in found:
            completions = await write_completions(evaluation, candidate, journal)
            executor.on_paid = journal.add_payment
            began = time.monotonic()
            with Grading(evaluation, journal, label_of(candidate, found)) as grading:
                await grade(samples_of(evaluation, completions, journal), scorer, grading.add)
            write_results(evaluation, candidate, folder, grading, executor.cache_statistics, start, began)
            start = time.monotonic()


def evaluate_in_processes(
    evaluation: Evaluation, found: Sequence[tuple[Candidate, Path, Journal]], processes: int, generation: float
) -> None:
    """The same in several processes, each with an executor of its own."""
    config, start = evaluation.config, time.monotonic() - generation
    open_sandbox(unsafe_subprocess=evaluation.arguments.unsafe_subprocess)  # the machine is explored once, not by each
    for candidate, folder, journal in found:
        completions = asyncio.run(write_completions(evaluation, candidate, journal))
        began = time.monotonic()
        samples = samples_of(evaluation, completions, journal)
        opened = partial(opened_scorer, evaluation)
        grading = Grading(evaluation, journal, label_of(candidate, found))
        cache = grade_in_processes(samples, config, processes, opened, journal, grading.add, grading)
        write_results(evaluation, candidate, folder, grading, cache, start, began)
        start = time.monotonic()


def label_of(candidate: Candidate, found: Sequence[Any]) -> str:
    """Label of a candidate's bar."""
    return "running workflows" if len(found) == 1 else f"running {candidate.name}"


def write_results(
    evaluation: Evaluation,
    candidate: Candidate,
    folder: Path,
    grading: Grading,
    cache: Mapping[str, int] | None,
    start: float,
    began: float,
) -> None:
    """Write rows.jsonl and summary.json, print the table, and drop the journal.

    Raises:
        InfraError: every run failed through no fault of a workflow's.
    """
    journal, found = grading.journal, grading.in_order()
    seconds = {"startup": round(began - start, 3), "run": round(time.monotonic() - began, 3)}
    measured = Measured(journal.paid, cache, seconds, own_seconds(found))
    rows = [reproducible(row, evaluation.config) for row in found]
    summary = summary_of(rows, evaluation.arguments.pass_k, measured, journal.facts)
    write_files(folder, rows, summary)
    if evaluation.shard is not None:
        seal_shard(folder, evaluation.shard, evaluation.whole(candidate), evaluation.settings(candidate), measured)
    journal.close(finished=True)
    tell(rows, summary, folder)


def is_one_process(arguments: argparse.Namespace) -> bool:
    """Whether there is one of what grading needs: the embedded executor, a budget, a policy on the GPU."""
    loaded = (arguments.model or arguments.adapter) and not arguments.model_base_url
    return bool(loaded or arguments.executor == "local" or arguments.executor_budget_usd > 0 or arguments.agents)


def chosen_processes(evaluation: Evaluation, journals: Sequence[Journal]) -> int:
    """Return `--processes`, or else as many as are kept busy.

    One where there can be no more, where rate limits are the bound, or where code of the user's own may count on one.
    """
    arguments, config = evaluation.arguments, evaluation.config
    if arguments.processes is not None:
        return int(arguments.processes)
    is_own = bool(arguments.operators) or config.executor != "openai"
    if is_one_process(arguments) or is_own or config.executor_rpm or config.executor_tpm:
        return 1
    left = max(len(evaluation.mine) - len(journal.rows) for journal in journals)
    return processes_for(min(left, config.executor_max_concurrency))


def main() -> None:
    """Read, generate, run, grade, write."""
    arguments = parse_arguments()
    if arguments.merge:
        with claimed(arguments.output):
            merge(arguments.merge, arguments.output)
        return
    if arguments.agents is not None:
        from scripts.evaluating.agents import evaluate_team  # loads torch

        evaluate_team(arguments)
        return
    load_operators(arguments.operators)
    config = executor_config_from(arguments)
    policy = PolicySettings.of(arguments)
    found = candidates(arguments.workflow, arguments.baseline, policy)
    trained_on = [] if arguments.all_problems else sources_of_policy(policy)
    problems = read_data(arguments.data, arguments.limit, trained_on)
    samples = [problem for problem in problems for _ in range(arguments.num_samples)]
    part = (arguments.shard or Shard()).part(len(problems))
    mine = range(part.start * arguments.num_samples, part.stop * arguments.num_samples)
    evaluation = Evaluation(arguments, config, policy, samples, mine, Console(stderr=True))
    with claimed(arguments.output):
        asyncio.run(check_executor(config))
        run(evaluation, found)


def run(evaluation: Evaluation, found: Sequence[Candidate]) -> None:
    """Evaluate what is not finished."""
    start = time.monotonic()
    opened: list[tuple[Candidate, Path, Journal]] = []
    try:
        for candidate in found:
            folder, facts = evaluation.folder(candidate, len(found)), evaluation.fingerprint(candidate)
            if not finished_before(folder, facts):
                opened.append((candidate, folder, Journal(folder / "rows.partial.jsonl", facts)))
        if opened and evaluation.policy.is_loaded_here:
            size = evaluation.arguments.batch_size
            with bar(evaluation, "writing workflows") as advance:
                generate(evaluation.policy, evaluation.samples, evaluation.mine, opened[0][2], advance, size)
        if opened:
            with collecting_seldom():
                grade_all(evaluation, opened, time.monotonic() - start)
    finally:
        for _, _, journal in opened:
            journal.close(finished=False)


def grade_all(evaluation: Evaluation, opened: Sequence[tuple[Candidate, Path, Journal]], generation: float) -> None:
    """Run, grade and write all candidates, on one event loop or several.

    Raises:
        BudgetExceededError: the budget is spent; what was graded is in the journal.
    """
    processes = chosen_processes(evaluation, [journal for _, _, journal in opened])
    try:
        if processes > 1:
            evaluate_in_processes(evaluation, opened, processes, generation)
        else:
            asyncio.run(evaluate(evaluation, opened, generation))
    except BudgetExceededError as error:
        finished = sum(len(journal.rows) for _, _, journal in opened)
        raise BudgetExceededError(f"{error}; the same command goes on from {finished} finished rows") from None


if __name__ == "__main__":
    sys.exit(run_command(main))
