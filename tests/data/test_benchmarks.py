"""Rows in the Hub's own schemas, made up here, become the right problems; rows of another schema say what is wrong."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_ops.sandbox import Sandbox
from data.benchmarks import benchmark, benchmarks, converter
from data.benchmarks.competition_math import last_boxed
from data.catalogue import source_domains
from data.jsonl import gradable
from data.problem import DOMAINS, DataError, Problem
from data.raw_files import SUFFIXES
from rewards.graders.qa import METRICS, best_scores
from rewards.grading import grade_answer

GSM8K = {
    "question": "A mill grinds 1,250 kg of rye a day. How much does it grind in 4 days?",
    "answer": "It grinds 1250*4 = <<1250*4=5000>>5000 kg.\n#### 5,000",
}
MATH = {
    "problem": "What is $\\frac{1}{2} + \\frac{1}{4}$?",
    "level": "Level 1",
    "type": "Prealgebra",
    "solution": "A half is $\\boxed{\\frac{2}{4}}$, so the sum is $\\boxed{\\frac{3}{4}}$.",
}
MATH500 = {
    "problem": "Find $2^5$.",
    "solution": "It is $\\boxed{32}$.",
    "answer": "32",
    "subject": "Algebra",
    "level": 1,
    "unique_id": "test/algebra/9001.json",
}
HUMANEVAL = {
    "task_id": "HumanEval/900",
    "prompt": 'def twice(x: int) -> int:\n    """Return twice x.\n    >>> twice(2)\n    4\n    """\n',
    "canonical_solution": "    return 2 * x\n",
    "test": "\n\nMETADATA = {\n    'author': 'us',\n    'dataset': 'test'\n}\n\n\ndef check(candidate):\n"
    "    assert candidate(3) == 6\n    assert candidate(-1) == -2\n",
    "entry_point": "twice",
}
MBPP = {
    "task_id": 9000,
    "text": "Write a function to find the hypotenuse of a right triangle.",
    "code": "import math\r\ndef hypotenuse(a, b):\r\n  return math.hypot(a, b)",
    "test_list": [
        "assert hypotenuse(3, 4) == 5",
        "assert hypotenuse(6, 8) == 10",
        "assert hypotenuse(5, 12) == isqrt(169)",
    ],
    "test_setup_code": "from math import isqrt",
    "challenge_test_list": [],
}
MBPP_SANITIZED = {
    "source_file": "Questions.ipynb",
    "task_id": 9001,
    "prompt": "Write a function to halve a number.",
    "code": "def halve(x):\n  return x / 2",
    "test_imports": ["import math"],
    "test_list": ["assert math.isclose(halve(1), 0.5)", "assert math.isclose(halve(3), 1.5)"],
}
HOTPOTQA = {
    "id": "5f0000000000000000000001",
    "question": "In which country is the river that passes the town of Ostrel?",
    "answer": "Veldania",
    "type": "bridge",
    "level": "hard",
    "supporting_facts": {"title": ["Ostrel", "Mirrow"], "sent_id": [0, 9]},  # a sentence that the paragraph lacks
    "context": {
        "title": ["Ostrel", "Pelk", "Mirrow"],
        "sentences": [
            ["Ostrel is a town.", " The Mirrow passes it."],
            ["Pelk is a cheese."],
            ["The Mirrow is a river in Veldania."],
        ],
    },
}
HOTPOTQA_OWN = {
    "_id": HOTPOTQA["id"],
    **{key: HOTPOTQA[key] for key in ("question", "answer", "type", "level")},
    "supporting_facts": [["Ostrel", 0], ["Mirrow", 9]],
    "context": [
        ["Ostrel", ["Ostrel is a town.", " The Mirrow passes it."]],
        ["Pelk", ["Pelk is a cheese."]],
        ["Mirrow", ["The Mirrow is a river in Veldania."]],
    ],
}
DROP = {
    "section_id": "nfl_9001",
    "query_id": "00000000-aaaa",
    "passage": " Ruiz scored first, then Odden. ",
    "question": "Who scored?",
    "answers_spans": {"spans": ["Ruiz", "Odden", "Ruiz"], "types": ["span", "span", "span"]},
}
SQUAD = {
    "id": "570000000000000000000001",
    "title": "Ferns",
    "context": "Ferns reproduce with spores, not seeds.",
    "question": "What do ferns reproduce with?",
    "answers": {"text": ["spores", "spores", "with spores"], "answer_start": [21, 21, 16]},
}
AIME = {
    "id": 91,
    "problem": "Find the remainder of $7^2$ divided by $25$.",
    "solution": "It is 24.",
    "answer": "024",
    "url": "https://example.org/1",
    "year": "2024",
}
STDIN_TESTS = [{"type": "stdin_stdout", "input": "2 3\n", "output": "5\n"}]
DEEPCODER = {
    "problem": "Solve the following coding problem using the programming language python:\n\nAdd two numbers.",
    "solutions": ["```python\nprint(sum(map(int, input().split())))\n```", "print(0)"],
    "tests": json.dumps(STDIN_TESTS),
}
SWE_BENCH = {
    "repo": "someone/pots",
    "instance_id": "someone__pots-91",
    "base_commit": "0" * 40,
    "problem_statement": "A lid does not fit its pot.\n",
    "patch": "--- a/pots/lid.py\n+++ b/pots/lid.py\n@@ -1 +1 @@\n-x = 1\n+x = 2\n",
    "test_patch": "diff --git a/pots/tests/test_lid.py b/pots/tests/test_lid.py\n--- a/pots/tests/test_lid.py\n"
    "+++ b/pots/tests/test_lid.py\n@@ -1 +1 @@\n-y = 1\n+y = 2\n",
    "version": "1.0",
    "FAIL_TO_PASS": '["pots/tests/test_lid.py::test_fits"]',
    "PASS_TO_PASS": '["pots/tests/test_lid.py::test_shines"]',
}
R2E_GYM = {
    "repo_name": "pots",
    "docker_image": "someone/pots_final:abc",
    "commit_hash": "abc",
    "problem_statement": "[ISSUE]\n**Title:** A lid does not fit\n[/ISSUE]",
    "expected_output_json": '{"TestLid.test_fits": "PASSED", "test_pot": "PASSED", "TestLid.test_old": "FAILED"}',
    "execution_result_content": json.dumps(
        {
            "old_commit_res_stdout": "PASSED r2e_tests/test_1.py::TestLid::test_fits (printed by a test)\n"
            "==== short test summary info ====\n\x1b[32mPASSED\x1b[0m r2e_tests/test_2.py::test_pot\n"
            "FAILED r2e_tests/test_1.py::TestLid::test_fits - AssertionError\n"
        }
    ),
}
DEEPSCALER = {"problem": "Solve $3x = -2$.", "answer": "-\\frac{2}{3}", "solution": ""}
ROWS: dict[str, Mapping[str, Any]] = {
    "gsm8k": GSM8K,
    "math": MATH,
    "math500": MATH500,
    "humaneval": HUMANEVAL,
    "mbpp": MBPP,
    "mbpp_sanitized": MBPP_SANITIZED,
    "hotpotqa": HOTPOTQA,
    "drop": DROP,
    "squad": SQUAD,
    "aime24": AIME,
    "deepscaler": DEEPSCALER,
    "deepcoder": DEEPCODER,
    "swe_bench_verified": SWE_BENCH,
    "r2e_gym": R2E_GYM,
}
# The columns that a problem cannot do without.
NEEDED = {
    "gsm8k": ("question", "answer"),
    "math": ("problem", "solution"),
    "math500": ("problem",),
    "humaneval": ("task_id", "prompt", "canonical_solution", "test", "entry_point"),
    "mbpp": ("task_id", "text", "test_list"),
    "mbpp_sanitized": ("task_id", "prompt", "test_list"),
    "hotpotqa": ("id", "question", "answer", "context"),
    "drop": ("query_id", "passage", "question", "answers_spans"),
    "squad": ("id", "context", "question", "answers"),
    "aime24": ("id", "problem", "answer"),
    "deepscaler": ("problem",),
    "deepcoder": ("problem", "tests"),
    "swe_bench_verified": ("repo", "instance_id", "problem_statement", "patch", "test_patch", "FAIL_TO_PASS"),
    "r2e_gym": ("repo_name", "docker_image", "commit_hash", "problem_statement", "expected_output_json"),
}
CASES = [(name, column) for name, columns in NEEDED.items() for column in columns]


def converted(name: str, row: Mapping[str, Any], split: str = "test") -> Problem:
    return gradable(Problem.from_row(converter(name, split)(row)))


def deepcoder(tests: object, **columns: object) -> Problem:
    return converted("deepcoder", {**DEEPCODER, "tests": json.dumps(tests), **columns})


# The right problem


def test_a_gsm8k_answer_is_the_number_after_the_mark_without_commas() -> None:
    problem = converted("gsm8k", GSM8K)
    assert (problem.question, problem.answer, problem.domain) == (GSM8K["question"], "5000", "math")


@given(st.integers(-(10**12), 10**12), st.text("abc #\n0123456789,.", max_size=40))
def test_a_gsm8k_number_is_read_whatever_stands_before_it(number: int, work: str) -> None:
    row = {"question": "How many?", "answer": f"{work}\n#### {number:,}"}
    assert converted("gsm8k", row).answer == str(number)


def test_a_math_answer_is_the_last_box_of_the_solution() -> None:
    problem = converted("math", MATH)
    assert (problem.answer, problem.source) == ("\\frac{3}{4}", "math")


def test_a_math500_row_brings_its_answer_and_its_id() -> None:
    problem = converted("math500", MATH500)
    assert (problem.id, problem.answer, problem.domain) == ("test/algebra/9001.json", "32", "math")


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("so \\boxed{5}.", "5"),
        ("\\boxed{1} and then \\fbox{2}", "2"),
        ("\\boxed{\\frac{1}{\\sqrt{2}}}", "\\frac{1}{\\sqrt{2}}"),
        ("the answer is $\\boxed 7$.", "7"),
        ("\\boxed{\\left\\{ x \\right.}", "\\left\\{ x \\right."),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("nothing", None),
        ("\\boxed{1", None),
    ],
)
def test_a_box_is_read_with_what_is_in_it(solution: str, answer: str | None) -> None:
    assert last_boxed(solution) == answer


NESTED = st.recursive(
    st.text("ab+ \\frac", max_size=4).map(lambda text: text.replace("\\", "") + "x"),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda parts: "{" + "".join(parts) + "}"),
    max_leaves=12,
)


@given(st.text("ab {}$", max_size=20), NESTED, st.text("ab }.$\n", max_size=20))
def test_a_box_is_read_with_braces_nested_to_any_depth(before: str, inner: str, after: str) -> None:
    assert last_boxed(f"{before}\\boxed{{{inner}}}{after}") == inner.strip()


def test_a_humaneval_row_has_public_examples_and_hidden_tests() -> None:
    problem = converted("humaneval", HUMANEVAL)
    assert (problem.id, problem.entry_point, problem.domain) == ("HumanEval/900", "twice", "code")
    assert problem.question == HUMANEVAL["prompt"]
    assert problem.answer == HUMANEVAL["prompt"] + HUMANEVAL["canonical_solution"]
    assert problem.public_tests == ("assert twice(2) == 4",)
    assert problem.tests == ("assert candidate(3) == 6", "assert candidate(-1) == -2")


def test_a_full_mbpp_row_shows_its_first_test_and_runs_its_setup_code() -> None:
    problem = converted("mbpp", MBPP)
    assert (problem.id, problem.entry_point) == ("9000", "hypotenuse")
    assert problem.question == f"{MBPP['text']}\n\nExample: assert hypotenuse(3, 4) == 5"
    assert "\r" not in problem.answer
    assert problem.public_tests == ("from math import isqrt\nassert hypotenuse(3, 4) == 5",)
    assert problem.tests == tuple(f"from math import isqrt\n{test}" for test in MBPP["test_list"])


def test_a_sanitized_mbpp_row_has_its_imports_in_every_test() -> None:
    problem = converted("mbpp_sanitized", MBPP_SANITIZED)
    assert (problem.id, problem.entry_point) == ("9001", "halve")
    assert problem.question.startswith("Write a function to halve a number.\n\nExample: assert math.isclose")
    assert all(test.startswith("import math\nassert") for test in (*problem.tests, *problem.public_tests))


@pytest.mark.parametrize("row", [HOTPOTQA, HOTPOTQA_OWN])
def test_a_hotpotqa_row_of_either_form_keeps_all_paragraphs_and_names_those_that_count(row: Mapping[str, Any]) -> None:
    problem = converted("hotpotqa", row)
    assert (problem.id, problem.answer, problem.domain) == (HOTPOTQA["id"], "Veldania", "qa")
    assert problem.context is not None
    paragraphs = problem.context.split("\n\n")
    assert paragraphs[0] == "Ostrel: Ostrel is a town. The Mirrow passes it."
    assert len(paragraphs) == 3
    assert converter("hotpotqa", "train")(row)["keep"] == [paragraphs[0], paragraphs[2]]


def test_the_spans_of_a_drop_training_row_are_one_answer() -> None:
    problem = converted("drop", DROP, "train")
    assert (problem.answer, problem.aliases) == ("Ruiz | Odden", ())
    assert problem.context == "Ruiz scored first, then Odden."


def test_the_spans_of_a_drop_validation_row_are_each_an_answer() -> None:
    assert converted("drop", DROP, "test").golds == ("Ruiz", "Odden")


def test_every_annotators_answer_of_squad_is_right() -> None:
    assert converted("squad", SQUAD).golds == ("spores", "with spores")


def test_a_squad_question_without_an_answer_has_the_empty_gold_answer() -> None:
    assert converted("squad", {**SQUAD, "answers": {"text": [], "answer_start": []}}).golds == ("",)


@pytest.mark.parametrize("answer", ["024", 24, " 24 "])
def test_an_aime_answer_is_an_integer_without_leading_zeros(answer: object) -> None:
    problem = converted("aime24", {**AIME, "answer": answer})
    assert (problem.id, problem.answer, problem.source) == ("91", "24", "aime24")


@pytest.mark.parametrize("answer", ["1000", "-1", "2.5", "x", "²"])
def test_an_aime_answer_of_another_kind_is_refused(answer: str) -> None:
    with pytest.raises(ValueError, match="0 to 999"):
        converted("aime24", {**AIME, "answer": answer})


def test_an_r2e_gym_row_tells_which_tests_failed_before() -> None:
    repository = converted("r2e_gym", R2E_GYM).extra["repository"]
    assert (repository["fail_to_pass"], repository["pass_to_pass"]) == (["TestLid.test_fits"], ["test_pot"])
    assert "all_or_nothing" not in repository


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"old_commit_res_stdout": "killed"}'])
def test_an_r2e_gym_row_that_does_not_tell_is_solved_as_a_whole_or_not_at_all(content: object) -> None:
    repository = converted("r2e_gym", {**R2E_GYM, "execution_result_content": content}).extra["repository"]
    assert repository["fail_to_pass"] == ["TestLid.test_fits", "test_pot"] and repository["all_or_nothing"]


def test_a_deepscaler_answer_is_the_gold_answer() -> None:
    problem = converted("deepscaler", DEEPSCALER, "train")
    assert (problem.answer, problem.source, problem.domain) == ("-\\frac{2}{3}", "deepscaler", "math")


def test_a_deepcoder_program_is_tested_by_its_output() -> None:
    problem = converted("deepcoder", DEEPCODER)
    assert (problem.entry_point, problem.domain) == (None, "code")
    assert problem.tests == ("check_output('2 3\\n', '5\\n')",)
    assert problem.answer == DEEPCODER["solutions"][0]


def test_codeforces_tests_without_a_type_are_tests_of_a_program() -> None:
    assert deepcoder([{"input": "1 1\n", "output": "2\n"}], solutions=None).tests == ("check_output('1 1\\n', '2\\n')",)


def test_a_deepcoder_function_is_called_with_its_arguments() -> None:
    tests = [{"type": "function_call", "fn_name": "add", "input": [a, 2], "output": [a + 2]} for a in (1, 5)]
    problem = deepcoder(tests)
    assert problem.entry_point == "add"
    assert problem.tests[0] == "check_result([1, 2], [[3], 3])"


def test_taco_tests_are_read_with_and_without_a_function() -> None:
    assert deepcoder({"inputs": ["2 3\n", ["1", "4"]], "outputs": ["5\n", ["5"]]}).tests == (
        "check_output('2 3\\n', '5\\n')",
        "check_output('1\\n4', '5')",
    )
    functional = deepcoder({"fn_name": "add", "inputs": [[1, 2]], "outputs": [[3]]})
    assert (functional.entry_point, functional.tests) == ("add", ("check_result([1, 2], [[3], 3])",))


LCB = {"input": '[1, 2]\n"ab"', "output": "true", "testtype": "functional"}
STARTER = "class Solution:\n    def fits(self, xs: List[int], s: str) -> bool:\n        "


@pytest.mark.parametrize("metadata", [{"func_name": "fits"}, '{"func_name": "fits"}'])
def test_livecodebench_arguments_are_json_lines_and_the_name_is_in_the_metadata(metadata: object) -> None:
    problem = deepcoder([LCB], starter_code=STARTER, metadata=metadata)
    assert problem.entry_point == "fits"
    assert problem.tests == ("check_result([[1, 2], 'ab'], [True])",)
    assert problem.question.endswith("-> bool:")


def test_a_livecodebench_program_has_no_function_name() -> None:
    tests = [{"input": "1\n", "output": "1\n", "testtype": "stdin"}]
    problem = deepcoder(tests, starter_code="", metadata={"func_name": None})
    assert (problem.entry_point, problem.tests) == (None, ("check_output('1\\n', '1\\n')",))


# Full circle: the gold answer earns the full reward


@pytest.mark.parametrize("name", ["gsm8k", "math", "math500", "hotpotqa", "squad", "aime24", "mbpp", "humaneval"])
async def test_a_gold_answer_earns_the_full_reward(name: str, sandbox: Sandbox) -> None:
    problem = converted(name, ROWS[name])
    for answer in problem.golds:
        assert (await grade_answer(answer, problem, sandbox)).correct
    wrong = "def unrelated():\n    return None" if problem.domain == "code" else "31415"
    assert not (await grade_answer(wrong, problem, sandbox)).correct


async def test_the_gold_answer_of_sanitized_mbpp_and_of_deepcoder_earns_the_full_reward(sandbox: Sandbox) -> None:
    for name in ("mbpp_sanitized", "deepcoder"):
        problem = converted(name, ROWS[name])
        assert (await grade_answer(problem.answer, problem, sandbox)).correct
    assert not (await grade_answer("print(0)", converted("deepcoder", DEEPCODER), sandbox)).correct


async def test_all_spans_of_a_drop_training_row_are_asked_for_and_any_of_a_validation_row(sandbox: Sandbox) -> None:
    training, validation = converted("drop", DROP, "train"), converted("drop", DROP, "test")
    assert (await grade_answer("Ruiz and Odden", training, sandbox)).correct
    assert not (await grade_answer("Odden", training, sandbox)).correct
    assert (await grade_answer("Odden", validation, sandbox)).correct


async def test_only_saying_so_is_right_when_the_passage_does_not_answer(sandbox: Sandbox) -> None:
    problem = converted("squad", {**SQUAD, "answers": {"text": [], "answer_start": []}})
    assert (await grade_answer("unanswerable", problem, sandbox)).correct
    assert not (await grade_answer("spores", problem, sandbox)).correct


@pytest.mark.parametrize(
    ("problem", "solution"),
    [
        (
            deepcoder([{"type": "function_call", "fn_name": "add", "input": [1, 2], "output": [3]}]),
            "def add(a, b):\n    return a + b",
        ),
        (
            deepcoder({"fn_name": "twice", "inputs": [["ab"]], "outputs": [["abab"]]}),
            "def twice(s):\n    return s + s",
        ),
        (
            deepcoder([LCB], starter_code=STARTER, metadata={"func_name": "fits"}),
            "from typing import List\nclass Solution:\n    def fits(self, xs: List[int], s: str) -> bool:\n"
            "        return len(xs) == len(s)",
        ),
        (deepcoder({"inputs": [["1", "4"]], "outputs": [["5"]]}), "print(int(input()) + int(input()))"),
    ],
    ids=["function_call", "taco", "livecodebench", "lines"],
)
async def test_every_form_of_deepcoders_tests_grades_a_right_solution_as_right(
    problem: Problem, solution: str, sandbox: Sandbox
) -> None:
    grade = await grade_answer(solution, problem, sandbox)
    assert grade.correct, grade
    assert not (await grade_answer(solution.replace("+", "*").replace("==", "!="), problem, sandbox)).correct


# Other schemas


@pytest.mark.parametrize(("name", "column"), CASES)
def test_a_missing_column_is_named_in_the_error(name: str, column: str) -> None:
    row = {key: value for key, value in ROWS[name].items() if key != column}
    with pytest.raises(ValueError, match=rf"no column .*'{column}'"):
        converted(name, row)


@pytest.mark.parametrize(("name", "column"), CASES)
def test_a_renamed_column_is_named_in_the_error(name: str, column: str) -> None:
    row = {("anders" if key == column else key): value for key, value in ROWS[name].items()}
    with pytest.raises(ValueError, match=rf"'{column}'.*the columns are .*anders"):
        converted(name, row)


@pytest.mark.parametrize(("name", "column"), [case for case in CASES if case[1] not in ("id", "task_id", "query_id")])
@pytest.mark.parametrize("value", [7, 1.5, True, ["x", 3], {"other": 1}, [[]]], ids=repr)
def test_a_column_of_a_wrong_type_is_a_bad_row_and_no_crash(name: str, column: str, value: object) -> None:
    if (name, column, value) == ("aime24", "answer", 7):
        return  # an integer is what the answer is
    with pytest.raises(ValueError, match=rf"{column}|'(spans|text)'"):
        converted(name, {**ROWS[name], column: value})


@pytest.mark.parametrize(
    ("name", "columns", "word"),
    [
        ("hotpotqa", {"context": {"title": ["a"]}}, "context"),
        ("hotpotqa", {"context": {"title": ["a", "b"], "sentences": [["x"]]}}, "context"),
        ("hotpotqa", {"context": ["just text"]}, "context"),
        ("hotpotqa", {"supporting_facts": ["just text"]}, "supporting_facts"),
        ("hotpotqa", {"supporting_facts": {"names": []}}, "supporting_facts"),
        ("drop", {"answers_spans": {"spans": []}}, "answers_spans"),
        ("drop", {"answers_spans": {"spans": "Ruiz"}}, "spans"),
        ("squad", {"answers": {"text": "spores"}}, "text"),
        ("mbpp", {"test_list": "assert hypotenuse(3, 4) == 5"}, "test_list"),
        ("mbpp", {"test_list": []}, "test_list"),
        ("mbpp_sanitized", {"test_imports": "import math"}, "test_imports"),
        ("humaneval", {"test": "def check(candidate:"}, "not Python"),
        ("gsm8k", {"answer": "It is 5."}, "####"),
        ("math", {"solution": "It is 5."}, "boxes no answer"),
        ("deepcoder", {"tests": "{not json"}, "JSON"),
        ("deepcoder", {"tests": "3"}, "tests"),
        ("deepcoder", {"tests": '["assert True"]'}, "tests"),
        ("deepcoder", {"tests": '[{"testtype": "functional", "input": "1"}]'}, "tests"),
        ("deepcoder", {"tests": json.dumps([LCB])}, "function's name"),
        ("deepcoder", {"tests": json.dumps([LCB, *STDIN_TESTS]), "metadata": {"func_name": "f"}}, "programs"),
        ("deepcoder", {"tests": '{"inputs": ["1"], "outputs": []}'}, "as many"),
        ("deepcoder", {"tests": "[]"}, "needs tests"),
    ],
)
def test_a_row_of_another_shape_says_what_is_wrong(name: str, columns: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=re.escape(word)):
        converted(name, {**ROWS[name], **columns})


@given(st.sampled_from(sorted(ROWS)), st.data())
def test_no_row_whatever_crashes_a_converter(name: str, data: st.DataObject) -> None:
    junk = st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["text", "title", "x"]), inner),
        max_leaves=4,
    )
    column = data.draw(st.sampled_from(sorted(ROWS[name])))
    try:
        converted(name, {**ROWS[name], column: data.draw(junk)})
    except ValueError as error:
        assert str(error)


# hub.yaml


def test_every_benchmark_is_pinned_to_a_commit() -> None:
    for known in benchmarks().values():
        assert re.fullmatch(r"[0-9a-f]{40}", known.revision), known.name
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", known.repo)
        assert known.licence


def test_every_file_of_every_benchmark_can_be_read() -> None:
    for known in benchmarks().values():
        assert set(known.splits) <= {"train", "validation", "test"}
        files = [path for paths in known.splits.values() for path in paths]
        assert files and len(set(files)) == len(files)
        assert all(path.endswith(SUFFIXES) for path in files)


def test_sharded_splits_are_complete_and_in_order() -> None:
    for known in benchmarks().values():
        for paths in known.splits.values():
            shards = [match for path in paths if (match := re.search(r"-(\d{5})-of-(\d{5})", path))]
            if any(int(match[2]) > 1 for match in shards):
                assert [int(match[1]) for match in shards] == list(range(int(shards[0][2])))


def test_every_benchmark_has_a_converter_and_a_domain() -> None:
    assert set(benchmarks()) == set(ROWS)
    for name, row in ROWS.items():
        problem = converted(name, row)
        assert source_domains()[problem.source] == problem.domain
        assert problem.domain in DOMAINS


def test_a_benchmarks_own_metric_is_one_that_its_grader_has() -> None:
    own = {name: known.metric for name, known in benchmarks().items() if known.metric is not None}
    assert own == {"drop": "drop"} and set(own.values()) <= set(METRICS)
    decimal = {source: best_scores("12.0", Problem("?", "12", source, "qa", "1"))[0] for source in ("drop", "squad")}
    assert decimal == {"drop": True, "squad": False}


def test_an_unknown_benchmark_names_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"'gsm9k'.*gsm8k"):
        benchmark("gsm9k")
