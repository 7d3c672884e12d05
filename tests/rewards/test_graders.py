import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aflow_ops.sandbox import Sandbox
from data.problem import Problem
from data.registry import load_problems
from rewards.graders.code import code_tier, extract_solution, grade_code
from rewards.graders.math import grade_math, numeric_tier
from rewards.graders.math_text import find_answer, lists_several, to_number
from rewards.graders.qa import f1_tier, grade_qa
from rewards.graders.qa_text import extract_answer
from rewards.grading import CachedGrader, grade_answer
from rewards.tiers import TIER_REWARDS

NUMBERS = st.floats(-1e9, 1e9, allow_nan=False).filter(lambda x: abs(x) > 1e-3)


def problem(answer: str, domain: str = "math", **fields: object) -> Problem:
    return Problem.from_row({"question": "?", "answer": answer, "source": "made", "domain": domain, **fields})


def test_the_tiers_are_the_specification() -> None:
    assert TIER_REWARDS == {5: 1.0, 4: 0.7, 3: 0.4, 2: 0.2, 1: 0.0}


# Math


@pytest.mark.parametrize(
    ("answer", "gold", "reward"),
    [
        ("18", "18", 1.0),
        ("$1,234.50", "1234.5", 1.0),
        ("#### 18", "18", 1.0),
        (r"thus \boxed{\frac{1}{2}}", "0.5", 1.0),
        ("<answer>18</answer>", "18", 1.0),
        ("First 5, then 7. The answer is 18.", "18", 1.0),
        ("We get 9 * 2 = 18", "18", 1.0),
        ("809 + 227 + 645 = 1,681", "1681", 1.0),
        ("809 + 227 + 645 = 1421", "1681", 0.4),
        ("x = 5 or x = 6, so x^2", "18", 0.2),
        ("50%", "50", 1.0),
        ("1 1/2", "1.5", 1.0),
        ("18 eggs", "18", 1.0),
        (r"\boxed{x^2 + 2x + 1}", "(x+1)^2", 1.0),
        ("18.5", "18", 0.7),
        ("-18", "18", 0.2),
        ("25", "18", 0.4),
        ("100", "18", 0.2),
        ("I do not know", "18", 0.0),
        ("", "18", 0.0),
    ],
)
async def test_math_tiers(answer: str, gold: str, reward: float, sandbox: Sandbox) -> None:
    assert (await grade_answer(answer, problem(gold), sandbox)).reward == reward


@given(NUMBERS)
def test_a_number_equals_itself_however_it_is_written(value: float) -> None:
    text = f"{value:,.3f}"
    for written in (text, f"${text}", f"<answer>{text}</answer>", f"\\boxed{{{text}}}", f"The answer is {text}."):
        extracted = find_answer(written)
        assert extracted is not None
        number = to_number(extracted)
        assert number is not None
        assert numeric_tier(number, float(f"{value:.3f}")) == 5


@given(NUMBERS, st.floats(0, 2))
def test_a_larger_error_never_earns_more(gold: float, error: float) -> None:
    assert numeric_tier(gold * (1 + error), gold) >= numeric_tier(gold * (1 + error * 1.5), gold)


MATHEMATICAL = st.text(alphabet="0123456789.,-−+/\\\\{}()[]^$%=#: abcABC\\n<>answerboxdfrtis½", max_size=120)


@given(st.one_of(st.text(max_size=200), MATHEMATICAL))
@settings(max_examples=600)
def test_extraction_survives_any_text(text: str) -> None:
    extracted = find_answer(text)
    if extracted is not None:
        to_number(extracted)
        lists_several(extracted)
    extract_answer(text)


async def test_a_hostile_expression_cannot_hang_the_grader(sandbox: Sandbox) -> None:
    grade = await grade_math(r"\boxed{9^{9^{9^{9}}}}", problem("x + 1"), sandbox)
    assert grade.tier <= 2


# Question answering


