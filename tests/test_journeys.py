"""What a stranger changes, each change made in a copy of the repository: it works, and touches no more files than said.

The counts are those of the table in `recipes/README.md`, tests and prose aside. A recipe with its own reward, flag and
operator, one file, is trained in `tests/recipes/test_readme.py`.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[1]
FLOORS = ("data", "aflow_ops", "rewards", "recipes", "scripts")
PRELUDE = """
import asyncio, json, sys
from pathlib import Path
from data.problem import Problem, ProblemView
from aflow_ops.language import parse_workflow
from aflow_ops.policy_prompt import policy_messages
"""
EACH = """
import traceback
every = {}
for name, program in PROGRAMS.items():
    names = dict(globals())
    try:
        exec(program, names)
        every[name] = names["found"]
    except Exception:
        every[name] = traceback.format_exc()
print(json.dumps(every))
"""


@dataclass(frozen=True)
class Journey:
    """One change.

    Args:
        most (`int`): files that it may touch.
        files (`Mapping`): by path, the text of a further file, or (old, new) pieces of one that is there.
        program (`str`): sets `found`.
        found (`Any`): what it comes to.
    """

    most: int
    files: Mapping[str, str | tuple[tuple[str, str], ...]]
    program: str
    found: Any


JOURNEYS = {
    "a tier's reward": Journey(
        1,
        {"rewards/tiers.py": (("4: 0.7,", "4: 0.8,"),)},
        """
from rewards.graders.math import grade_math
from rewards.graders.qa import grade_qa
from rewards.wa_grpo import WAGRPOConfig
near = asyncio.run(grade_math("71", Problem("?", "72", "gsm8k", "math", "1"), None))
half = grade_qa("Lovelace", Problem("Who?", "Ada Lovelace", "squad", "qa", "1"))
found = [near.reward, half.tier, half.reward, WAGRPOConfig().alpha]
""",
        [0.8, 4, 0.8, 0.12],
    ),
    "an operator": Journey(
        2,
        {
            "aflow_ops/operators/debate.py": '''"""Operators that argue."""

from aflow_ops.operators.base import Operator


class Debate(Operator):
    """Let two sides argue over a draft."""

    summary = "lets two sides argue over a solution and keeps the better one"
    returns = ("argument", "solution")
    main = "solution"
    prompts = {"debate": {"user": "$problem\\n\\nDraft: $solution\\n\\nArgue, then answer.", "max_tokens": 512}}

    async def __call__(self, problem: str, solution: str) -> dict[str, str]:
        """Return the argument and the better solution."""
        reply = await self.ask("debate", problem=problem, solution=solution)
        return {"argument": reply, "solution": reply.strip().splitlines()[-1]}
''',
            "aflow_ops/operators/__init__.py": (
                (
                    "from aflow_ops.operators.ensemble",
                    "from aflow_ops.operators.debate import Debate\nfrom aflow_ops.operators.ensemble",
                ),
                ("    Format,\n):", "    Format,\n    Debate,\n):"),
            ),
        },
        """
from rewards.baselines import fixed_workflows
workflow = parse_workflow("Custom -> Debate", domain="math", has_entry_point=False)
prompt = policy_messages(ProblemView("?", "math"))[0]["content"]
found = [list(workflow.operators), "debate(problem, solution)" in prompt, "Debate" in fixed_workflows()]
""",
        [["Custom", "Debate"], True, True],
    ),
    "a domain": Journey(
        3,
        {
            "data/domains.py": (
                (
                    'DomainRow("swe", sources=("planted_bugs",)),',
                    'DomainRow("swe", sources=("planted_bugs",)), DomainRow("spelling", sources=("misspelled",)),',
                ),
            ),
            "aflow_ops/domains.py": (
                (
                    "DOMAIN_PROMPTS: dict",
                    """_SPELLING = DomainPrompt(
    about=", a word that may be misspelled; return it as it should be",
    example_problem="recieve",
    example="async def workflow(problem):\\n    return (await answer_generate(input=problem))['answer']",
    sample=ProblemView("recieve", "spelling"),
)

DOMAIN_PROMPTS: dict""",
                ),
                ('"swe": _SWE}', '"swe": _SWE, "spelling": _SPELLING}'),
            ),
            "rewards/domains.py": (
                (
                    "DOMAIN_REWARDS: dict",
                    """async def _grade_spelling(answer: str, problem: Problem, sandbox: Sandbox) -> Grade:
    right = answer.strip().lower() == problem.answer.lower()
    return Grade(5 if right else 1, right, answer, "equal" if right else "another word")


DOMAIN_REWARDS: dict""",
                ),
                (
                    '    "math": DomainRewards(',
                    '    "spelling": DomainRewards(_grade_spelling, judged=True),\n    "math": DomainRewards(',
                ),
            ),
        },
        """
