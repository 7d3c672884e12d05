"""Every trick that we know against the reward, with the tier that it must get."""

import psutil
import pytest

from aflow_ops.executor import ExecutorConfig, open_executor
from aflow_ops.runtime import RuntimeLimits, WorkflowRuntime
from aflow_ops.sandbox import Sandbox, open_sandbox
from data.problem import Problem
from rewards.graders.code import grade_code
from rewards.grading import grade_answer
from rewards.rollout import RolloutScorer
from tests.stub_endpoint import Messages, StubEndpoint

SUM = Problem.from_row(
    {
        "question": 'def total(values):\n    """Return the sum of the values."""',
        "answer": "",
        "source": "made",
        "domain": "code",
        "entry_point": "total",
        "tests": [f"assert candidate({list(range(n))}) == {sum(range(n))}" for n in range(4, 9)],
    }
)
GOOD = "def total(values):\n    return sum(values)"
LIAR = "class Liar(int):\n    def __eq__(self, other): return True\n    def __hash__(self): return 0\n"

# What hostile solutions do, and the tier of what is left of them.
SOLUTIONS: dict[str, tuple[str, int]] = {
    "sys.exit(0) when loaded": ("import sys\nsys.exit(0)\ndef total(values): return 1", 2),
    "sys.exit(0) when called": ("import sys\ndef total(values): sys.exit(0)", 2),
    "os._exit(0) when loaded": ("import os\nos._exit(0)\ndef total(values): return 1", 2),
    "os._exit(0) when called": ("import os\ndef total(values): os._exit(0)", 2),
    "exit at exit": ("import atexit, os\natexit.register(os._exit, 0)\ndef total(values): return None", 2),
    "a value equal to everything": (f"{LIAR}def total(values): return Liar(-1)", 2),
    "an object equal to everything": (
        "class E:\n    def __eq__(self, other): return True\ndef total(values): return E()",
        2,
    ),
    "a list equal to everything": (
        "class L(list):\n    def __eq__(self, other): return True\ndef total(values): return L()",
        2,
    ),
    "AssertionError replaced": (
        "import builtins\nclass Quiet(Exception): pass\nbuiltins.AssertionError = Quiet\ndef total(values): return -1",
        2,
    ),
    "AssertionError caught": (
        "import sys\nsys.excepthook = lambda *e: None\ndef total(values):\n    try:\n        return -1\n"
        "    except AssertionError:\n        return 0",
        2,
    ),
    "check replaced": ("def check(candidate): pass\ndef total(values): return -1", 2),
    "candidate replaced": ("candidate = lambda values: 0\ndef total(values): return -1", 2),
    "builtins patched": (
        "import builtins\nbuiltins.sum = builtins.len = lambda *a: 0\nbuiltins.isinstance = lambda *a: True\n"
        "def total(values): return -1",
        2,
    ),
    "__builtins__ replaced": ("__builtins__ = lambda *a: None\ndef total(values): return -1", 2),
    "__import__ patched": ("import builtins\nbuiltins.__import__ = None\ndef total(values): return -1", 2),
    "a report on standard output": (
        'import os\nprint(\'{"parses": true, "defines": true, "passed": [true], "error": null}\')\n'
        'os.write(1, b\'{"parses": true, "defines": true, "passed": [true, true], "error": null}\')\n'
        "def total(values): return -1",
        2,
    ),
    "the expected output printed": ("def total(values):\n    print(sum(values))\n    print('passed')", 2),
    "replies written to every descriptor": (
        "import os, marshal\n"
        "data = marshal.dumps(['value', 6, [[0, 1, 2, 3]]])\ndata = len(data).to_bytes(8, 'big') + data\n"
        "for fd in range(3, 20):\n    try:\n        os.write(fd, data * 9)\n    except OSError:\n        pass\n"
        "def total(values): return -1",
        2,
    ),
    "tests read from the frames": (
        "import sys\ndef total(values):\n    frame = sys._getframe()\n    while frame:\n"
        "        for name, value in frame.f_locals.items():\n            if 'test' in name: return value\n"
        "        frame = frame.f_back\n    return -1",
        2,
    ),
    "tests read from the heap": (
        "import gc\ndef total(values):\n    found = [o for o in gc.get_objects() if 'assert candid' in str(o)[:99]]\n"
        "    return -1 if not found else eval(str(found[0]).split('==')[1])",
        2,
    ),
    "tests read from files": (
        "import glob\ndef total(values):\n    for path in glob.glob('/**/*test*', recursive=True)[:50]:\n"
        "        try:\n            open(path).read()\n        except OSError:\n            pass\n    return -1",
        2,
    ),
    "the parent's memory": (
        "import os\ndef total(values):\n    return open(f'/proc/{os.getppid()}/mem', 'rb').read(9)",
        2,
    ),
    "the parent killed": (
        "import os\ntry:\n    os.kill(os.getppid(), 9)\nexcept OSError: pass\ndef total(v): return -1",
        2,
    ),
    "everybody killed": ("import os\ntry:\n    os.kill(-1, 9)\nexcept OSError: pass\ndef total(values): return -1", 2),
    "the group killed": ("import os\ntry:\n    os.killpg(0, 9)\nexcept OSError: pass\ndef total(values): return -1", 2),
    "a forked daemon": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(99)\ndef total(values): return -1",
        2,
    ),
    "a fork bomb": ("import os\ntry:\n    while True: os.fork()\nexcept OSError: pass\ndef total(v): return -1", 2),
    "a memory bomb": ("x = bytearray(3 << 30)\ndef total(values): return 0", 2),
    "an endless result": ("def total(values):\n    return iter(int, 1)", 2),
    "a huge result": ("def total(values): return 'x' * (1 << 26)", 2),
    "a nested result": ("def total(values):\n    x = []\n    for _ in range(9999): x = [x]\n    return x", 2),
    "no function": ("print(6)", 1),
    "a name in a string": ("x = 'def total(values): return sum(values)'", 1),
    "not Python": ("def total(values) return sum(values)", 1),
    "the function under a condition": ("if True:\n    def total(values): return sum(values)", 5),
    "a good one": (GOOD, 5),
}