@pytest.mark.parametrize(
    ("answer", "gold", "reward"),
    [
        ("Ada Lovelace", "Ada Lovelace", 1.0),
        ("the ada lovelace!", "Ada Lovelace", 1.0),
        ("The answer is: Ada Lovelace", "Ada Lovelace", 1.0),
        ("<answer>The answer is Ada Lovelace.</answer>", "Ada Lovelace", 1.0),
        (r"The final answer is $\boxed{\text{Ada Lovelace}}$.", "Ada Lovelace", 1.0),
        ("She wrote notes.\n\n### **Final Answer**\n\nAda Lovelace", "Ada Lovelace", 1.0),
        ("It was Ada Lovelace.", "Ada Lovelace", 0.7),
        ("Lovelace", "Ada Lovelace", 0.7),
        ("It was written by a certain Lovelace", "Ada Lovelace", 0.2),
        ("Charles Babbage", "Ada Lovelace", 0.0),
        ("yes", "yes", 1.0),
        ("no", "yes", 0.0),
        ("yes or no", "yes", 0.0),
        ("the", "The Hague", 0.0),
        ("", "Ada Lovelace", 0.0),
        ("Oslo or Lima or Rome", "Rome", 0.2),
    ],
)
def test_qa_tiers(answer: str, gold: str, reward: float) -> None:
    assert grade_qa(answer, problem(gold, "qa")).reward == reward


def test_the_whole_context_pasted_back_earns_little() -> None:
    for item in load_problems("invented_facts", "train", 30, 0):
        assert item.context is not None
        assert grade_qa(item.context, item).reward <= 0.2
        assert grade_qa(item.view.text, item).reward <= 0.2


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_higher_f1_never_earns_less(one: float, other: float) -> None:
    assert f1_tier(min(one, other)) <= f1_tier(max(one, other))


@given(st.text(max_size=80), st.text(min_size=1, max_size=40).filter(str.strip))
def test_any_answer_has_a_qa_grade(answer: str, gold: str) -> None:
    assert grade_qa(answer, problem(gold, "qa")).reward in TIER_REWARDS.values()


# Code


CODE = problem(
    "def f(x):\n    return x + 1",
    "code",
    entry_point="f",
    tests=[f"assert candidate({i}) == {i + 1}" for i in range(5)],
)


@pytest.mark.parametrize(
    ("answer", "reward"),
    [
        ("def f(x):\n    return x + 1", 1.0),
        ("```python\ndef f(x):\n    return x + 1\n```", 1.0),
        ("Here it is:\n```python\ndef f(x):\n    return x + 1\n```\nEnjoy!", 1.0),
        ("f = lambda x: x + 1", 1.0),
        ("def f(x):\n    return x + 1 if x else 0", 0.7),
        ("def f(x):\n    return x + 1 if x > 1 else 0", 0.4),
        ("def f(x):\n    return x", 0.2),
        ("def f(x):\n    while x > 3: pass", 0.2),
        ("def f(x):\n    import os; os._exit(0)", 0.2),
        ("def g(x):\n    return x + 1", 1.0),
        ("def g(x):\n    return x + 1\ndef h(x):\n    return x", 0.0),
        ("def f(x) return x", 0.0),
        ("I cannot write that.", 0.0),
        ("", 0.0),
    ],
)
async def test_code_tiers(answer: str, reward: float, sandbox: Sandbox) -> None:
    assert (await grade_answer(answer, CODE, sandbox)).reward == reward


@pytest.mark.parametrize(("passed", "tier"), [(10, 5), (9, 4), (8, 4), (7, 3), (5, 3), (4, 2), (1, 2), (0, 2)])
def test_the_share_of_tests_decides(passed: int, tier: int) -> None:
    assert code_tier(passed, 10) == tier


@given(
    st.integers(1, 200).flatmap(lambda total: st.tuples(st.just(total), st.integers(0, total), st.integers(0, total)))
)
def test_more_passed_tests_never_earn_less(counts: tuple[int, int, int]) -> None:
    total, one, other = counts
    assert code_tier(min(one, other), total) <= code_tier(max(one, other), total)
    assert (code_tier(one, total) == 5) == (one == total)


@given(st.text(max_size=300), st.sampled_from(["f", None]), st.text(max_size=80))
def test_finding_code_survives_any_text(answer: str, entry_point: str | None, question: str) -> None:
    found = extract_solution(answer, entry_point, question)
    assert found is None or isinstance(found, str)


