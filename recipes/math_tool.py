"""Three agents solve math with Python: an analyzer plans, an executor writes code, a verifier judges what it printed.

    accelerate launch recipes/math_tool.py
    accelerate launch recipes/math_tool.py --config recipes/configs/math_tool_quickstart.yaml

The Python session keeps its variables between the calls of an episode. The loop ends when the verifier says "right", or
after `--max_attempts`; what is really right is looked up afterwards. What each agent is paid for, a row of its data and
what was measured: recipes/agents.md.
"""

import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from aflow_ops.agents.episode import Agents
from aflow_ops.agents.team import Limits, Outcome, Role, Team
from aflow_ops.agents.tools.python_session import PythonOutput, PythonSession, python_session
from aflow_ops.agents.verdicts import read_verdict, settle_verdicts, verdict_metrics
from aflow_ops.operators.parsing import extract_code
from aflow_ops.sandbox import Sandbox, open_sandbox
from data.problem import Problem
from recipes.policy.agent_warm_start import ensure_agent_policy
from recipes.policy.loading import loading_policy, policy_settings
from recipes.run.agent_results import finish_agents
from recipes.run.command import run_command
from recipes.run.open import open_run
from recipes.run.progress import MetricsFile, progress_of
from recipes.run.starting import starting_point
from recipes.settings.agents import AgentArguments, agent_arguments
from recipes.training.agent_heldout import evaluate_agents, evaluate_alone
from recipes.training.agents import AgentGRPOTrainer
from recipes.training.best import BestByHeldout
from recipes.training.phases import train_policy
from recipes.training.problems import dry_run_line, training_and_heldout_problems
from recipes.training.tracking import start_tracking
from rewards.grading import CachedGrader

DOMAINS = ("math",)
DEFAULTS = {"sources": ["gsm8k", "math"], "domain_mix": "math=1"}
ROLES = (
    Role("analyzer", "You plan how a math problem is solved with Python. Say in a few sentences what to compute."),
    Role(
        "executor",
        "You solve math problems with Python, following a plan. Reply with one ```python block that prints the answer, "
        "and nothing else, on its last line. Variables stay from one block to the next; numbers that the problem "
        "names, as in x = 4, are there already.",
    ),
    Role(
        "verifier",
        "You judge whether Python code answers a math problem. Read the problem, the code and what it printed. End "
        "with one line: VERDICT: right, or VERDICT: wrong.",
    ),
)


