"""One door to the graders: by the problem's domain; and a grader that remembers."""

import asyncio
from collections import OrderedDict

from aflow_ops.sandbox import Sandbox
from data.problem import Problem
from rewards.domains import domain_rewards
from rewards.judge import Judge
from rewards.tiers import Grade


async def grade_answer(answer: str | None, problem: Problem, sandbox: Sandbox) -> Grade:
    """Grade an answer by the rules of the problem's domain.

    Args:
        answer (`str`, *optional*): what the workflow returned.
        problem (`Problem`): with its gold answer or hidden tests.
        sandbox (`Sandbox`): where code and symbolic comparison run.

    Raises:
        SandboxError: the sandbox failed; the answer has no grade.
        UsageError: nobody has said how the problem's domain is graded.
    """
    if answer is None or not answer.strip():
        return Grade(1, False, None, "no answer")
    return await domain_rewards(problem.domain).grade(answer, problem, sandbox)


class CachedGrader:
    """Grades by `grade_answer` and remembers: the completions of a group often end in the same answer.

    Args:
        sandbox (`Sandbox`): where code and symbolic comparison run.
        judge (`Judge`, *optional*): asked about answers that the rules call unequal and may be wrong about.
        size (`int`): answers to remember.
    """

    def __init__(self, sandbox: Sandbox, judge: Judge | None = None, size: int = 4096) -> None:
        self.sandbox, self.judge, self.size = sandbox, judge, size
        self._grades: OrderedDict[tuple[Problem, str], Grade] = OrderedDict()
        self._in_flight: dict[tuple[Problem, str], asyncio.Event] = {}

    async def grade(self, answer: str | None, problem: Problem) -> Grade:
        """Grade an answer, or return the grade that the same answer got before.

        Raises:
            SandboxError: the sandbox failed; the answer has no grade, and the next attempt starts anew.
            ExecutorError: the judge did not reply; likewise.
        """
        key = (problem, answer or "")
        while (pending := self._in_flight.get(key)) is not None:
            await pending.wait()
        if key in self._grades:
            self._grades.move_to_end(key)
            return self._grades[key]
        done = self._in_flight[key] = asyncio.Event()
        try:
            grade = await grade_answer(answer, problem, self.sandbox)
            if self.judge is not None:
                grade = await self.judge.review(grade, problem)
            self._grades[key] = grade
        finally:
            del self._in_flight[key]
            done.set()
        if len(self._grades) > self.size:
            self._grades.popitem(last=False)
        return grade
