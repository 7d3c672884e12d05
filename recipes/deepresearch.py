"""Three agents research a question: one plans what to find, one gathers it with tools, one writes the answer.

    accelerate launch recipes/deepresearch.py --corpus notes/
    accelerate launch recipes/deepresearch.py --config recipes/configs/deepresearch_quickstart.yaml

The gatherer searches and reads the passages that each problem brings along, a corpus of your own (`--corpus`: a folder
of Markdown and text files, or a file of passages) or what `--retriever_url` finds. The answer cites what it rests on.
The loop ends when the synthesizer answers, or after `--max_rounds`. What each agent is paid for, a row of its data and
what was measured: recipes/agents_search.md.
"""

import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from aflow_ops.agents.episode import Agents
from aflow_ops.agents.team import Limits, Outcome, Role, Team
from aflow_ops.agents.tools.calls import ToolCalls, ToolRefusalError
from aflow_ops.agents.tools.corpus import Corpus, open_corpus
from aflow_ops.agents.tools.documents import Documents
from aflow_ops.agents.tools.retriever import Retriever
from aflow_ops.sandbox import Sandbox, open_sandbox
from data.passages import Needed, Passage
from data.problem import SPAN_SEPARATOR, Problem
from recipes.policy.agent_warm_start import ensure_agent_policy
from recipes.policy.loading import loading_policy, policy_settings
from recipes.run.agent_results import finish_agents
from recipes.run.command import run_command
from recipes.run.open import open_run
from recipes.run.progress import MetricsFile, progress_of
from recipes.run.starting import starting_point
from recipes.search_qa import SearchQAArguments, answer_in, ids_in, queries_in, shown_text
from recipes.settings.agents import agent_arguments
from recipes.settings.corpus import check_passages, corpus_from
from recipes.training.agent_heldout import evaluate_agents, evaluate_alone
from recipes.training.agents import AgentGRPOTrainer
from recipes.training.best import BestByHeldout
from recipes.training.phases import train_policy
from recipes.training.problems import dry_run_line, training_and_heldout_problems
from recipes.training.tracking import start_tracking
from rewards.agents.citations import support, without_citations
from rewards.agents.retrieval import coverage, kept_passages, query_credit
from rewards.grading import CachedGrader

DOMAINS = ("qa",)
DEFAULTS = {"sources": ["hotpotqa"], "domain_mix": "qa=1"}
# Of the gatherer's commands in one turn.
MAX_COMMANDS = 3
ROLES = (
    Role(
        "planner",
        "You plan research. Reply with what has to be found out, one short line a fact, in the order in which it can "
        "be found; at most three lines, and nothing that is known already.",
    ),
    Role(
        "gatherer",
        "You find facts with tools. Reply with one command a line: SEARCH: words; READ: a document; KEEP: [id] [id] "
        "for results that help. After KEEP alone you are given the next thing to find.",
    ),
    Role(
        "synthesizer",
        "You answer a question from notes. Reply with one line: ANSWER: a few words, then the ids of the notes that it "
        "rests on in square brackets, such as [3] [7]; UNKNOWN when the notes do not say it.",
    ),
)
_COMMAND = re.compile(r"^[^\w\n]*(SEARCH|READ|KEEP)[^\S\n]*:[^\S\n]*(.*)$", re.IGNORECASE | re.MULTILINE)


@dataclass
class DeepResearchArguments(SearchQAArguments):
    """Flags of this recipe.

    Args:
        max_steps_a_fact (`int`): turns of the gatherer for each line of the plan.
        max_tool_calls (`int`): searches and reads of one episode.
    """

    max_rounds: int = field(default=2, metadata={"help": "Most plans of one episode."})
    max_steps_a_fact: int = field(default=3, metadata={"help": "Most turns of the gatherer for a line of the plan."})
    max_tool_calls: int = field(default=16, metadata={"help": "Most searches and reads of one episode."})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_steps_a_fact", "max_tool_calls"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")


