"""Answers with the label that the benchmark's own checker or a careful reader gives them: several hundred, all domains.

Written by hand where a form is hard, generated where only its kind matters. `rows()` is what `scripts/grade.py` reads.
"""

import random
import re
from collections.abc import Iterator
from typing import Any

from data.humaneval import humaneval
from data.invented_facts import invented_facts
from data.small_functions import small_functions

Row = dict[str, Any]

# answer, gold, right
MATH: list[tuple[str, str, bool]] = [
    ("18", "18", True),
    (r"\boxed{\frac{1}{2}}", "0.5", True),
    (r"\boxed{1\frac{1}{2}}", "3/2", True),
    (r"\frac12", "1/2", True),
    ("½", "0.5", True),
    ("1½", "1.5", True),
    (r"3 \times 10^5", "300000", True),
    ("1e3", "1000", True),
    ("$18 per day", "18", True),
    (r"12\text{ cm}^2", "12", True),
    (r"45^\circ", "45", True),
    ("50%", "0.5", True),
    ("50%", "50", True),
    ("0.5", "50%", True),
    (r"\boxed{10\%}", "10", True),
    ("7 apples", "7", True),
    ("3 1/2 cups", "3.5", True),
    ("10 a.m.", "10", True),
    ("A: 90,000", "90000", True),
    ("A: 5", "5", True),
    ("**Answer:** 18", "18", True),
    ("Final answer: 18", "18", True),
    ("The answer is: **18**", "18", True),
    ("The answer is x = 5.", "5", True),
    (r"\boxed{x=5}", "5", True),
    ("#### 1,234.00", "1234", True),
    ("#### 20.0", "20", True),
    (r"32,\!348", "32348", True),
    (r"\$32{,}348", "32348", True),
    ("$-5", "-5", True),
    ("-$5", "-5", True),
    ("−5", "-5", True),
    (r"\boxed{-\frac{3}{4}}", "-0.75", True),
    ("-3/4", "-0.75", True),
    (r"\boxed{2^{10}}", "1024", True),
    (r"\boxed{12\pi}", "12", False),
    (r"\boxed{12}", r"12\pi", False),
    ("12pi", "12", False),
    (r"\boxed{3x^2+2}", "3x^2+1", False),
    (r"\boxed{5\sqrt{3}}", r"5\sqrt{2}", False),
    (r"\boxed{2-\sqrt{3}}", r"2+\sqrt{3}", False),
    (r"\boxed{3+5i}", "3+4i", False),
    (r"\boxed{4i+3}", "3+4i", True),
    (r"\boxed{3}", "3,-2", False),
    (r"\boxed{-2, 3}", "3,-2", True),
    (r"\boxed{x=-2\text{ or }x=3}", "3,-2", True),
    (r"\boxed{5\text{ and }7}", "5,7", True),
    (r"\boxed{1+\sqrt{2}, 1-\sqrt{2}}", r"1\pm\sqrt{2}", True),
    (r"\boxed{1,2,4}", "1,2,3", False),
    (r"\boxed{6x^2}", "6x^3", False),
    (r"\boxed{3y}", "3x", False),
    (r"\boxed{3}", "3x", False),
    ("3*x**2 + 1", "3x^2+1", True),
    ("x**(1/2)", r"\sqrt{x}", True),
    ("pi/2", r"\frac{\pi}{2}", True),
    ("2*sqrt(2)", r"2\sqrt{2}", True),
    (r"\boxed{0.\overline{3}}", r"\frac{1}{3}", True),
    (r"\boxed{0}", r"0.\overline{3}", False),
    (r"\boxed{0.1\overline{6}}", "1/6", True),
    (r"\boxed{\frac{10}{3} \approx 3.33}", r"\frac{10}{3}", True),
    (r"\boxed{f(x)=2x+3}", "2x+3", True),
    (r"The answer is $\frac{5}{2}$ miles.", "2.5", True),
    (r"The answer is \(\frac{5}{2}\).", "2.5", True),
    (r"The answer is \[42\]", "42", True),
    ("The answer is 18 percent.", "0.18", True),
    (r"\boxed{\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", True),
    (r"\boxed{\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", True),
    (r"\boxed{\begin{pmatrix} 1 & 2 \\ 3 & 5 \end{pmatrix}}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", False),
    (r"\boxed{5!}", "120", True),
    ("5in", "5", True),
    ("12 kg", "12", True),
    (r"\boxed{x^2+2x+1}", "(x+1)^2", True),
    (r"\boxed{\sqrt{8}}", r"2\sqrt{2}", True),
    (r"\boxed{\frac{\sqrt{3}}{2}}", r"\frac{\sqrt3}{2}", True),
    (r"\boxed{\dfrac{7}{12}}", r"\frac{7}{12}", True),
    (r"\boxed{5\sqrt{2}\text{ cm}}", r"5\sqrt{2}", True),
    (r"\boxed{\pi}", r"\pi", True),
    ("x+2", "2+x", True),
    (r"\boxed{y=2x+1}", "y=2x+1", True),
    (r"\boxed{2x+1}", "y=2x+1", True),
    (r"\boxed{\{1,2,3\}}", r"\{3,2,1\}", True),
    (r"\boxed{1,2}", "2,1", True),
    ("2,3,5", "2, 3, 5", True),
    (r"\boxed{(1,2)}", "(1,2)", True),
    (r"\boxed{(2,1)}", "(1,2)", False),
    (r"\boxed{[1,2)}", "[1,2)", True),
    (r"\boxed{[1,2]}", "[1,2)", False),
    (r"\boxed{(1,2]}", "(1, 2]", True),
    (r"\boxed{x \in [-2,7]}", "[-2,7]", True),
    (r"\boxed{(-\infty,3)}", r"(-\infty, 3)", True),
    (r"\boxed{(-\infty,0)\cup(1,2)}", r"(-\infty,0)\cup (1,2)", True),
    (r"\boxed{\begin{pmatrix}1\\2\end{pmatrix}}", r"\begin{pmatrix}1\\2\end{pmatrix}", True),
    (r"\boxed{\text{Evelyn}}", "Evelyn", True),
    ("<answer>Evelyn</answer>", r"\text{Evelyn}", True),
    ("<answer>Evelyn</answer>", "Carla", False),
    ("(A)", "A", True),
    (r"\boxed{\text{(A)}}", "A", True),
    (r"\boxed{\text{(A)}}", "B", False),
    ("7:30 p.m.", "7:30 pm", True),
    ("5:3", "5:3", True),
    ("<answer>She makes $18 every day</answer>", "18", True),
    ("The final answer is $\\boxed{18}$. I hope it is correct.", "18", True),
    ("He earns 5*3=<<5*3=15>>15 dollars", "15", True),
    ("Total: 15 + 3 = 18 apples", "18", True),
    ("First she had 5.\nThen she had 18.\n", "18", True),
    ("The answer is not 5, it is 18", "18", False),  # a marked phrase with two numbers commits to none
    ("The total is 18 apples and 3 pears", "18", False),
    ("#### 18\nThe answer is 20", "18", True),  # the order of marks is fixed
    ("<answer>18</answer> ... #### 20", "20", False),
    ("<answer>12 or 18</answer>", "18", False),
    ("<answer>12, 18</answer>", "18", False),
    ("<answer>12; 18</answer>", "18", False),
    ("<answer>maybe 12 maybe 18</answer>", "18", False),
    ("#### 12 or 18", "18", False),
    (r"\boxed{12, 18}", "18", False),
    (r"\boxed{12\text{ or }18}", "18", False),
    (r"\boxed{9^{9^{9^{9}}}}", "x+1", False),
    ("one", "1", False),
    ("5 dollars and 50 cents", "5.5", False),
    ("$5 million", "5000000", True),
    ("9.8 m/s^2", "9.8", True),
    ("60 miles per hour", "60", True),
    ("24 * 68 * 26", "42432", False),  # a calculation that nobody has done
    ("", "18", False),
    ("I do not know", "18", False),
]

