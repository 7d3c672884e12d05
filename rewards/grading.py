"""One door to the graders: by the problem's domain."""

from aflow_ops.sandbox import Sandbox
from data.problem import Problem
from rewards.code_grader import grade_code
from rewards.math_grader import grade_math
from rewards.qa_grader import grade_qa
from rewards.tiers import Grade


async def grade_answer(answer: str | None, problem: Problem, sandbox: Sandbox) -> Grade:
    """Grade an answer by the rules of the problem's domain.

    Args:
        answer (`str`, *optional*): what the workflow returned.
        problem (`Problem`): with its gold answer or hidden tests.
        sandbox (`Sandbox`): where code and symbolic comparison run.

    Raises:
        SandboxError: the sandbox failed; the answer has no grade.
    """
    if answer is None or not answer.strip():
        return Grade(1, False, None, "no answer")
    if problem.domain == "code":
        return await grade_code(answer, problem, sandbox)
    if problem.domain == "qa":
        return grade_qa(answer, problem)
    return await grade_math(answer, problem, sandbox)