@dataclass
class MathToolArguments(AgentArguments):
    """Flags of this recipe.

    Args:
        max_attempts (`int`): times the executor may try.
        counterfactual (`float`): share of the episodes in which the executor also works without the analyzer's words;
            only these pay the analyzer.
    """

    max_attempts: int = field(default=3, metadata={"help": "Most attempts of the executor."})
    counterfactual: float = field(
        default=0.5,
        metadata={
            "help": "Share of the episodes that are also tried without the analyzer's plan; 0: it does not train."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_attempts < 1 or not 0 <= self.counterfactual <= 1:
            raise ValueError(
                f"max_attempts={self.max_attempts} must be at least 1, counterfactual={self.counterfactual} from 0 to 1"
            )


# "x = 4" in a problem.
_NAMED = re.compile(r"\b([A-Za-z]) = (-?\d+(?:\.\d+)?)(?![\w.]*\w)")


class Tools:
    """What the agents of one episode use, and what knows whether an answer is right."""

    def __init__(self, sandbox: Sandbox, grader: CachedGrader, task: Problem, python: PythonSession) -> None:
        self.sandbox, self.grader, self.task, self.python = sandbox, grader, task, python

    async def alone(self, code: str) -> PythonOutput:
        """Run code in a session of its own."""
        async with python_session(self.sandbox) as python:
            await self.name_numbers(python)
            return await python.run(code)

    async def name_numbers(self, python: PythonSession) -> None:
        """Give a session the numbers that the problem names."""
        named = [f"{name} = {value}" for name, value in _NAMED.findall(self.task.question)]
        if named:
            await python.run("\n".join(named))

    async def right(self, output: PythonOutput) -> bool:
        """Whether the last line printed is the answer."""
        return (await self.grader.grade(output.last_line, self.task)).correct


async def run(task: Problem, agents: Agents, max_attempts: int = 3, counterfactual: float = 0.5) -> Outcome:
    """One episode."""
    question, tools = task.view.text, agents.tools
    plan = await agents.analyzer.say(question)
    told = f"{question}\n\nPlan:\n{plan}"
    outputs: list[PythonOutput] = []
    verdicts: list[bool | None] = []
    while len(outputs) < max_attempts and True not in verdicts:
        code = extract_code(await agents.executor.say(told)) or "# no code"
        outputs.append(await tools.python.run(code))
        shown = outputs[-1].text or "(nothing)"
        word = await agents.verifier.say(f"{question}\n\nCode:\n{code}\n\nIt printed:\n{shown}")
        verdicts.append(read_verdict(word))
        told = f"It printed:\n{shown}\n\nThe verifier says:\n{word}\n\nTry again."
    without = None
    if agents.chosen(counterfactual):
        alone = await agents.executor.aside(f"{question}\n\nPlan:\n(none)")
        without = await tools.right(await tools.alone(extract_code(alone)))
    return outcome_of(outputs, verdicts, [await tools.right(output) for output in outputs], without)


async def alone(task: Problem, agents: Agents, tokens: float) -> Outcome:
    """The control: the executor by itself tries until it has written as much as the team; most of its answers win."""
    question, outputs = task.view.text, list[PythonOutput]()
    while not outputs or agents.tokens < tokens:
        reply = await agents.executor.aside(f"{question}\n\nPlan:\n(none)")
        outputs.append(await agents.tools.alone(extract_code(reply)))
    answers = Counter(output.last_line for output in outputs if output.last_line)
    best = answers.most_common(1)[0][0] if answers else ""
    right = await agents.tools.right(PythonOutput(best, True))
    return Outcome(float(right), answer=best, correct=right, metrics={"attempts": float(len(outputs))})


def outcome_of(
    outputs: Sequence[PythonOutput], verdicts: Sequence[bool | None], right: Sequence[bool], without: bool | None
) -> Outcome:
    """Pay the agents; an unclear verdict counts as a false one."""
    metrics = {
        "analyzer_runs": 1.0,
        "executor_attempts": float(len(right)),
        "verifier_checks": float(len(verdicts)),
        "first_attempt_correct": float(right[0]),
        "solution_correct": float(right[-1]),
    }
    if not right[0]:
        metrics["recovery_rate"] = float(right[-1])
    return Outcome(
        team=float(right[-1]),
        local={
            "analyzer": None if without is None else float(right[0]) - float(without),
            "executor": sum(right) / len(right),
        },
        answer=outputs[-1].last_line,
        correct=right[-1],
        metrics=metrics,
        verdicts={
            "verifier": [(not true if said is None else said, true) for said, true in zip(verdicts, right, strict=True)]
        },
    )


def math_team(sandbox: Sandbox, max_attempts: int = 3, counterfactual: float = 0.5) -> Team:
    """Return the roles, the episode and its tools."""
    grader = CachedGrader(sandbox)

    @asynccontextmanager
    async def tools(task: Problem) -> AsyncIterator[Tools]:
        async with python_session(sandbox) as python:
            opened = Tools(sandbox, grader, task, python)
            await opened.name_numbers(python)
            yield opened

    return Team(
        ROLES,
        partial(run, max_attempts=max_attempts, counterfactual=counterfactual),
        tools,
        settle=partial(settle_verdicts, role="verifier"),
        measure=lambda outcomes: {f"verifier/{k}": v for k, v in verdict_metrics(outcomes, "verifier").items()},
        alone=alone,
        limits=Limits(turns=2 + 2 * max_attempts),
        failed={"solution_correct": 0.0},
    )


def main() -> None:
    """Play held-out episodes, train the team, play them again, and write what came of it."""
    args = agent_arguments("math_tool.yaml", __doc__, MathToolArguments, DOMAINS, DEFAULTS, [r.name for r in ROLES])
    recipe, training, model, executor = args.parts
    start = starting_point(Path(training.output_dir), training.resume_from_checkpoint)
    train, heldout = training_and_heldout_problems(recipe, training.seed)
    if recipe.dry_run:
        print(dry_run_line(train, heldout))
        return

    with (
        open_run(
            args.config(__file__), start, training, backup=recipe, executor=executor if recipe.given_away else None
        ) as run,
        closing(open_sandbox(unsafe_subprocess=recipe.unsafe_subprocess)) as sandbox,
    ):
        with run.phase("warm_start"):
            ensure_agent_policy(model.model_name_or_path, recipe.warm_start_config, training.seed)
        with run.phase("startup"), loading_policy(model.model_name_or_path):
            trainer = AgentGRPOTrainer(
                **policy_settings(model, training),  # base model, tokenizer, quantization, LoRA
                recipe=recipe,
                team=math_team(sandbox, recipe.max_attempts, recipe.counterfactual),
                problems=train,
                executor=executor,
                start=start,
                backup=run.backup,
                callbacks=[MetricsFile(run.folder / "metrics.csv")],
            )
        with closing(trainer):
            start_tracking(trainer, *args.parts)
            with run.phase("evaluation_before"):
                before = evaluate_agents(trainer, heldout, "held-out before")
            trainer.add_callback(BestByHeldout(trainer, recipe.heldout_every, heldout, evaluate_agents))
            with run.phase("training"), progress_of(trainer, "GRPO", {"agents/team_reward": "team {:.2f}"}):
                train_policy(trainer, start)
            with run.phase("evaluation_after"):
                after = evaluate_agents(trainer, heldout, "held-out after")
            with run.phase("controls"):
                controls = evaluate_alone(trainer, heldout, after) if recipe.baselines else {}
            finish_agents(run, trainer, before, after, controls)
        trainer.end()


if __name__ == "__main__":
    sys.exit(run_command(main))