from data.mixing import parse_mix
from rewards.grading import grade_answer
from rewards.judge import JudgeConfig
problem = Problem.from_row({"question": "recieve", "answer": "receive", "source": "misspelled"})
grade = asyncio.run(grade_answer("Receive", problem, None))
told = policy_messages(problem.view)[0]["content"]
found = [problem.domain, grade.reward, "that may be misspelled" in told, parse_mix("spelling=1")]
found += ["spelling" in JudgeConfig().domains]
""",
        ["spelling", 1.0, True, {"spelling": 1.0}, True],
    ),
    "another executor provider": Journey(
        2,
        {
            "parrot.py": '''"""A provider that repeats what it is told."""

from aflow_ops.executor import Call, Completion, Transport


class Parrot(Transport):
    """Repeats the last message."""

    async def send(self, call: Call) -> Completion:
        """Answer."""
        return Completion(call.messages[-1]["content"], call.prompt_tokens, 1)
''',
        },
        """
from aflow_ops.executor import ExecutorConfig, open_executor
config = ExecutorConfig(executor="parrot.py:Parrot", executor_price=[1.0, 1.0], executor_budget_usd=1.0)
async def ask():
    async with open_executor(config) as executor:
        asked = [{"role": "user", "content": "Polly"}]
        replies = [await executor.complete(asked, temperature=0, max_tokens=8) for _ in range(2)]
        return [[reply.text, reply.cached, reply.cost_usd > 0] for reply in replies]
found = asyncio.run(ask())
""",
        [["Polly", False, True], ["Polly", True, False]],
    ),
    "a benchmark": Journey(
        2,
        {
            "data/benchmarks/riddles.py": '''"""Example row: {"riddle": "What has keys?", "solution": "a piano"}"""

from data.benchmarks.row import Row, text


def problem_row(row: Row) -> Row:
    """Return the row as a `Problem` row."""
    return {"question": text(row, "riddle"), "answer": text(row, "solution")}
''',
            "data/benchmarks/hub.yaml": (
                (
                    "gsm8k:\n",
                    """riddles:
  domain: qa
  metric: drop
  pipeline: [train, test]
  repo: someone/riddles
  revision: 0123456789abcdef0123456789abcdef01234567
  licence: MIT
  splits:
    train: [train.jsonl]
    test: [test.jsonl]

gsm8k:
""",
                ),
            ),
        },
        """
import contextlib, io
from data.benchmarks import benchmarks
from data.registry import load_problems
from recipes.hub.card import describe_source
from rewards.graders.qa import best_scores
from scripts import download_datasets, process_datasets

def command(main, *words):
    sys.argv[1:] = words
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(io.StringIO()):
        main()
    return said.getvalue()

Path("source/riddles").mkdir(parents=True)
for split, start in ("train", 0), ("test", 100):
    numbers = range(start, start + 40)
    rows = [{"riddle": f"Which word is number {n} of the page?", "solution": f"word {n}"} for n in numbers]
    Path(f"source/riddles/{split}.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
command(download_datasets.main, "riddles", "--source_dir", "source")
command(process_datasets.main, "riddles")
problem = load_problems("riddles", "train", 1, 0)[0]
number = Problem("How many?", "12", "riddles", "qa", "1")
found = [problem.domain, problem.answer.split()[0], best_scores("12.0", number)[0]]
found += ["riddles qa" in command(download_datasets.main, "--list", split).splitlines() for split in ("train", "test")]
found += ["someone/riddles" in describe_source("riddles")]
""",
        ["qa", "word", True, True, True, True],
    ),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with all changes in it."""
    folder = tmp_path_factory.mktemp("journeys")
    for floor in FLOORS:
        shutil.copytree(ROOT / floor, folder / floor, ignore=shutil.ignore_patterns("cache", "__pycache__"))
    for journey in JOURNEYS.values():
        for name, change in journey.files.items():
            path = folder / name
            if isinstance(change, str):
                assert not path.exists()
                path.write_text(change)
                continue
            for old, new in change:
                assert path.read_text().count(old) == 1, (name, old)
                path.write_text(path.read_text().replace(old, new))
    return folder


@pytest.fixture(scope="module")
def found(copy: Path) -> dict[str, Any]:
    """What each journey's program comes to in the copy, or how it fails: one after the other in one process."""
    program = EACH.replace("PROGRAMS", repr({name: journey.program for name, journey in JOURNEYS.items()}))
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + program], cwd=copy, env={"PYTHONPATH": str(copy), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    every: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return every


@pytest.mark.parametrize("name", JOURNEYS)
def test_a_change_works_and_touches_no_more_files_than_said(name: str, found: dict[str, Any]) -> None:
    journey = JOURNEYS[name]
    assert len(journey.files) <= journey.most
    assert found[name] == journey.found
