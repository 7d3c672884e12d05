"""Three agents mend a repository: one finds the cause of an issue, one writes the edits, one judges them.

    accelerate launch recipes/swe.py --sources r2e_gym --swe_backend docker
    accelerate launch recipes/swe.py --config recipes/configs/swe_quickstart.yaml

Edits are search/replace blocks or a unified diff, applied strictly. The hidden tests run in the sandbox (`--swe_backend
local`) or in the task's container image (`docker`), after the last word is said: the loop ends when the validator says
"right", or after `--max_attempts`. What each agent is paid for, a row of its data and what was measured:
recipes/agents_search.md.
"""

import asyncio
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from aflow_ops.agents.episode import Agents
from aflow_ops.agents.team import Limits, Outcome, Role, Team
from aflow_ops.agents.tools.docker_tests import SECONDS as CONTAINER_SECONDS
from aflow_ops.agents.tools.docker_tests import DockerTests
from aflow_ops.agents.tools.edits import EditRefusedError, apply_edits, parse_edits
from aflow_ops.agents.tools.local_tests import TOTAL_SECONDS, LocalTests, described
from aflow_ops.agents.tools.remembered_tests import RememberedTests
from aflow_ops.agents.tools.repository_tests import RepositoryTests
from aflow_ops.agents.verdicts import read_verdict, settle_verdicts, verdict_metrics
from aflow_ops.errors import UsageError
from aflow_ops.sandbox import Sandbox, open_sandbox
from data.problem import Problem
from data.repository_tasks import RepositoryTask, checked_path, is_hidden, repository_task, unified_diff
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
from rewards.agents.repository import mended

DOMAINS = ("swe",)
DEFAULTS = {"sources": ["planted_bugs"], "domain_mix": "swe=1"}
BACKENDS = ("local", "docker")
# Of files that an analyzer may ask to see.
MAX_FILES = 8
ROLES = (
    Role(
        "analyzer",
        "You find the cause of an issue in a repository. Say which file is wrong, as FILE: path, and in a few words "
        "why.",
    ),
    Role(
        "writer",
        "You mend a repository. Reply with one edit: the file's path, then <<<<<<< SEARCH, the lines that are wrong as "
        "they stand there, =======, the lines in their place, and >>>>>>> REPLACE, each on a line. Never edit tests.",
    ),
    Role(
        "validator",
        "You judge whether a change mends an issue and breaks nothing else. Read the issue and the change. End with "
        "one line: VERDICT: right, or VERDICT: wrong.",
    ),
)
_FILE = re.compile(r"FILE\W{0,3}:\s*`?([^\s`]{1,240})", re.IGNORECASE)