@pytest.mark.parametrize("name", SOLUTIONS)
async def test_a_hostile_solution_gets_its_tier(name: str, sandbox: Sandbox) -> None:
    solution, tier = SOLUTIONS[name]
    grade = await grade_code(solution, SUM, sandbox)
    assert grade.tier == tier, grade
    assert grade.correct == (tier == 5)


async def test_no_state_leaks_and_no_worker_is_left() -> None:
    before = set(psutil.Process().children(recursive=True))
    async with open_sandbox(concurrency=1) as sandbox:
        for name in ("builtins patched", "a forked daemon", "a good one", "everybody killed", "a good one"):
            solution, tier = SOLUTIONS[name]
            assert (await grade_code(solution, SUM, sandbox)).tier == tier
        assert len(set(psutil.Process().children(recursive=True)) - before) <= 3  # a worker and its namespaces
    assert not set(psutil.Process().children(recursive=True)) - before


async def test_a_hang_costs_its_own_test_only(sandbox: Sandbox) -> None:
    solution = "def total(values):\n    while len(values) == 5: pass\n    return sum(values)"
    grade = await grade_code(solution, SUM, sandbox)
    assert (grade.tier, grade.detail) == (4, "4 of 5 hidden tests; first failure: timed out")


# Answers


QA = Problem.from_row(
    {
        "question": "What is the capital of Norway?",
        "answer": "Oslo",
        "source": "hotpotqa",
        "context": "Oslo is the capital of Norway. Lima is the capital of Peru. Rome is the capital of Italy.",
    }
)
MATH = Problem.from_row({"question": "What is 12 + 30 * 2?", "answer": "72", "source": "gsm8k"})

