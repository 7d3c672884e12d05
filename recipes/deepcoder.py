"""Three agents write code: a generator, a test_runner that explains failures, and a refiner that mends them.

    accelerate launch recipes/deepcoder.py
    accelerate launch recipes/deepcoder.py --config recipes/configs/deepcoder_quickstart.yaml

During an episode only the shown tests run: a problem's public ones, or up to two of its tests where it has none. The
loop ends when these pass, or after `--max_refinements`; the others decide the rewards and are run afterwards.
What each agent is paid for, a row of its data and what was measured: recipes/agents.md.
"""

import ast
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from aflow_ops.agents.episode import Agents
from aflow_ops.agents.team import Limits, Outcome, Role, Team
from aflow_ops.examiner import run_tests
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
from rewards.graders.code import extract_solution, given_code

DOMAINS = ("code",)
DEFAULTS = {"sources": ["deepcoder"], "domain_mix": "code=1"}
SHOWN_TESTS = 2  # of a problem without public ones
ROLES = (
    Role("generator", "You write Python that solves a task. Reply with one ```python block."),
    Role("test_runner", "You read a failed test and say in one or two sentences how the code must change."),
    Role("refiner", "You mend Python code that failed a test. Reply with the whole code in one ```python block."),
)


@dataclass
class DeepCoderArguments(AgentArguments):
    """Flags of this recipe.

    Args:
        max_refinements (`int`): times the refiner may try.
        counterfactual (`float`): share of the episodes in which the refiner also works without the test_runner's words.
    """

    max_refinements: int = field(default=2, metadata={"help": "Most attempts of the refiner."})
    counterfactual: float = field(
        default=0.5,
        metadata={
            "help": "Share of the episodes in which the refiner also works without the test_runner's words; only these "
            "pay the test_runner. 0 pays it, in all, by what the refiner improved."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_refinements < 1 or not 0 <= self.counterfactual <= 1:
            raise ValueError(
                f"max_refinements={self.max_refinements} must be at least 1, counterfactual={self.counterfactual} from "
                "0 to 1"
            )


class Tools:
    """What the agents of one episode use, and what knows how good code is."""

    def __init__(self, sandbox: Sandbox, task: Problem) -> None:
        self.sandbox, self.task = sandbox, task
        self.shown, self.hidden = parted(task.public_tests, task.tests, task.entry_point)

    def solution(self, reply: str) -> str:
        """Return the code in a reply, completed with what the question gives away."""
        return extract_solution(reply, self.task.entry_point, self.task.question) or ""

    async def failure(self, code: str) -> str | None:
        """Run the shown tests; return what failed first, `None` when all pass."""
        passed, error = await self._run(code, self.shown, until_failure=True)
        if passed == len(self.shown):
            return None
        return f"{self.shown[passed]}\n{error or 'it failed'}"

    async def share(self, code: str) -> float:
        """Return the share of hidden tests that pass; 0 where there is none."""
        if not self.hidden:
            return 0.0
        return (await self._run(code, self.hidden, until_failure=False))[0] / len(self.hidden)

    async def _run(self, code: str, tests: Sequence[str], *, until_failure: bool) -> tuple[int, str | None]:
        given = given_code(self.task.question, self.task.entry_point)
        report = await run_tests(
            code, self.task.entry_point, tests, self.sandbox.run, given=given, until_failure=until_failure
        )
        return sum(report.passed), report.error or report.note


def parted(
    public: tuple[str, ...], tests: tuple[str, ...], entry_point: str | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the tests that agents are shown, and those that pay them. None is both: it could be answered by itself.

    Args:
        public (`tuple[str, ...]`): that the problem gives away.
        tests (`tuple[str, ...]`): that grade it; some data sets have the public ones among them.
        entry_point (`str`, *optional*): what public tests call; in the others it may be called `candidate`.
    """
    given = {normal_form(test, entry_point) for test in public}
    hidden = tuple(test for test in tests if not given or normal_form(test, entry_point) not in given)
    if public and hidden:
        return public, hidden
    known = tuple(dict.fromkeys(tests or public))
    count = min(SHOWN_TESTS, max(0, len(known) - 1))  # one test at least stays hidden
    return known[:count], known[count:]


def normal_form(test: str, entry_point: str | None) -> str:
    """Return a test as every other one that asks the same is written, by its layout and the function's name."""
    try:
        tree = ast.parse(test)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return test.strip()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == entry_point:
            node.id = "candidate"
    return ast.unparse(tree)


async def run(task: Problem, agents: Agents, max_refinements: int = 2, counterfactual: float = 0.5) -> Outcome:
    """One episode."""
    tools = agents.tools
    question = "\n".join([task.view.text, "", "It must pass:", *tools.shown])
    codes = [tools.solution(await agents.generator.say(question))]
    alone: list[str | None] = []  # what the refiner would have written without the test_runner, for each attempt
    failed = await tools.failure(codes[-1])
    while failed is not None and len(codes) <= max_refinements:
        state = f"{question}\n\nCode:\n{codes[-1]}\n\nFailed:\n{failed}"
        analysis = await agents.test_runner.say(state)
        mended = await agents.refiner.say(f"{state}\n\nAnalysis:\n{analysis}")
        asked = agents.chosen(counterfactual)
        alone.append(tools.solution(await agents.refiner.aside(f"{state}\n\nAnalysis:\n(none)")) if asked else None)
        codes.append(tools.solution(mended))
        failed = await tools.failure(codes[-1])
    shares = [await tools.share(code) for code in codes]
    without = [None if code is None else await tools.share(code) for code in alone]
    return outcome_of(codes, shares, without, improvement=counterfactual == 0, shown_pass=failed is None)


async def alone(task: Problem, agents: Agents, tokens: float) -> Outcome:
    """The control: the generator by itself tries until its code passes the shown tests, or it has written as much."""
    tools, attempts, failed = agents.tools, 0, "not tried"
    question = "\n".join([task.view.text, "", "It must pass:", *tools.shown])
    code = ""
    while failed is not None and (not attempts or agents.tokens < tokens):
        code = tools.solution(await agents.generator.aside(question))
        failed, attempts = await tools.failure(code), attempts + 1
    share = await tools.share(code)
    return Outcome(share, answer=code, correct=share == 1, metrics={"attempts": float(attempts)})


def outcome_of(
    codes: Sequence[str],
    shares: Sequence[float],
    without: Sequence[float | None],
    *,
    improvement: bool,
    shown_pass: bool,
) -> Outcome:
    """Pay the agents by the hidden tests.

    Args:
        codes (`Sequence[str]`): the generator's code, then the refiner's.
        shares (`Sequence[float]`): of hidden tests that each passes.
        without (`Sequence[float]`): the same of what the refiner wrote alone, `None` where it was not asked.
        improvement (`bool`): pay the test_runner by what the refiner made better.
        shown_pass (`bool`): whether the last code passes the shown tests.
    """
    mended = len(codes) > 1
    base = shares[:-1] if improvement else without
    gains = [after - before for after, before in zip(shares[1:], base, strict=True) if before is not None]
    metrics = {
        "generator_success": float(shares[0] == 1),
        "test_runner_analyses": float(len(codes) - 1),
        "refiner_attempts": float(len(codes) - 1),
        "total_iterations": float(len(codes)),
        "final_success": float(shares[-1] == 1),
        "pass_rate": shares[-1],
        "shown_pass": float(shown_pass),
    }
    if mended:
        metrics |= {"refiner_success_rate": float(shares[-1] == 1), "recovery_rate": float(shares[-1] == 1)}
    return Outcome(
        team=shares[-1],
        local={
            "generator": shares[0],
            "test_runner": sum(gains) / len(gains) if gains else None,
            "refiner": sum(shares[1:]) / len(shares[1:]) if mended else None,
        },
        answer=codes[-1],
        correct=shares[-1] == 1,
        metrics=metrics,
    )


def coding_team(sandbox: Sandbox, max_refinements: int = 2, counterfactual: float = 0.5) -> Team:
    """Return the roles, the episode and its tools."""

    @asynccontextmanager
    async def tools(task: Problem) -> AsyncIterator[Tools]:
        yield Tools(sandbox, task)

    return Team(
        ROLES,
        partial(run, max_refinements=max_refinements, counterfactual=counterfactual),
        tools,
        alone=alone,
        limits=Limits(turns=1 + 3 * max_refinements, seconds=600.0),
        failed={"final_success": 0.0, "pass_rate": 0.0},
    )


def main() -> None:
    """Play held-out episodes, train the team, play them again, and write what came of it."""
    args = agent_arguments("deepcoder.yaml", __doc__, DeepCoderArguments, DOMAINS, DEFAULTS, [r.name for r in ROLES])
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
                team=coding_team(sandbox, recipe.max_refinements, recipe.counterfactual),
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
