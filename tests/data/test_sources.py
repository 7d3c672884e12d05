import asyncio
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from aflow_ops.sandbox import Sandbox
from data.corpus import task_line
from data.problem import DOMAINS, DataError, Problem
from data.registry import SOURCES, iter_problems, load_problems
from rewards.graders.code import grade_code
from rewards.grading import grade_answer

ROOT = Path(__file__).parents[2]

GENERATED = [name for name in SOURCES if name != "humaneval"]


def texts(problems: list[Problem]) -> set[tuple[str | None, str]]:
    return {(problem.context, problem.question) for problem in problems}


@pytest.mark.parametrize("source", GENERATED)
def test_train_and_heldout_share_no_problem_whatever_the_seeds(source: str) -> None:
    train = [p for seed in (0, 1) for p in load_problems(source, "train", 60, seed)]
    heldout = [p for seed in (0, 1) for p in load_problems(source, "heldout", 30, seed)]
    assert not texts(train) & texts(heldout)


@pytest.mark.parametrize("source", GENERATED)
def test_a_seed_decides_the_problems(source: str) -> None:
    assert load_problems(source, "train", 20, 3) == load_problems(source, "train", 20, 3)
    assert load_problems(source, "train", 20, 3) != load_problems(source, "train", 20, 4)


@pytest.mark.parametrize("source", GENERATED)
def test_generated_sources_do_not_run_dry_and_do_not_repeat(source: str) -> None:
    problems = list(islice(iter_problems(source, "train", 0), 200))
    assert len(texts(problems)) == 200


@pytest.mark.parametrize("source", list(SOURCES))
def test_rows_survive_json(source: str) -> None:
    for problem in load_problems(source, "train", 10, 0):
        assert Problem.from_row(problem.to_row()) == problem
        assert problem.domain in DOMAINS


@pytest.mark.parametrize(
    "source", ["arithmetic", "gsm_symbolic", "read_numbers", "invented_facts", "calculations", "small_functions"]
)
async def test_gold_answers_earn_the_full_reward(source: str, sandbox: Sandbox) -> None:
    for problem in load_problems(source, "heldout", 12, 5):
        grade = await grade_answer(problem.answer, problem, sandbox)
        assert grade.correct, (problem, grade)


def test_public_and_hidden_tests_are_different() -> None:
    for problem in load_problems("small_functions", "train", 40, 0):  # HumanEval's own hidden tests repeat its examples
        assert problem.tests and problem.public_tests and problem.entry_point
        hidden = {test.replace("candidate", problem.entry_point) for test in problem.tests}
        assert not hidden & set(problem.public_tests)


def test_the_view_has_neither_answer_nor_hidden_tests() -> None:
    for source in SOURCES:
        problem = load_problems(source, "train", 1, 0)[0]
        assert not hasattr(problem.view, "answer")
        assert not hasattr(problem.view, "tests")


@pytest.mark.parametrize("source", ["invented_facts", "read_numbers"])
def test_answers_to_be_read_stand_in_their_context(source: str) -> None:
    for problem in load_problems(source, "train", 100, 1):
        assert problem.context is not None
        assert problem.answer in problem.context


def test_calculations_come_to_their_answers() -> None:
    for problem in load_problems("calculations", "train", 100, 1):
        expression = problem.question.removeprefix("How much is ").removesuffix("?")
        assert eval(expression) == int(problem.answer) >= 0


def test_a_tiny_policy_can_tell_the_kinds_of_a_domain_apart() -> None:
    sources = ("arithmetic", "read_numbers", "invented_facts", "calculations", "small_functions")
    lines = {source: {task_line(problem) for problem in load_problems(source, "train", 200, 1)} for source in sources}
    assert sum(len(found) for found in lines.values()) == len(set.union(*lines.values()))


async def test_every_canonical_solution_of_humaneval_passes(sandbox: Sandbox) -> None:
    problems = load_problems("humaneval", "train", 200, 0) + load_problems("humaneval", "heldout", 200, 0)
    assert len(problems) == 164
    grades = await asyncio.gather(*(grade_code(problem.answer, problem, sandbox) for problem in problems))
    assert [problem.id for problem, grade in zip(problems, grades, strict=True) if not grade.correct] == []


async def test_the_public_tests_read_from_humanevals_docstrings_hold(sandbox: Sandbox) -> None:
    problems = load_problems("humaneval", "train", 200, 0) + load_problems("humaneval", "heldout", 200, 0)
    with_examples = [problem for problem in problems if problem.public_tests]
    assert len(with_examples) > 100
    programs = ["\n".join([problem.answer, *problem.public_tests]) for problem in with_examples]
    results = await asyncio.gather(*(sandbox.run(program, timeout=20) for program in programs))
    assert [p.id for p, result in zip(with_examples, results, strict=True) if not result.ok] == []


def test_an_unknown_source_names_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"no_such_source.*arithmetic"):
        load_problems("no_such_source", "train", 1, 0)


# Each in a child that has none of ours; what they share of others' is imported once.
FIRST = """
import importlib, os, sys
import numpy, pyarrow.parquet, yaml
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        importlib.import_module(name)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print(name)
"""


def test_every_module_can_be_the_first_one_imported() -> None:
    paths = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "data").rglob("*.py")]
    modules = [".".join(path.parts).removesuffix(".__init__") for path in paths]
    command = [sys.executable, "-c", FIRST, *modules]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "", done.stderr