class Tools:
    """What the agents of one episode research with, and what knows what was needed."""

    def __init__(
        self,
        retriever: Retriever,
        documents: Documents,
        grader: CachedGrader,
        task: Problem,
        topk: int,
        calls: ToolCalls,
    ) -> None:
        self.retriever, self.documents, self.grader, self.task = retriever, documents, grader, task
        self.topk, self.calls, self.needed = topk, calls, Needed.by(task)
        self.seen: dict[str, Passage] = {}

    async def use(self, command: str, argument: str) -> str:
        """Do one command of the gatherer and return what it is told."""
        tools: dict[str, Callable[[str], Awaitable[str]]] = {"search": self._search, "read": self._read}
        return await self.calls(command, argument, partial(tools[command], argument))

    async def _search(self, query: str) -> str:
        found = await self.retriever.search(query, self.topk)
        self.seen |= {passage.id: passage for passage in found}
        if not found:
            raise ToolRefusalError("nothing found")
        return "\n".join(f"[{passage.id}] {shown_text(passage)}" for passage in found)

    async def _read(self, argument: str) -> str:
        name, _, page = argument.partition(", page ")
        text = self.documents.read(name.strip(" []\"'"), int(page) if page.isdecimal() and len(page) < 6 else 1)
        for passage in self.documents.passages_on(text, name):
            before = self.seen.get(passage.id)
            if before is None:
                self.seen[passage.id] = passage
            elif passage.text not in before.text:  # another page of a document
                self.seen[passage.id] = replace(before, text=f"{before.text}\n{passage.text}")
        return text

    async def right(self, answer: str) -> bool:
        """Whether an answer is right."""
        said = without_citations(answer)
        return bool(said) and (await self.grader.grade(said, self.task)).correct


@dataclass
class Research:
    """What was planned, kept and answered in one episode.

    Args:
        found (`list[list[Passage]]`): for each line of the plan, what was first seen while it was worked on.
        kept (`dict[str, Passage]`): the notes.
        choices (`list[str | None]`): ids as the gatherer gave them, repeated ones too; `None` for one that it had not
            seen then.
        answers (`list[str]`): the synthesizer's, with citations; empty for UNKNOWN.
        plans (`int`): of the planner.
        steps (`int`): turns of the gatherer.
    """

    found: list[list[Passage]] = field(default_factory=list)
    kept: dict[str, Passage] = field(default_factory=dict)
    choices: list[str | None] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    plans: int = 0
    steps: int = 0

    @property
    def notes(self) -> str:
        """The notes as agents read them."""
        return "\n".join(f"[{p.id}] {shown_text(p)}" for p in self.kept.values()) or "(none)"


async def run(task: Problem, agents: Agents, max_rounds: int = 2, max_steps_a_fact: int = 3) -> Outcome:
    """One episode."""
    question, tools, research = task.question, agents.tools, Research()
    while len(research.answers) < max_rounds and not any(research.answers):
        plan = queries_in(await agents.planner.say(f"{question}\n\nNotes:\n{research.notes}"))
        research.plans += 1
        for line in plan:
            before = set(tools.seen)
            await gather(line, agents, research, max_steps_a_fact)
            research.found.append([passage for name, passage in tools.seen.items() if name not in before])
        research.answers.append(answer_in(await agents.synthesizer.say(f"{question}\n\nNotes:\n{research.notes}")))
    return outcome_of(research, tools, await tools.right(research.answers[-1]))


async def alone(task: Problem, agents: Agents, tokens: float) -> Outcome:
    """The control: the synthesizer by itself, with what the question finds, as often as its tokens allow."""
    found = await agents.tools.retriever.search(task.question, agents.tools.topk)
    notes = "\n".join(f"[{passage.id}] {shown_text(passage)}" for passage in found) or "(none)"
    answers: list[str] = []
    while not answers or agents.tokens < tokens:
        said = await agents.synthesizer.aside(f"{task.question}\n\nNotes:\n{notes}")
        answers.append(without_citations(answer_in(said)))
    best = Counter(filter(None, answers)).most_common(1)
    right = await agents.tools.right(best[0][0] if best else "")
    return Outcome(float(right), answer=best[0][0] if best else "", correct=right, metrics={"attempts": len(answers)})


