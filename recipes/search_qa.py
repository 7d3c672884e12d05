"""Three agents answer questions by searching: one writes queries, one keeps passages, one extracts the answer.

    accelerate launch recipes/search_qa.py
    accelerate launch recipes/search_qa.py --config recipes/configs/search_qa_quickstart.yaml

Searches go to the passages that each problem brings along, to `--corpus PATH` or to `--retriever_url`. The loop ends
when the extractor answers, or after `--max_rounds`; what is right, and which passages were needed, is looked up
afterwards. What each agent is paid for, a row of its data and what was measured: recipes/agents_search.md.
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
from aflow_ops.agents.tools.corpus import Corpus, open_corpus
from aflow_ops.agents.tools.retriever import Retriever, check_topk, usable_query
from aflow_ops.sandbox import Sandbox, open_sandbox
from data.passages import Needed, Passage
from data.problem import Problem
from recipes.policy.agent_warm_start import ensure_agent_policy
from recipes.policy.loading import loading_policy, policy_settings
from recipes.run.agent_results import finish_agents
from recipes.run.command import run_command
from recipes.run.open import open_run
from recipes.run.progress import MetricsFile, progress_of
from recipes.run.starting import starting_point
from recipes.settings.agents import AgentArguments, agent_arguments
from recipes.settings.corpus import CorpusArguments, check_passages, corpus_from
from recipes.training.agent_heldout import evaluate_agents, evaluate_alone
from recipes.training.agents import AgentGRPOTrainer
from recipes.training.best import BestByHeldout
from recipes.training.phases import train_policy
from recipes.training.problems import dry_run_line, training_and_heldout_problems
from recipes.training.tracking import start_tracking
from rewards.agents.retrieval import coverage, kept_passages, query_credit
from rewards.grading import CachedGrader

DOMAINS = ("qa",)
DEFAULTS = {"sources": ["hotpotqa"], "domain_mix": "qa=1"}
MAX_QUERIES = 3
ROLES = (
    Role(
        "query_optimizer",
        "You write search queries that find what a question needs. Reply with one to three queries of a few words, "
        "one a line, for what is not known yet.",
    ),
    Role(
        "document_retriever",
        "You choose among search results. Reply with the ids of those that help to answer the question, in square "
        "brackets, such as [3] [7]; [] for none.",
    ),
    Role(
        "answer_extractor",
        "You answer a question from passages. Reply with one line: ANSWER: and a few words; UNKNOWN when the passages "
        "do not say it.",
    ),
)
# Paid for UNKNOWN where an answer could not be known. Whoever cannot tell when that is says it always, unless answers
# are right more often than this: with a half, an extractor that was right in an eighth went over to it.
ABSTAINED = 0.2
_IDS = re.compile(r"\[([^\[\]\n]{1,80})\]")
_ANSWER = re.compile(r"answer\W{0,3}:\s*(.+)", re.IGNORECASE)
# Said instead of an answer; "Unknown Pleasures" is one.
_UNKNOWN = re.compile(r"\W*(?:UNKNOWN\b(?!\s+[A-Z])|(?i:unknown)\s*(?:$|[^\w\s]))")


@dataclass
class SearchQAArguments(CorpusArguments, AgentArguments):
    """Flags of this recipe.

    Args:
        topk (`int`): passages that a query finds.
        max_rounds (`int`): times the agents may search.
    """

    topk: int = field(default=3, metadata={"help": "Passages that a query finds."})
    max_rounds: int = field(default=3, metadata={"help": "Most rounds of searching."})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_topk(self.topk)
        if self.max_rounds < 1:
            raise ValueError(f"max_rounds={self.max_rounds} must be at least 1")


class Tools:
    """What the agents of one episode search with, and what knows what was needed."""

    def __init__(self, retriever: Retriever, grader: CachedGrader, task: Problem) -> None:
        self.retriever, self.grader, self.task, self.needed = retriever, grader, task, Needed.by(task)

    async def right(self, answer: str) -> bool:
        """Whether an answer is right."""
        return bool(answer) and (await self.grader.grade(answer, self.task)).correct


@dataclass
class Search:
    """What was searched for and found in one episode.

    Args:
        queries (`list[tuple[str, list[Passage]]]`): in order, with what each found.
        kept (`list[Passage]`): what the retriever kept, each once.
        choices (`list[Passage | None]`): what it chose, repeated ones too; `None` for an id of nothing found.
        answers (`list[str]`): the extractor's, empty for UNKNOWN.
        unknown (`list[bool]`): whether it said UNKNOWN.
        complete (`list[bool]`): whether all that is needed had been kept then.
    """

    queries: list[tuple[str, list[Passage]]] = field(default_factory=list)
    kept: list[Passage] = field(default_factory=list)
    choices: list[Passage | None] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    unknown: list[bool] = field(default_factory=list)
    complete: list[bool] = field(default_factory=list)

    @property
    def found(self) -> dict[str, Passage]:
        """Everything that was found, by id."""
        return {passage.id: passage for _, results in self.queries for passage in results}

    def keep(self, chosen: Sequence[str]) -> None:
        """Keep the passages that the retriever chose among all that were found so far."""
        found = self.found
        self.choices += [found.get(name) for name in chosen]
        kept = {passage.id for passage in self.kept}
        self.kept += [found[name] for name in dict.fromkeys(chosen) if name in found and name not in kept]

    def answer(self, reply: str) -> None:
        """Note what the extractor says."""
        self.answers.append(answer_in(reply))
        self.unknown.append(not self.answers[-1] and re.search(r"\bunknown\b", reply[:8000], re.IGNORECASE) is not None)

    @property
    def known(self) -> str:
        """The kept passages as agents read them."""
        return "\n".join(map(shown_text, self.kept)) or "(nothing)"


async def run(task: Problem, agents: Agents, topk: int = 3, max_rounds: int = 3) -> Outcome:
    """One episode."""
    question, tools, search = task.question, agents.tools, Search()
    while len(search.answers) < max_rounds and not any(search.answers):
        asked = await agents.query_optimizer.say(f"{question}\n\nKnown:\n{search.known}")
        results: dict[str, Passage] = {}
        for query in queries_in(asked):
            search.queries.append((query, await tools.retriever.search(query, topk)))
            results |= {passage.id: passage for passage in search.queries[-1][1]}
        if results:
            shown = "\n".join(f"[{passage.id}] {shown_text(passage)}" for passage in results.values())
            told = f"{question}\n\nKnown:\n{search.known}\n\nFound:\n{shown}"
            search.keep(ids_in(await agents.document_retriever.say(told)))
        search.answer(await agents.answer_extractor.say(f"{question}\n\nKnown:\n{search.known}"))
        search.complete.append(coverage([tools.needed.key(p) for p in search.kept], tools.needed.names) == 1)
    return outcome_of(search, tools.needed, [await tools.right(answer) for answer in search.answers])


async def alone(task: Problem, agents: Agents, tokens: float, topk: int = 3) -> Outcome:
    """The control: the extractor by itself, with what the question finds, as often as its tokens allow."""
    found = await agents.tools.retriever.search(task.question, topk)
    known = "\n".join(shown_text(passage) for passage in found) or "(nothing)"
    answers: list[str] = []
    while not answers or agents.tokens < tokens:
        answers.append(answer_in(await agents.answer_extractor.aside(f"{task.question}\n\nKnown:\n{known}")))
    best = Counter(filter(None, answers)).most_common(1)
    right = await agents.tools.right(best[0][0] if best else "")
    return Outcome(float(right), answer=best[0][0] if best else "", correct=right, metrics={"attempts": len(answers)})


def queries_in(text: str) -> list[str]:
    """Return the queries that a text lists, each once, at most `MAX_QUERIES`."""
    lines = [
        usable_query(re.sub(r"^\W*(?:\d+[.)]\s*)?(?:query\s*\d*:)?", "", line)) for line in text[:8000].split("\n")
    ]
    return list(dict.fromkeys(line.strip("\"'` ") for line in lines if line.strip("\"'` ")))[:MAX_QUERIES]


def ids_in(text: str) -> list[str]:
    """Return the ids that a text gives in square brackets, as they stand there."""
    return [part.strip() for inside in _IDS.findall(text[:8000]) for part in inside.split(",") if part.strip()][:50]


def answer_in(text: str) -> str:
    """Return the answer of an extractor's reply; empty when it says UNKNOWN, or nothing."""
    found = _ANSWER.search(text)
    return "" if found is None or _UNKNOWN.match(found[1]) else found[1].strip()


