"""Code: the share of hidden tests that a solution passes.

Example: entry point `add`, tests `["assert candidate(1, 2) == 3", "assert candidate(0, 0) == 0"]`, and the answer

    def add(a, b):
        return a + b

The rule is that of HumanEval (https://arxiv.org/abs/2107.03374): right means that every test passes. The tests run in
the sandbox, apart from the solution (`aflow_ops/examiner`).
"""

import re
import textwrap
from itertools import product

from aflow_ops.examiner import run_tests
from aflow_ops.operators.parsing import extract_code, function_names
from aflow_ops.python_source import parse_source
from aflow_ops.sandbox import Sandbox
from data.problem import Problem
from rewards.graders.wrapping import SOLUTION, without_object
from rewards.tiers import Grade, Tier

MAX_ANSWER_CHARS = 50_000
MAX_PROSE_PARAGRAPHS = 4  # on each side of a program without a fence

_FENCE = re.compile(r"(```|~~~)([^\n`]{0,200})\n(.*?)(?:\1|\Z)", re.DOTALL)
# Of a fence that is closed on a line of its own: a docstring may have marks inside.
_WIDE_FENCE = re.compile(r"^(```|~~~)([^\n`]{0,200})\n(.*?)^\1[^\S\n]*$", re.DOTALL | re.MULTILINE)
_PYTHON = ("python", "python3", "py")
_FUTURE = re.compile(r"^from\s+__future__\s+import\s.*\n?", re.MULTILINE)


async def grade_code(answer: str, problem: Problem, sandbox: Sandbox) -> Grade:
    """Grade a solution by its share of passed hidden tests.

    Args:
        answer (`str`): Python, possibly in a fence with prose around it, or the body that completes the question.
        problem (`Problem`): with `entry_point` and hidden `tests`.
        sandbox (`Sandbox`): where everything runs.

    Raises:
        SandboxError: the sandbox failed; says nothing about the answer.
        ValueError: the problem has no entry point or no hidden tests.
    """
    if not problem.tests:
        raise ValueError(f"problem {problem.id}: code problems need tests")
    if len(answer) > MAX_ANSWER_CHARS or "\x00" in answer:
        return Grade(1, False, None, "too long, or not text")
    solution = extract_solution(answer, problem.entry_point, problem.question)
    if solution is None:
        return Grade(1, False, None, "no code")
    given = given_code(problem.question, problem.entry_point)
    report = await run_tests(solution, problem.entry_point, problem.tests, sandbox.run, given=given)
    if report.lost:
        return Grade(1, False, solution, "a sandbox worker was lost twice")
    if not report.defines:
        reason = f"does not define {problem.entry_point}" if report.parses else "does not parse"
        return Grade(1, False, solution, reason)
    passed, total = sum(report.passed), len(problem.tests)
    notes = [f"{passed} of {total} hidden tests", report.note, report.error and f"first failure: {report.error}"]
    detail = "; ".join(note for note in notes if note)
    return Grade(code_tier(passed, total), passed == total, solution, detail, disputable=passed < total)


def code_tier(passed: int, total: int) -> Tier:
    """Return the tier of a solution that parses and defines the entry point.

    Args:
        passed (`int`): tests passed, 0 to `total`.
        total (`int`): tests, at least 1.
    """
    share = passed / total
    if passed == total:
        return 5
    return 4 if share >= 0.8 else 3 if share >= 0.5 else 2


def extract_solution(answer: str, entry_point: str | None, question: str) -> str | None:
    """Find the code in an answer and complete it with the question's.

    The last fence that defines the entry point counts, else the last one (of those that say Python, if any do: a sample
    of the output is often fenced too), else the whole text. A body without `def` completes the question's own
    signature. Above a whole function stands what the question has above it: imports, and functions that it gives away.

    Args:
        answer (`str`): the workflow's answer.
        entry_point (`str`, *optional*): name of the function to write; `None` for a program.
        question (`str`): the task.

    Returns:
        `str` or `None` when there is nothing but space.
    """
    answer = without_object(answer.removeprefix("\ufeff"), SOLUTION)
    fences = [] if _defines(answer, entry_point) else _fences(answer)
    blocks = [block for _, block in fences]
    last = [block for info, block in fences if info.startswith(_PYTHON)][-1:] or blocks[-1:]
    if not fences and not _parses(answer):
        answer = _code_in_prose(answer, entry_point)
    if entry_point is None:
        return (last or [answer])[0].strip("\n") or None
    head = _head(entry_point)
    defining = [block for block in blocks if head.search(block)]
    code = (defining[-1:] or last or [answer])[0].strip("\n")
    if not code.strip():
        return None
    signature = head.search(question)
    if code.startswith((" ", "\t")):
        if signature is not None and head.match(code) is None:
            return f"{question.rstrip()}\n{code}\n"
        code = textwrap.dedent(code)
    preamble = _preamble(question, signature.start() if signature else 0)
    futures = "".join(_FUTURE.findall(code)) if preamble else ""  # these must stay on top
    return f"{futures}{preamble}{_FUTURE.sub('', code)}" if futures else preamble + code


def _defines(answer: str, entry_point: str | None) -> bool:
    """Whether all of an answer is code with what is asked for: marks of a fence in it stand in a docstring."""
    return entry_point is not None and _head(entry_point).search(answer) is not None and _parses(answer)


def _fences(answer: str) -> list[tuple[str, str]]:
    """What stands behind each opening mark, and each block: one of Python may have marks in a docstring."""
    found, wide = (
        [(info.strip().lower(), block) for _, info, block in fence.findall(answer) if block.strip()]
        for fence in (_FENCE, _WIDE_FENCE)
    )
    if all(_parses(block) for info, block in found if info.startswith(_PYTHON)):
        return found
    return wide if any(_parses(block) for info, block in wide if info.startswith(_PYTHON)) else found


def _code_in_prose(answer: str, entry_point: str | None) -> str:
    """The code that stands unmarked in an answer, if it has what is asked for; else the answer."""
    if entry_point is None:
        return _program_in_prose(answer)
    code = extract_code(answer, entry_point)
    return code if entry_point in function_names(code) else answer


def _program_in_prose(answer: str) -> str:
    """What is left of an answer without some paragraphs before and behind it, if that is a program; else the answer."""
    paragraphs = re.split(r"\n[ \t]*\n", answer)
    dropped = sorted(product(range(MAX_PROSE_PARAGRAPHS + 1), repeat=2), key=sum)
    for before, behind in dropped:
        code = "\n\n".join(paragraphs[before : len(paragraphs) - behind])
        if "(" in code and _parses(code):
            return code
    return answer


def given_code(question: str, entry_point: str | None) -> str:
    """Return what the question gives away for its tests and solutions to use: the code above the signature.

    Args:
        question (`str`): the task.
        entry_point (`str`, *optional*): name of the function to write.
    """
    signature = _head(entry_point).search(question) if entry_point else None
    return _preamble(question, signature.start()) if signature else ""


def _head(entry_point: str) -> re.Pattern[str]:
    return re.compile(rf"^[^\S\n]*(?:async\s+)?(?:def|class)\s+{re.escape(entry_point)}\b", re.MULTILINE)


def _preamble(question: str, end: int) -> str:
    """The code above the signature; of a question in prose, its import lines."""
    above = question[:end].rstrip()
    if above and _parses(above):
        return above + "\n\n"
    lines = [line for line in question.splitlines() if re.match(r"(?:from|import)\s+\w", line) and _parses(line)]
    return "".join(line + "\n" for line in lines)


def _parses(text: str) -> bool:
    try:
        parse_source(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
