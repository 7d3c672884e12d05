"""Grade answers offline, by the same rules as in training.

    python scripts/grade.py answers.jsonl graded.jsonl

Rows: one JSON object a line with "question", "answer" (the gold one, or a list), "prediction" and "source" or "domain";
code rows have "tests" (or "test", "test_list") and "entry_point". Each row gains "tier" (5 right to 1 nothing usable),
"reward", "correct", "extracted" and "detail". When rows have a "label" (true/false, 1/0, correct/incorrect), the
agreement with it is printed and each row gains "agrees".
"""

import argparse
import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from aflow_ops.concurrency import gather_or_cancel
from aflow_ops.errors import FatalExecutorError, InfraError, UsageError
from aflow_ops.executor import (
    ExecutorConfig,
    check_executor,
    executor_argument_group,
    executor_config_from,
    open_executor,
)
from aflow_ops.sandbox import open_sandbox
from data.code_tests import tests_of
from data.files import unreadable, write_atomically
from data.jsonl import gradable, read_row
from data.problem import DataError, Problem
from recipes.run.command import CommandParser, run_command
from rewards.grading import CachedGrader
from rewards.judge import Judge, JudgeConfig

# Rows that are graded at the same time; code waits for a free sandbox worker anyway.
AT_ONCE = 256
SHOWN_DISAGREEMENTS = 10
LABELS = {"true": True, "1": True, "correct": True, "yes": True, "false": False, "0": False, "incorrect": False}
LABELS |= {"no": False, "wrong": False}

Row = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """One row to grade."""

    line: int
    row: Row
    problem: Problem
    label: bool | None


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("input", type=Path, metavar="IN.jsonl", help="rows to grade")
    parser.add_argument("output", type=Path, metavar="OUT.jsonl", help="the same rows, graded, in the same order")
    parser.add_argument("--workers", type=int, help="sandbox workers for code and symbolic comparison [CPU count]")
    parser.add_argument("--unsafe_subprocess", action="store_true", help="run solution code with rlimits only")
    parser.add_argument("--judge", action="store_true", help="ask the executor about answers that the rules may miss")
    executor_argument_group(parser)
    arguments = parser.parse_args()
    if arguments.workers is not None and arguments.workers < 1:
        parser.error(f"--workers {arguments.workers} must be at least 1")
    return arguments


def read_answers(path: Path) -> list[Answer]:
    """Read and check every row before any is graded.

    Raises:
        DataError: the file is missing or empty, a row is malformed, or there is nothing to grade; names the line and
            the reason.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            answers = [_answer(path, number, line) for number, line in enumerate(file, start=1) if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None
    if not answers:
        raise DataError(f"{path}: no rows")
    if not any("prediction" in answer.row for answer in answers):
        keys = ", ".join(answers[0].row)
        raise DataError(f'{path}: no row has a "prediction", the answer to grade; the first one has {keys}')
    return answers


def _answer(path: Path, number: int, line: str) -> Answer:
    try:
        row = read_row(line)
        prediction = row.get("prediction")
        if prediction is not None and not isinstance(prediction, (str, int, float)):
            raise ValueError(f"prediction must be text, not {prediction!r}")
        # Code needs no gold answer, and a domain says as much as a source.
        defaults = {"source": row.get("domain"), "answer": "" if tests_of(row) else None}
        problem = gradable(Problem.from_row({**defaults, **row}))
        return Answer(number, row, problem, _label(row.get("label")))
    except ValueError as error:
        raise DataError(f"{path}, line {number}: {error}") from None


def _label(value: Any) -> bool | None:
    if value is None or value == "":
        return None
    label = LABELS.get(str(value).strip().lower())
    if label is None:
        raise ValueError(f"label must be true or false, not {value!r}")
    return label


def check_place(path: Path) -> None:
    """Make sure that a file can be written, before anything is graded.

    Raises:
        UsageError: it cannot; says why.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give the name of a file for the graded rows")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise UsageError(f"{path} cannot be written: {folder} is no folder")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"{path} cannot be written: no permission in {folder}")