async def gather(line: str, agents: Agents, research: Research, max_steps: int) -> None:
    """Let the gatherer work on one line of the plan until it uses no tool, or has no turn left."""
    told = f"Find: {line}\n\nNotes:\n{research.notes}"
    for _ in range(max_steps):
        commands = commands_in(await agents.gatherer.say(told))
        research.steps += 1
        shown = set(agents.tools.seen)  # what this turn finds is only told after it
        replies = []
        for command, argument in commands:
            if command == "keep":
                chosen = ids_in(argument)
                research.choices += [name if name in shown else None for name in chosen]
                research.kept |= {name: agents.tools.seen[name] for name in chosen if name in shown}
            else:
                replies.append(await agents.tools.use(command, argument))
        if not replies:
            return
        told = "\n".join(replies)


def commands_in(text: str) -> list[tuple[str, str]]:
    """Return the commands of a turn with their arguments, at most `MAX_COMMANDS`."""
    return [(name.lower(), argument.strip()[:1000]) for name, argument in _COMMAND.findall(text[:8000])][:MAX_COMMANDS]


def outcome_of(research: Research, tools: Tools, right: bool) -> Outcome:
    """Pay the agents.

    The planner by what its lines led to, as queries are; the gatherer by the needed passages that it saw, how well it
    kept them, and how many of its calls did something: calls that find nothing needed earn nothing; the synthesizer by
    its answer, and by citations that bear it out.
    """
    needed, answer = tools.needed, research.answers[-1]
    found = {needed.key(passage) for passage in tools.seen.values()}
    kept = ["-" if name is None else needed.key(tools.seen[name]) for name in research.choices]
    chosen = kept_passages(found, kept, needed.names)
    success = tools.calls.succeeded / max(1, len(tools.calls.calls))
    spans = [span for gold in tools.task.golds for span in gold.split(SPAN_SEPARATOR)]
    backed = support(answer, spans, tools.seen, {n for n, p in tools.seen.items() if needed.key(p) in needed.names})
    metrics = {
        "planner_runs": float(research.plans),
        "num_subqueries": float(len(research.found)),
        "gatherer_runs": float(research.steps),
        "synthesizer_runs": float(len(research.answers)),
        "total_tool_calls": float(len(tools.calls.calls)),
        "tool_success": success,
        "fact_coverage": coverage(kept, needed.names),
        "citation_support": backed.score,
        "answer_correct": float(right),
    }
    return Outcome(
        team=float(right),
        local={
            "planner": query_credit([[needed.key(p) for p in each] for each in research.found], needed.names),
            "gatherer": coverage(found, needed.names) * (0.7 * (chosen or 0.0) + 0.3 * success),
            "synthesizer": 0.6 + 0.4 * backed.score if right else 0.2 * backed.score,
        },
        answer=answer,
        correct=right,
        metrics=metrics,
    )


def research_team(
    sandbox: Sandbox,
    corpus: Corpus | None = None,
    topk: int = 3,
    max_rounds: int = 2,
    max_steps_a_fact: int = 3,
    max_tool_calls: int = 16,
) -> Team:
    """Return the roles, the episode and its tools; each problem's own passages are searched without a corpus."""
    grader, searched = CachedGrader(sandbox), corpus or open_corpus()

    @asynccontextmanager
    async def tools(task: Problem) -> AsyncIterator[Tools]:
        async with searched.retriever(task) as retriever:
            calls = ToolCalls(max_calls=max_tool_calls)
            yield Tools(retriever, searched.documents(task), grader, task, topk, calls)

    limits = Limits(turns=max_rounds * (2 + 3 * max_steps_a_fact))
    play = partial(run, max_rounds=max_rounds, max_steps_a_fact=max_steps_a_fact)
    return Team(ROLES, play, tools, alone=alone, limits=limits, failed={"answer_correct": 0.0})


def main() -> None:
    """Play held-out episodes, train the team, play them again, and write what came of it."""
    roles = [role.name for role in ROLES]
    args = agent_arguments("deepresearch.yaml", __doc__, DeepResearchArguments, DOMAINS, DEFAULTS, roles)
    recipe, training, model, executor = args.parts
    start = starting_point(Path(training.output_dir), training.resume_from_checkpoint)
    train, heldout = training_and_heldout_problems(recipe, training.seed)
    corpus = corpus_from(recipe)
    check_passages([*train, *heldout], corpus)
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
                team=research_team(
                    sandbox,
                    corpus,
                    recipe.topk,
                    recipe.max_rounds,
                    recipe.max_steps_a_fact,
                    recipe.max_tool_calls,
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