@dataclass
class SWEArguments(AgentArguments):
    """Flags of this recipe.

    Args:
        swe_backend (`str`): where tests run.
        max_attempts (`int`): times the writer may try.
        counterfactual (`float`): share of the episodes in which the writer also works without the analyzer's words;
            only these pay the analyzer.
        shown_chars (`int`): of the repository that agents are shown.
    """

    swe_backend: str = field(
        default="local",
        metadata={
            "help": "Tests run in the sandbox ('local') or in the task's image ('docker').",
            "choices": BACKENDS,
        },
    )
    max_attempts: int = field(default=2, metadata={"help": "Most attempts of the writer."})
    counterfactual: float = field(
        default=0.5,
        metadata={
            "help": "Share of the episodes that are also tried without the analyzer's words; 0: it does not train."
        },
    )
    shown_chars: int = field(default=12_000, metadata={"help": "Characters of the repository that agents are shown."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.swe_backend not in BACKENDS:
            raise ValueError(f"swe_backend={self.swe_backend!r} must be one of {', '.join(BACKENDS)}")
        if self.max_attempts < 1 or not 0 <= self.counterfactual <= 1:
            raise ValueError(
                f"max_attempts={self.max_attempts} must be at least 1, counterfactual={self.counterfactual} from 0 to 1"
            )


@dataclass(frozen=True)
class Attempt:
    """One edit of the writer's.

    Args:
        before (`Mapping[str, str]`): the files that it was made on.
        files (`Mapping[str, str]`, *optional*): after it; `None` when it was refused.
        said (`str`): the change as a diff, or why it was refused.
    """

    before: Mapping[str, str]
    files: Mapping[str, str] | None
    said: str


class Tools:
    """The repository of one episode, and what runs its hidden tests."""

    def __init__(self, task: RepositoryTask, tests: RepositoryTests, shown_chars: int) -> None:
        self.task, self.tests, self.shown_chars = task, tests, shown_chars
        self.files: dict[str, str] = dict(task.files)

    @property
    def shown(self) -> str:
        """The repository as agents read it."""
        return described(self.files, self.shown_chars) or "(name the files that you want to see, as FILE: path)"

    async def look_at(self, words: str) -> None:
        """Fetch the files that the analyzer names, where the repository is in an image; no tests, for some pay it."""
        if self.task.files:
            return
        paths = []
        for name in dict.fromkeys(_FILE.findall(words[:20_000])):
            try:
                path = checked_path(name)
            except ValueError:
                continue
            if not is_hidden(path):
                paths.append(path)
        if paths:
            self.files = {**self.files, **await self.tests.files(self.task, paths[:MAX_FILES])}

    def attempt(self, answer: str) -> Attempt:
        """Apply an answer's edits to the repository as it was."""
        try:
            files = apply_edits(self.files, parse_edits(answer), self.task.protected)
        except EditRefusedError as error:
            return Attempt(self.files, None, f"The edit was refused: {error}")
        return Attempt(self.files, files, unified_diff(self.files, files))

    async def score(self, attempt: Attempt) -> float:
        """Return how far an attempt mends the repository, by the hidden tests; 0 for a refused one."""
        if attempt.files is None:
            return 0.0
        return mended(await self.tests.run(self.task, attempt.files, self.task.tests, attempt.before), self.task)


async def run(task: Problem, agents: Agents, max_attempts: int = 2, counterfactual: float = 0.5) -> Outcome:
    """One episode."""
    tools, issue = agents.tools, f"Issue: {task.question}"
    unhelped = f"{issue}\n\n{tools.shown}\n\nCause:\n(unknown)"  # nor with the files that the analyzer names
    cause = await agents.analyzer.say(f"{issue}\n\n{tools.shown}")
    await tools.look_at(cause)
    attempts: list[Attempt] = []
    verdicts: list[bool | None] = []
    told = f"{issue}\n\n{tools.shown}\n\nCause:\n{cause}"
    while len(attempts) < max_attempts and True not in verdicts:
        attempts.append(tools.attempt(await agents.writer.say(told)))
        word = await agents.validator.say(f"{issue}\n\nChange:\n{attempts[-1].said}")
        verdicts.append(read_verdict(word))
        told = f"{attempts[-1].said}\n\nThe validator says:\n{word}\n\nTry again, from the repository as it was."
    without = None
    if agents.chosen(counterfactual):
        without = tools.attempt(await agents.writer.aside(unhelped))
    scores = [await tools.score(attempt) for attempt in attempts]
    return outcome_of(attempts, verdicts, scores, None if without is None else await tools.score(without))


async def alone(task: Problem, agents: Agents, tokens: float) -> Outcome:
    """The control: the writer by itself, as often as its tokens allow; the change that it makes most often counts.

    Where the repository is in an image, it too is shown the files that it names, from then on.
    """
    tools, attempts = agents.tools, list[Attempt]()
    while not attempts or agents.tokens < tokens:
        said = await agents.writer.aside(f"Issue: {task.question}\n\n{tools.shown}\n\nCause:\n(unknown)")
        attempts.append(tools.attempt(said))
        await tools.look_at(said)
    usable = Counter(attempt.said for attempt in attempts if attempt.files is not None).most_common(1)
    best = next((attempt for attempt in attempts if usable and attempt.said == usable[0][0]), attempts[0])
    score = await tools.score(best)
    return Outcome(score, answer=best.said, correct=score == 1.0, metrics={"attempts": len(attempts)})


def outcome_of(
    attempts: Sequence[Attempt], verdicts: Sequence[bool | None], scores: Sequence[float], without: float | None
) -> Outcome:
    """Pay the agents; an unclear verdict counts as a false one."""
    solved = [score == 1.0 for score in scores]
    judged = [(not true if said is None else said, true) for said, true in zip(verdicts, solved, strict=True)]
    metrics = {
        "analyzer_runs": 1.0,
        "writer_attempts": float(len(attempts)),
        "validator_checks": float(len(verdicts)),
        "tests_passed": scores[-1],
        "solved": float(solved[-1]),
        "edits_refused": sum(attempt.files is None for attempt in attempts) / len(attempts),
    }
    if not solved[0]:
        metrics["recovery_rate"] = float(solved[-1])
    return Outcome(
        team=scores[-1],
        local={
            "analyzer": None if without is None else scores[0] - without,
            "writer": sum(scores) / len(scores),
        },
        answer=attempts[-1].said,
        correct=solved[-1],
        metrics=metrics,
        verdicts={"validator": judged},
    )


def repository_team(
    sandbox: Sandbox,
    swe_backend: str = "local",
    max_attempts: int = 2,
    counterfactual: float = 0.5,
    shown_chars: int = 12_000,
) -> Team:
    """Return the roles, the episode and its tools.

    Raises:
        UsageError: the docker backend without docker.
    """
    in_containers = swe_backend == "docker"
    tests = RememberedTests(DockerTests() if in_containers else LocalTests(sandbox))

    @asynccontextmanager
    async def tools(task: Problem) -> AsyncIterator[Tools]:
        repository = repository_task(task)
        if not in_containers and not repository.files:
            raise UsageError(f"problem {task.id}: its repository is in an image: use --swe_backend docker")
        yield Tools(repository, tests, shown_chars)

    # Longer than all its runs of tests may take, so that code that hangs fails and does not end its episode unpaid.
    runs = max_attempts + 1
    seconds = 2 * runs * CONTAINER_SECONDS if in_containers else 60.0 + runs * TOTAL_SECONDS
    return Team(
        ROLES,
        partial(run, max_attempts=max_attempts, counterfactual=counterfactual),
        tools,
        alone=alone,
        settle=partial(settle_verdicts, role="validator"),
        measure=lambda outcomes: {f"validator/{k}": v for k, v in verdict_metrics(outcomes, "validator").items()},
        limits=Limits(turns=2 + 2 * max_attempts, heard_chars=2 * shown_chars, seconds=seconds),
        failed={"tests_passed": 0.0, "solved": 0.0},
    )


def check_tasks(problems: Sequence[Problem], backend: str) -> None:
    """Refuse what the backend cannot run, before anything is loaded.

    Raises:
        UsageError: a repository that is in an image, or docker that does not answer.
    """
    tasks = [(problem, repository_task(problem)) for problem in problems]
    if backend == "docker":
        asyncio.run(DockerTests().check())
        lost = next((problem for problem, task in tasks if not task.image), None)
        if lost is not None:
            raise UsageError(f"problem {lost.id} of {lost.source!r} names no container image: use --swe_backend local")
        return
    lost = next((problem for problem, task in tasks if not task.files), None)
    if lost is not None:
        raise UsageError(f"problem {lost.id} of {lost.source!r} is in a container image: use --swe_backend docker")


def main() -> None:
    """Play held-out episodes, train the team, play them again, and write what came of it."""
    args = agent_arguments("swe.yaml", __doc__, SWEArguments, DOMAINS, DEFAULTS, [r.name for r in ROLES])
    recipe, training, model, executor = args.parts
    start = starting_point(Path(training.output_dir), training.resume_from_checkpoint)
    train, heldout = training_and_heldout_problems(recipe, training.seed)
    check_tasks([*train, *heldout], recipe.swe_backend)
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
                team=repository_team(
                    sandbox, recipe.swe_backend, recipe.max_attempts, recipe.counterfactual, recipe.shown_chars
                ),
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