AIME: list[tuple[str, str, bool]] = [
    (r"\boxed{073}", "73", True),
    ("073", "073", True),
    (r"\boxed{73}", "073", True),
    (r"\boxed{73.0}", "73", True),
    (r"\boxed{73.5}", "73", False),
    (r"\boxed{1073}", "73", False),
    (r"\boxed{-73}", "73", False),
]

# answer, gold answers, source, right
QA: list[tuple[str, str | list[str], str, bool]] = [
    ("Ada Lovelace", "Ada Lovelace", "squad", True),
    ("the ada lovelace!", "Ada Lovelace", "squad", True),
    ("<answer>Ada Lovelace</answer>", "Ada Lovelace", "squad", True),
    ("She wrote it, so the answer is: Ada Lovelace", "Ada Lovelace", "squad", True),
    ("It was Ada Lovelace.", "Ada Lovelace", "squad", False),
    ("Lovelace", "Ada Lovelace", "squad", False),
    ("Lovelace", ["Ada Lovelace", "Lovelace"], "squad", True),
    ("unanswerable", "", "squad", True),
    ("No answer.", "", "squad", True),
    ("Ada Lovelace", "", "squad", False),
    ("yes", "yes", "hotpotqa", True),
    ("Yes, both were.", "yes", "hotpotqa", True),
    ("no", "yes", "hotpotqa", False),
    ("yes or no", "yes", "hotpotqa", False),
    ("Yes and no", "no", "hotpotqa", False),
    ("1,234", "1234", "hotpotqa", True),
    ("Oslo or Lima or Rome", "Rome", "hotpotqa", False),
    ("5", "5.0", "drop", True),
    ("5 yards", "5", "drop", False),
    ("1,000", "1000", "drop", True),
    ("Smith and Jones", "Smith | Jones", "drop", True),
    ("Jones, Smith", "Smith | Jones", "drop", True),
    ("Jones", "Smith | Jones", "drop", False),
    ("Smith, Jones, Brown", "Smith | Jones", "drop", False),
    ("12 May 1940", ["12 May 1940", "May 1940"], "drop", True),
    ("twenty-five", "twenty five", "drop", True),
]