ADD = 'def add(x, y):\n    """Return the sum."""\n'


@pytest.mark.parametrize(
    ("answer", "question"),
    [
        ("    return x + y", ADD),
        ("\n    return x + y\n\ndef add_all(xs):\n    return add(*xs)", ADD),
        ("    return x + y\n\nprint('a line after the function')\n", ADD),
        ("    def add(x, y):\n        return x + y", ADD),
        ("def add(x, y):\n    return helper(x, y)", "import math\n\ndef helper(a, b):\n    return a + b\n\n" + ADD),
        ("First\n```python\nimport math\n```\nthen\n```python\ndef add(x, y):\n    return x + y\n```", ADD),
        ("```\ndef add(x, y):\n    return x\n```\nNo, rather\n```\ndef add(x, y):\n    return x + y\n```", ADD),
        ("```\ndef plus(x, y):\n    return x + y\n```", ADD),
        ("class Solution:\n    def add(self, x, y):\n        return x + y", ADD),
        ("```python\ndef plus(x, y):\n    return x + y\n```\nIt prints\n```text\n5\n```", ADD),
        ("``` Python title=add\ndef plus(x, y):\n    return x + y\n```\n\n```bash\npython add.py\n```", ADD),
        ("from __future__ import annotations\n\ndef add(x: N, y: N) -> N:\n    return x + y", "import math\n\n" + ADD),
    ],
)
async def test_code_is_found_and_completed(answer: str, question: str, sandbox: Sandbox) -> None:
    task = problem("", "code", question=question, entry_point="add", tests=["assert candidate(2, 3) == 5"])
    assert (await grade_code(answer, task, sandbox)).correct


@pytest.mark.parametrize(
    "tests",
    [
        "def check(candidate):\n    assert candidate(2, 3) == 5\n    assert candidate(0, 0) == 0",
        "def check(f):\n    for i in range(3):\n        assert f(i, 1) == i + 1",
        ["assert add(2, 3) == 5", "assert add(0, 0) == 0"],
        "assert add(2, 3) == 5\nassert add(0, 0) == 0",
        {"inputs": [[2, 3], [0, 0]], "outputs": [[5], [0]], "fn_name": "add"},
    ],
)
async def test_tests_may_have_any_usual_form(tests: object, sandbox: Sandbox) -> None:
    task = problem("", "code", tests=tests, entry_point="add")
    assert (await grade_code("def add(x, y):\n    return x + y", task, sandbox)).tier == 5
    assert (await grade_code("def add(x, y):\n    return x - y", task, sandbox)).tier <= 3


async def test_mbpps_setup_code_and_missing_name(sandbox: Sandbox) -> None:
    task = problem("", "code", test_list=["assert math.isclose(root(4), 2.0)"], test_setup_code="import math")
    assert task.entry_point == "root"
    assert (await grade_code("def root(x):\n    return x ** 0.5", task, sandbox)).correct


async def test_apps_names_its_function_among_the_tests(sandbox: Sandbox) -> None:
    task = problem("", "code", tests={"inputs": [[2, 3]], "outputs": [5], "fn_name": "add"})
    assert task.entry_point == "add"
    two = "def add(x, y):\n    return other(x) + y\ndef other(x):\n    return x"
    assert (await grade_code(two, task, sandbox)).correct


def test_tests_that_call_candidate_do_not_name_it() -> None:
    assert problem("", "code", tests=["assert candidate(1) == 2"]).entry_point is None
    assert problem("", "code", tests="def check(candidate):\n    assert candidate(1) == 2").entry_point is None


async def test_equal_answers_are_graded_once(sandbox: Sandbox) -> None:
    runs = 0
    original = sandbox.run

    async def counted(*args: object, **kwargs: object) -> object:
        nonlocal runs
        runs += 1
        return await original(*args, **kwargs)  # type: ignore[arg-type]

    sandbox.run = counted  # type: ignore[method-assign, assignment]
    grader = CachedGrader(sandbox, size=2)
    for _ in range(3):
        assert (await grader.grade("def f(x):\n    return x + 1", CODE)).correct
    assert runs == 1