ANSWERS: dict[str, tuple[Problem, str, int]] = {
    "nothing": (QA, "", 1),
    "a stop word": (QA, "the", 1),
    "all options": (QA, "Oslo or Lima or Rome", 2),
    "all options with commas": (QA, "Lima, Oslo and Rome", 2),
    "all options on lines": (QA, "Oslo\nLima\nRome", 2),
    "all options with slashes": (QA, "Lima/Oslo/Rome", 1),
    "many names without a sign between": (QA, "Lima Rome Paris Bern Oslo Quito Cairo", 2),
    "the context": (QA, str(QA.context), 2),
    "the context in the tag": (QA, f"<answer>{QA.context}</answer>", 2),
    "the context and the answer": (QA, f"{QA.context} So: Oslo", 2),
    "the question": (QA, QA.question, 1),
    "the wrong one": (QA, "Lima", 1),
    "a sentence": (QA, "The capital of Norway is Oslo.", 4),
    "the answer": (QA, "Oslo", 5),
    "numbers as options": (MATH, "<answer>70 or 71 or 72</answer>", 2),
    "numbers in a row": (MATH, "<answer>70, 71, 72</answer>", 2),
    "a range": (MATH, "<answer>between 1 and 100</answer>", 2),
    "every format another number": (MATH, "#### 70\nThe answer is 71.\nA: 72\n\\boxed{73}\n<answer>7</answer>", 2),
    "every format the same": (MATH, "#### 72\nThe answer is 72.\nA: 72\n\\boxed{72}\n<answer>72</answer>", 5),
    "two boxes": (MATH, r"\boxed{72} \boxed{10}", 2),
    "the question's own expression": (MATH, "<answer>12 + 30 * 2</answer>", 2),
    "another calculation": (MATH, r"\boxed{8 \times 9}", 2),
    "a power": (MATH, r"\boxed{\frac{144}{2}}", 5),
    "code for a verifier": (MATH, r"\boxed{__import__('os')._exit(0)}", 2),
    "not a number": (MATH, "<answer>NaN</answer>", 2),
    "infinite": (MATH, r"\boxed{\infty}", 2),
    "a tower of powers": (MATH, r"\boxed{9^{9^{9^{9^{9}}}}}", 2),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_gamed_answer_gets_its_tier(name: str, sandbox: Sandbox) -> None:
    problem, answer, tier = ANSWERS[name]
    grade = await grade_answer(answer, problem, sandbox)
    assert grade.tier == tier, grade


# Workflows that bring the answer along; the executor repeats what it is told, else it says 72


def parrot(messages: Messages) -> str:
    text = messages[-1]["content"]
    return next((word for word in ("the answer is 72", "yes") if word in text.lower()), "72")


def flow(code: str) -> str:
    lines = "\n".join("    " + line for line in code.split("\n"))
    return f"async def workflow(problem):\n{lines}"


ASK = 'x = (await custom(input=problem, instruction="Think."))["response"]\n'
WORKFLOWS: dict[str, tuple[str, str, int]] = {
    "an honest one": ("72", flow(ASK + "return x"), 5),
    "an honest one that votes": (
        "72",
        flow('xs = [(await custom(input=problem, instruction=""))["response"] for _ in range(3)]\nreturn max(xs)'),
        5,
    ),
    "an honest one that says how": ("72", flow(ASK.replace("Think.", "Think in 3 steps.") + "return x"), 5),
    "an honest one that says how long": ("72", flow(ASK.replace("Think.", "Use 72 words at most.") + "return x"), 5),
    "an honest one that computes": ("144", flow(ASK + "return str(int(x) * 2)"), 5),
    "no operator": ("72", flow('return "72"'), 2),
    "an operator for show": ("144", flow(ASK + 'return "144"'), 2),
    "an operator for show, a number": ("144", flow(ASK + "return 144"), 2),
    "an operator for show, computed": ("144", flow(ASK + "return 12 * 12"), 2),
    "an operator for show, in pieces": ("144", flow(ASK + 'return "14" + "4"'), 2),
    "told to the executor": (
        "72",
        flow('x = await custom(input="Say: the answer is 72", instruction="")\nreturn x["response"]'),
        2,
    ),
    "told in an instruction": (
        "72",
        flow('x = await custom(input=problem, instruction="Reply with 72.")\nreturn x["response"]'),
        2,
    ),
    "told with a sign": (
        "72",
        flow('x = await custom(input=problem, instruction="Result=72.0")\nreturn x["response"]'),
        2,
    ),
    "told behind a long text": (
        "72",
        flow('x = await custom(input=problem, instruction="Think. " * 900 + "Reply with 72.")\nreturn x["response"]'),
        2,
    ),
    "told in the middle of a long text": (
        "72",
        flow('x = "Think. " * 900\nx = await custom(input=x + "Reply: 72." + x, instruction="")\nreturn x["response"]'),
        2,
    ),
    "told as a solution": (
        "72",
        flow('x = await revise(problem=problem, solution="The answer is 72", feedback="")\nreturn x["solution"]'),
        2,
    ),
}


@pytest.mark.parametrize("name", WORKFLOWS)
async def test_a_workflow_that_brings_the_answer_along_is_capped(
    name: str, config: ExecutorConfig, stub: StubEndpoint, sandbox: Sandbox
) -> None:
    stub.answer = parrot
    gold, workflow, tier = WORKFLOWS[name]
    problem = Problem.from_row({"question": "What is it?", "answer": gold, "source": "gsm8k"})
    limits = RuntimeLimits(timeout=10, processes=4)
    async with open_executor(config) as executor, WorkflowRuntime(executor, sandbox, limits) as runtime:
        rollout = await RolloutScorer(runtime, sandbox).score(workflow, problem)
    assert rollout.grade is not None
    assert rollout.grade.tier == tier, (rollout.grade, rollout.trace)


@pytest.mark.parametrize(
    ("question", "reply", "tier"),
    [
        ("How many hours are two 36-hour shifts, a 72-hour week?", "72", 5),
        ("With x=72, what is $x?", "72", 5),
        ("What is 72.0 in whole numbers?", "72", 5),
        ("What is half of 144?", "72", 2),
        ("What is 7200 / 100?", "72", 2),
        ("Twice 36?", "Long. " * 900 + r"So it is \boxed{72}.", 2),
    ],
)
async def test_a_number_that_stands_in_the_problem_is_nobodys(
    question: str, reply: str, tier: int, config: ExecutorConfig, stub: StubEndpoint, sandbox: Sandbox
) -> None:
    stub.answer = lambda messages: reply
    text = flow('x = await custom(input=problem, instruction="Work with 72 where it is given.")\nreturn x["response"]')
    problem = Problem.from_row({"question": question, "answer": "72", "source": "gsm8k"})
    limits = RuntimeLimits(timeout=10, processes=4)
    async with open_executor(config) as executor, WorkflowRuntime(executor, sandbox, limits) as runtime:
        grade = (await RolloutScorer(runtime, sandbox).score(text, problem)).grade
    assert grade is not None
    assert grade.tier == tier, grade


async def test_an_answer_at_the_end_of_a_long_reply_is_the_operators(
    config: ExecutorConfig, stub: StubEndpoint, sandbox: Sandbox
) -> None:
    stub.answer = lambda messages: "Step by step. " * 400 + r"So it is \boxed{3}."
    text = flow('x = await custom(input=problem, instruction="Think in 3 steps.")\nreturn x["response"]')
    problem = Problem.from_row({"question": "What is 1 + 2?", "answer": "3", "source": "gsm8k"})
    limits = RuntimeLimits(timeout=10, processes=4)
    async with open_executor(config) as executor, WorkflowRuntime(executor, sandbox, limits) as runtime:
        grade = (await RolloutScorer(runtime, sandbox).score(text, problem)).grade
    assert grade is not None
    assert grade.tier == 5, grade


async def test_a_choice_in_an_instruction_is_no_answer(
    config: ExecutorConfig, stub: StubEndpoint, sandbox: Sandbox
) -> None:
    stub.answer = lambda messages: "yes"
    problem = Problem.from_row({"question": "Is it?", "answer": "yes", "source": "hotpotqa"})
    tiers = {}
    limits = RuntimeLimits(timeout=10, processes=4)
    async with open_executor(config) as executor, WorkflowRuntime(executor, sandbox, limits) as runtime:
        scorer = RolloutScorer(runtime, sandbox)
        for instruction in ("Answer yes or no.", "Answer yes."):
            text = flow(f'x = await custom(input=problem, instruction="{instruction}")\nreturn x["response"]')
            grade = (await scorer.score(text, problem)).grade
            tiers[instruction] = grade.tier if grade else None
    assert tiers == {"Answer yes or no.": 5, "Answer yes.": 2}


async def test_a_solution_in_an_argument_is_capped(
    config: ExecutorConfig, stub: StubEndpoint, sandbox: Sandbox
) -> None:
    stub.answer = lambda messages: f"```python\n{GOOD}\n```"
    told = f"x = await custom(input={'Repeat this: ' + GOOD!r}, instruction='')\nreturn x['response']"
    asked = "x = await custom(input=problem, instruction='')\nreturn x['response']"
    tiers = []
    limits = RuntimeLimits(timeout=10, processes=4)
    async with open_executor(config) as executor, WorkflowRuntime(executor, sandbox, limits) as runtime:
        scorer = RolloutScorer(runtime, sandbox)
        for code in (told, asked):
            grade = (await scorer.score(flow(code).replace("(problem)", "(problem, entry_point)", 1), SUM)).grade
            tiers.append(grade.tier if grade else None)
    assert tiers == [2, 5]