def rows() -> list[Row]:
    """Return every row, in a fixed order."""
    made = [
        *(_row(answer, gold, "math", right) for answer, gold, right in MATH),
        *(_row(answer, gold, "aime24", right) for answer, gold, right in AIME),
        *(_row(answer, gold, source, right) for answer, gold, source, right in QA),
        *_numbers(),
        *_worked_solutions(),
        *_facts(),
        *_functions(),
        *_completions(),
        *_programs(),
    ]
    return [{**row, "id": index} for index, row in enumerate(made)]


def _row(prediction: str, answer: str | list[str], source: str, right: bool, **more: Any) -> Row:
    question = more.pop("question", "?")
    return {
        "question": question,
        "answer": answer,
        "prediction": prediction,
        "source": source,
        "label": right,
        **more,
    }


def _numbers() -> Iterator[Row]:
    """The same number in every dress, and another one in the same."""
    rng = random.Random(0)
    dresses = [
        "{}",
        "#### {}",
        r"\boxed{{{}}}",
        "<answer>{}</answer>",
        "The answer is {}.",
        "A: {}",
        "so we get\n{} eggs.",
    ]
    for _ in range(20):
        value = rng.choice([rng.randint(-999, 99_999), round(rng.uniform(-100, 10_000), 2)])
        other = value + rng.choice([-11, 7, 100])
        for dress in dresses:
            written = rng.choice([f"{value:,}", f"${value}" if value >= 0 else str(value), str(value)])
            yield _row(dress.format(written), str(value), "gsm8k", True)
        yield _row(rng.choice(dresses).format(other), str(value), "gsm8k", False)