async def grade_all(
    arguments: argparse.Namespace, config: ExecutorConfig, answers: Sequence[Answer], console: Console
) -> list[Row]:
    """Grade every answer; a row that a failure of ours kept from its grade has tier `None`."""
    graded: list[Row] = [{} for _ in answers]
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(
            open_sandbox(unsafe_subprocess=arguments.unsafe_subprocess, concurrency=arguments.workers)
        )
        judge = None
        if arguments.judge:
            executor = await stack.enter_async_context(open_executor(config, proven=True))
            judge = Judge(executor, JudgeConfig(enabled=True))
        grader = CachedGrader(sandbox, judge)
        progress = stack.enter_context(Progress(console=console))
        task = progress.add_task("grading", total=len(answers))
        places = asyncio.Semaphore(AT_ONCE)

        async def one(index: int, answer: Answer) -> None:
            async with places:
                graded[index] = await graded_row(answer, grader)
                progress.advance(task)

        await gather_or_cancel(one(index, answer) for index, answer in enumerate(answers))
    return graded


async def graded_row(answer: Answer, grader: CachedGrader) -> Row:
    """Return the row with its grade.

    Raises:
        FatalExecutorError: the judge's endpoint refuses every call.
    """
    prediction = answer.row.get("prediction")
    try:
        grade = await grader.grade(None if prediction is None else str(prediction), answer.problem)
    except FatalExecutorError:
        raise
    except InfraError as error:
        return {**answer.row, "tier": None, "reward": None, "correct": None, "extracted": None, "detail": str(error)}
    row = {**answer.row, **grade.to_dict()}
    return row if answer.label is None else {**row, "agrees": grade.correct == answer.label}


def show(answers: Sequence[Answer], graded: Sequence[Row], output: Path) -> None:
    """Print tiers by domain, and agreement with the labels where there are any."""
    console = Console()
    table = Table(title=f"{len(graded)} answers; 5 to 1: how many in each tier", title_justify="left")
    for column in ("", "n", "correct", "reward", "5", "4", "3", "2", "1", "labels", "agree"):
        table.add_column(column, justify="left" if not column else "right")
    for name, pairs in _by_domain(answers, graded):
        table.add_row(name, *_summary(pairs))
    console.print(table)
    lost = sum(row["tier"] is None for row in graded)
    if lost:
        console.print(f"{lost} answers could not be graded (a failure of the sandbox or of the judge): see detail")
    wrong = [(answer, row) for answer, row in zip(answers, graded, strict=True) if row.get("agrees") is False]
    for answer, row in wrong[:SHOWN_DISAGREEMENTS]:
        said = "correct" if row["correct"] else "wrong"
        labelled = "correct" if answer.label else "wrong"
        text = f"line {answer.line}: graded {said}, labelled {labelled}: {row['detail']}"
        console.print(text[:200].replace("\n", " "), markup=False)
    if len(wrong) > SHOWN_DISAGREEMENTS:
        console.print(f"and {len(wrong) - SHOWN_DISAGREEMENTS} more: rows with agrees = false in {output}")
    console.print(f"graded rows in {output}", markup=False)


def _by_domain(answers: Sequence[Answer], graded: Sequence[Row]) -> Iterator[tuple[str, list[tuple[Answer, Row]]]]:
    pairs = list(zip(answers, graded, strict=True))
    domains = sorted({answer.problem.domain for answer in answers})
    for domain in domains:
        yield domain, [pair for pair in pairs if pair[0].problem.domain == domain]
    if len(domains) > 1:
        yield "all", pairs


def _summary(pairs: Sequence[tuple[Answer, Row]]) -> list[str]:
    rows = [row for _, row in pairs if row["tier"] is not None]
    tiers = Counter(row["tier"] for row in rows)
    agreed = [row["agrees"] for row in rows if "agrees" in row]
    return [
        str(len(pairs)),
        f"{sum(row['correct'] for row in rows) / max(1, len(rows)):.3f}",
        f"{sum(row['reward'] for row in rows) / max(1, len(rows)):.3f}",
        *(str(tiers[tier]) for tier in (5, 4, 3, 2, 1)),
        str(len(agreed)),
        f"{sum(agreed) / len(agreed):.2%}" if agreed else "-",
    ]


def main() -> None:
    """Read, grade, write, show."""
    arguments = parse_arguments()
    config = executor_config_from(arguments)
    answers = read_answers(arguments.input)
    check_place(arguments.output)
    if arguments.judge:
        asyncio.run(check_executor(config))
    graded = asyncio.run(grade_all(arguments, config, answers, Console(stderr=True)))
    with write_atomically(arguments.output) as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in graded)
    show(answers, graded, arguments.output)


if __name__ == "__main__":
    sys.exit(run_command(main))
