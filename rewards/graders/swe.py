"""Repositories: the share of hidden tests that pass with an answer's edits.

Example: an answer with a search/replace block or a unified diff (`aflow_ops/agents/tools/edits.py`), for a problem
whose `extra.repository` has files and tests (`data/repository_tasks.py`). Right means that every test of `fail_to_pass`
and `pass_to_pass` passes, as SWE-bench has it (https://arxiv.org/abs/2310.06770).
"""

from aflow_ops.agents.tools.edits import EditRefusedError, apply_edits, parse_edits
from aflow_ops.agents.tools.local_tests import LocalTests
from aflow_ops.errors import UsageError
from aflow_ops.sandbox import Sandbox
from data.problem import Problem
from data.repository_tasks import repository_task
from rewards.agents.repository import mended
from rewards.tiers import TIER_REWARDS, Grade


async def grade_swe(answer: str, problem: Problem, sandbox: Sandbox) -> Grade:
    """Grade edits by the hidden tests of a repository that the problem brings along.

    Args:
        answer (`str`): edits, possibly with prose around them.
        problem (`Problem`): with a repository.
        sandbox (`Sandbox`): where the tests run.

    Raises:
        SandboxError: the sandbox failed; says nothing about the answer.
        UsageError: the repository is in a container image, where only `recipes/swe.py` runs tests.
        DataError: the problem has no repository.
    """
    task = repository_task(problem)
    if not task.files:
        raise UsageError(
            f"problem {problem.id}: its repository is in an image: use recipes/swe.py --swe_backend docker"
        )
    try:
        files = apply_edits(task.files, parse_edits(answer), task.protected)
    except EditRefusedError as error:
        return Grade(1, False, None, str(error))
    report = await LocalTests(sandbox).run(task, files, task.tests)
    score = mended(report, task)
    passed = sum(report.passed.get(name, False) for name in task.tests)
    detail = f"{passed} of {len(task.tests)} hidden tests"
    detail += f"; first failure: {report.error}" if report.error else ""
    if report.solves(task):
        return Grade(5, True, answer, detail)
    reward = max(TIER_REWARDS[2], min(TIER_REWARDS[4], score))
    return Grade.of_reward(reward, answer, detail, correct=False)
