"""What crosses between a solution and its tests, what a lying solution gets for it, and when outputs are equal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_ops.examiner.compare import same_output, same_result
from aflow_ops.sandbox import Sandbox
from data.humaneval import humaneval
from data.problem import Problem
from rewards.graders.code import grade_code
from tests.patience import PATIENCE


def problem_of(tests: object, ep: str | None = None) -> Problem:
    row = {"question": "Write.", "answer": "", "source": "made", "domain": "code", "tests": tests}
    return Problem.from_row({**row, **({"entry_point": ep} if ep else {})})


CASES = [  # name, problem, solution, whether it is right
    (
        "StopIteration in all(map)",
        problem_of(["assert all(map(candidate,[1,2]))"], ep="f"),
        "def f(x): raise StopIteration",
        False,
    ),
    (
        "liar object ==",
        problem_of(["assert candidate(1)==6"], ep="f"),
        "class E:\n def __eq__(s,o): return True\n __ne__=__eq__\ndef f(x): return E()",
        False,
    ),
    (
        "liar !=",
        problem_of(["assert candidate(1)!=6"], ep="f"),
        "class E:\n def __eq__(s,o): return True\ndef f(x): return E()",
        False,
    ),
    (
        "liar sub",
        problem_of(["assert abs(candidate(1)-3.0)<1e-6"], ep="f"),
        "class E:\n def __sub__(s,o): return 0.0\ndef f(x): return E()",
        False,
    ),
    (
        "liar contains",
        problem_of(["assert 5 in candidate(1)"], ep="f"),
        "class E:\n def __contains__(s,o): return True\ndef f(x): return E()",
        False,
    ),
    (
        "liar startswith",
        problem_of(["assert candidate(1).startswith('ab')"], ep="f"),
        "class E:\n def startswith(s,o): return True\ndef f(x): return E()",
        False,
    ),
    (
        "liar math module",
        problem_of(["assert math.isclose(candidate(1),3.0)"], ep="f"),
        "class math:\n isclose=staticmethod(lambda *a:True)\ndef f(x): return 1.0",
        False,
    ),
    (
        "liar helper check_result",
        problem_of({"fn_name": "f", "inputs": [[1]], "outputs": [2]}),
        "def check_result(*a): pass\ndef f(x): return 9",
        False,
    ),
    (
        "stateless pair",
        problem_of(["assert swap(Pair(1,2))==Pair(2,1)"], ep="swap"),
        "class Pair:\n def __init__(s,a,b): pass\n def __eq__(s,o): return True\ndef swap(p): return p",
        False,
    ),
    (
        "pair swap",
        problem_of(["assert swap(Pair(1,2))==Pair(2,1)"], ep="swap"),
        "class Pair:\n def __init__(s,a,b): s.a,s.b=a,b\ndef swap(p): return Pair(p.b,p.a)",
        True,
    ),
    (
        "sum entry",
        problem_of(["assert sum(10,15)==6", "assert sum(100,150)==93"]),
        "def sum(a,b):\n    return 6 if a==10 else 93",
        True,
    ),
    ("check entry", problem_of(["assert check(3)==4"]), "def check(x): return x+1", True),
    ("closure", problem_of(["assert candidate(2)(3)==5"], ep="f"), "def f(a): return lambda b:a+b", True),
    (
        "fraction",
        problem_of(["from fractions import Fraction\nassert candidate(1)==Fraction(1,2)"], ep="f"),
        "from fractions import Fraction\ndef f(x): return Fraction(x,2)",
        True,
    ),
    (
        "generator",
        problem_of(["assert list(candidate(3))==[0,1,2]", "g=candidate(9)\nassert next(g)==0 and next(g)==1"], ep="f"),
        "def f(n):\n for i in range(n): yield i",
        True,
    ),
    (
        "dict keys",
        problem_of(["assert sorted(candidate({'a':1}))==['a']", "assert candidate({'a':1})=={'a'}"], ep="f"),
        "def f(d): return d.keys()",
        True,
    ),
    (
        "own exception",
        problem_of(["try:\n    candidate(-1)\n    assert False\nexcept Bad:\n    pass"], ep="f"),
        "class Bad(Exception): pass\ndef f(x): raise Bad('x')",
        True,
    ),
    (
        "numpy alias in test",
        problem_of(["assert np.allclose(candidate(1),[1.0])"], ep="f"),
        "import numpy as np\ndef f(x): return np.array([1.0])",
        True,
    ),
    (
        "tuple for list",
        problem_of({"fn_name": "f", "inputs": [[1]], "outputs": [[1, 2]]}),
        "def f(x): return (1,2)",
        True,
    ),
    (
        "List annotation",
        problem_of({"fn_name": "f", "inputs": [[[1]]], "outputs": [1]}),
        "def f(x: List[int]) -> int: return x[0]",
        True,
    ),
    (
        "atexit",
        problem_of([{"input": "1\n", "output": "5\n"}]),
        "import atexit\natexit.register(lambda: print(5))",
        True,
    ),
    ("inf vs 10^400", problem_of([{"input": "1\n", "output": "1" + "0" * 400 + "\n"}]), "print('inf')", False),
    ("inplace", problem_of(["x=[3,1]\ncandidate(x)\nassert x==[1,3]"], ep="f"), "def f(x): x.sort()", True),
    (
        "callback class key",
        problem_of(["assert candidate([3,1],key=lambda v:-v)==[3,1]"], ep="f"),
        "def f(xs,key): return sorted(xs,key=key)",
        True,
    ),
    ("test prints", problem_of(["print(candidate(1))\nassert candidate(1)==1"], ep="f"), "def f(x): return x", True),
    (
        "forged verdicts",
        problem_of(["assert candidate(1)==2"] * 3, ep="f"),
        "import os\nfor fd in range(60):\n    try: os.write(fd, b'+\\n"
        "+\\n')\n    except OSError: pass\ndef f(x): return 1",
        False,
    ),
    (
        "fork in solution",
        problem_of(["assert candidate(1)==2"], ep="f"),
        "import os\ndef f(x):\n    os.fork(); os._exit(0)",
        False,
    ),
]


@pytest.mark.parametrize(
    ("problem", "solution", "right"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
async def test_a_solution_gets_what_it_returns(problem: Problem, solution: str, right: bool, sandbox: Sandbox) -> None:
    grade = await grade_code(solution, problem, sandbox)
    assert grade.correct == right, grade


LIARS = {
    "HumanEval/32": "def poly(xs, x): return 0.0\ndef find_zero(xs): return 1.0",
    "HumanEval/38": "def encode_cyclic(s): return s\ndef decode_cyclic(s): return s",
    "HumanEval/50": "def encode_shift(s): return s\ndef decode_shift(s): return s",
}


@pytest.mark.parametrize("name", LIARS)
async def test_hidden_tests_use_the_questions_own_helpers(
    name: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aflow_ops.examiner.run.TEST_SECONDS", PATIENCE)
    problem = next(item for item in humaneval(0) if item.id == name)
    assert not (await grade_code(LIARS[name], problem, sandbox)).correct
    assert (await grade_code(problem.answer, problem, sandbox)).correct


@given(st.integers(), st.data())
def test_an_integer_with_another_digit_never_passes(value: int, data: st.DataObject) -> None:
    text = str(value)
    place = data.draw(st.integers(0, len(text) - 1).filter(lambda index: text[index].isdigit()))
    other = (
        text[:place] + data.draw(st.sampled_from("0123456789").filter(lambda c: c != text[place])) + text[place + 1 :]
    )
    for printed in (other, f"{other}.0", f"{other}e0", f"0{text}", f"{text}.000001"):
        assert not same_output(printed + "\n", text + "\n")
    assert same_output(f"\n{text} \n\n", text)
    assert not same_result(int(other), value) or int(other) == value


@given(st.floats(-1e12, 1e12).filter(lambda value: abs(value) > 1e-3 and not value.is_integer()))
def test_a_float_has_a_millionth(value: float) -> None:
    assert same_output(repr(value * (1 + 1e-8)), repr(value))
    assert same_result([value * (1 + 1e-8)], (value,))
    assert not same_output(repr(value + 1e-5 * max(1.0, abs(value))), repr(value))
    assert not same_result(value + 1e-5 * max(1.0, abs(value)), value)