def shown_text(passage: Passage) -> str:
    """A search result as an agent reads it: under its title where its text does not name it."""
    titled = passage.title and passage.title not in passage.text
    return f"{passage.title}: {passage.text}" if titled else passage.text


def outcome_of(search: Search, needed: Needed, right: Sequence[bool]) -> Outcome:
    """Pay the agents.

    The optimizer by what its queries found, the retriever by what it kept of that, the extractor by its answers: a
    right one earns 1, UNKNOWN `ABSTAINED` where something needed had not been kept, everything else nothing.
    """
    searches = [[needed.key(passage) for passage in results] for _, results in search.queries]
    found = {needed.key(passage) for passage in search.found.values()}
    kept = ["-" if passage is None else needed.key(passage) for passage in search.choices]
    earned = [
        1.0 if correct else ABSTAINED if unknown and not complete else 0.0
        for unknown, complete, correct in zip(search.unknown, search.complete, right, strict=True)
    ]
    metrics = {
        "optimizer_runs": float(len(search.answers)),
        "num_queries_generated": float(len(search.queries)),
        "total_searches": float(len(search.queries)),
        "extractor_attempts": float(len(search.answers)),
        "answer_correct": float(right[-1]),
        "search_recall": coverage(found, needed.names),
        "kept_recall": coverage(kept, needed.names),
        "answered": float(bool(search.answers[-1])),
    }
    return Outcome(
        team=float(right[-1]),
        local={
            "query_optimizer": query_credit(searches, needed.names),
            "document_retriever": kept_passages(found, kept, needed.names),
            "answer_extractor": sum(earned) / len(earned),
        },
        answer=search.answers[-1],
        correct=right[-1],
        metrics=metrics,
    )


def search_team(sandbox: Sandbox, corpus: Corpus | None = None, topk: int = 3, max_rounds: int = 3) -> Team:
    """Return the roles, the episode and its tools; searches go to each problem's own passages without a corpus."""
    grader, searched = CachedGrader(sandbox), corpus or open_corpus()

    @asynccontextmanager
    async def tools(task: Problem) -> AsyncIterator[Tools]:
        async with searched.retriever(task) as retriever:
            yield Tools(retriever, grader, task)

    limits = Limits(turns=3 * max_rounds)
    play = partial(run, topk=topk, max_rounds=max_rounds)
    return Team(ROLES, play, tools, alone=partial(alone, topk=topk), limits=limits, failed={"answer_correct": 0.0})


def main() -> None:
    """Play held-out episodes, train the team, play them again, and write what came of it."""
    args = agent_arguments("search_qa.yaml", __doc__, SearchQAArguments, DOMAINS, DEFAULTS, [r.name for r in ROLES])
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
                team=search_team(sandbox, corpus, recipe.topk, recipe.max_rounds),
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