def _worked_solutions() -> Iterator[Row]:
    """Step-by-step solutions with calculator annotations, as models trained on GSM8K write them."""
    rng = random.Random(1)
    for _ in range(30):
        a, b, c = rng.randint(2, 40), rng.randint(2, 40), rng.randint(2, 9)
        total, made = a + b, (a + b) * c
        steps = (
            f"She has {a} + {b} = <<{a}+{b}={total}>>{total} eggs\n"
            f"She sells them for {total} * {c} = $<<{total}*{c}={made}>>{made}"
        )
        gold = f"{steps}\n#### {made}"
        yield _row(f"{steps}\nA: {made:,}", gold, "gsm8k", True)
        yield _row(f"{steps}\nA: {made + c}", gold, "gsm8k", False)
        yield _row(steps[: steps.index("She sells") + 20], gold, "gsm8k", False)  # cut off before its answer


def _facts() -> Iterator[Row]:
    facts = invented_facts(3)
    for _ in range(30):
        problem = next(facts)
        assert problem.context is not None
        shared = {"question": problem.question, "context": problem.context, "domain": "qa"}
        yield _row(problem.answer, problem.answer, problem.source, True, **shared)
        yield _row(f"The {problem.answer}.".lower(), problem.answer, problem.source, True, **shared)
        yield _row(problem.context, problem.answer, problem.source, False, **shared)
        yield _row(f"{problem.answer} or Zembla", problem.answer, problem.source, False, **shared)


def _functions() -> Iterator[Row]:
    """Small functions: right, under another name, in prose, and broken in one place."""
    functions = small_functions(3)
    for _ in range(15):
        problem = next(functions)
        assert problem.entry_point is not None
        shared = {"question": problem.question, "entry_point": problem.entry_point, "tests": list(problem.tests)}
        renamed = problem.answer.replace(f"def {problem.entry_point}", "def solution")
        broken = problem.answer.replace("return ", "return None and ")
        yield _row(problem.answer, "", problem.source, True, **shared)
        yield _row(f"Sure!\n```python\n{renamed}\n```\nHope it helps.", "", problem.source, True, **shared)
        yield _row(f"```\n{broken}\n```", "", problem.source, False, **shared)


def _completions() -> Iterator[Row]:
    """HumanEval's canonical solutions as bodies, as whole functions, and cut off."""
    for index, problem in enumerate(humaneval(0)):
        if index >= 60:
            return
        body = problem.answer[len(problem.question) :]
        shared = {"question": problem.question, "entry_point": problem.entry_point, "tests": list(problem.tests)}
        function = re.sub(r"(?s).*?(?=^def )", "", problem.answer, count=1, flags=re.MULTILINE)
        yield _row(body, "", "humaneval", True, **shared)
        yield _row(f"```python\n{function}\n```", "", "humaneval", True, **shared)
        yield _row("    pass\n", "", "humaneval", False, **shared)


def _programs() -> Iterator[Row]:
    tests = [{"input": f"{a} {b}\n", "output": f"{a + b}\n"} for a, b in ((1, 2), (10, -3), (0, 0))]
    shared = {"question": "Read two numbers and print their sum.", "tests": tests, "domain": "code"}
    yield _row("a, b = map(int, input().split())\nprint(a + b)", "", "programs", True, **shared)
    yield _row("import sys\nprint(sum(map(int, sys.stdin.buffer.read().split())), end=' \\n')", "", "p", True, **shared)
    yield _row("a, b = map(int, open(0).read().split())\nprint(float(a + b))\nexit()", "", "p", True, **shared)
    yield _row("print(3)", "", "programs", False, **shared)
    yield _row("a, b = map(int, input().split())\nprint(a + b)\nraise SystemExit(1)", "", "programs", False, **shared)
