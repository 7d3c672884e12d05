import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_ops.errors import CallRefusedError, InfraError, UsageError, WorkflowError
from aflow_ops.language import Workflow, parse_workflow
from aflow_ops.search.evaluate import Rungs, is_hopeless, with_runs
from aflow_ops.search.expand import MAX_REPAIRS, Context, Proposal, as_completion
from aflow_ops.search.grammar import GrammarProposer
from aflow_ops.search.journal import Journal
from aflow_ops.search.loop import Root, Search, SearchSettings, ended_by, whole_waves
from aflow_ops.search.node import Node, Sample, validation_of
from aflow_ops.search.plan import call, print_plan, read_plan
from aflow_ops.search.stop import Convergence
from data.problem import ProblemView
from tests.patience import PATIENCE

PROBLEMS = {f"p{index}": ProblemView(f"What is {index} + 1?", "math") for index in range(12)}
RUNGS = Rungs(tuple(PROBLEMS))
ROOT = Root(print_plan(call("Custom"), has_entry_point=False))


def check(completion: str) -> Workflow:
    return parse_workflow(completion, domain="math", has_entry_point=False)


class Landscape:
    """Runs nothing: a workflow's reward is how many of three steps it has, and a little luck of the problem."""

    def __init__(self, flaky: float = 0.0) -> None:
        self.flaky, self.dice, self.runs = flaky, random.Random(0), 0

    async def __call__(self, workflow: str, problem: str, repeat: int) -> Sample:
        self.runs += 1
        await asyncio.sleep(0)
        if self.dice.random() < self.flaky:
            raise InfraError("the network is down")
        plan = read_plan(workflow)
        assert plan is not None
        steps = [plan.at(path) for path in plan.positions()]
        kinds = {step.constants[0] for step in steps if step.kind == "call"} | {step.kind for step in steps}
        luck = random.Random(f"{workflow} {problem} {repeat}").uniform(0, 0.1)
        reward = 0.3 * len(kinds & {"Programmer", "Format", "vote"}) + luck
        return Sample(reward, reward > 0.9, "ok", tokens=10 * plan.size, cost_usd=0.001 * plan.size)


def search(evaluate: Landscape, nodes: Sequence[Node] = (), **settings: object) -> Search:
    chosen = SearchSettings(**{"rounds": 24, "parallel": 3, "seed": 7, **settings})  # type: ignore[arg-type]
    return Search(chosen, GrammarProposer([("math", False)], 7), check, evaluate, PROBLEMS, RUNGS, list(nodes))


async def test_it_climbs_and_every_proposal_is_a_node() -> None:
    found = search(Landscape(), rounds=60)
    assert await found.run([ROOT]) == "rounds"
    assert [node.id for node in found.nodes] == list(range(61))
    assert [node.round for node in found.nodes] == list(range(61))
    best = found.best()
    assert best is not None and best.validation is not None
    assert best.validation.n == len(PROBLEMS) and best.validation.reward > 0.85
    texts = [node.workflow for node in found.nodes if node.status != "rejected"]
    assert len(texts) == len(set(texts))


async def test_a_killed_search_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    settings = SearchSettings(rounds=24, parallel=3, seed=7)

    async def go(folder: Path, stop_after: int | None) -> bytes:
        with Journal(folder, {"seed": 7}) as journal:
            journal.cut(whole_waves(journal.nodes, 1, settings))
            running = search(Landscape(), journal.nodes)

            def keep(nodes: Sequence[Node]) -> None:
                if stop_after is not None and len(journal.nodes) + len(nodes) > stop_after:
                    cut = json.dumps(nodes[0].to_row()) + "\n" + json.dumps(nodes[-1].to_row())[:40]
                    with journal.path.open("a") as file:
                        file.write(cut)  # as far as the kill let it
                    raise KeyboardInterrupt
                journal.append(nodes)

            running.keep = keep
            await running.run([ROOT])
        return (folder / "nodes.jsonl").read_bytes()

    whole = await go(tmp_path / "whole", None)
    for stop_after in (0, 1, 5, 11, 20):
        with pytest.raises(KeyboardInterrupt):
            await go(tmp_path / "killed", stop_after)
    assert await go(tmp_path / "killed", None) == whole
    assert await go(tmp_path / "killed", None) == whole  # nothing left to do


class OneIsSlow:
    """Proposes one call of Custom after another; the second one comes when the first one is run."""

    origin = "grammar"

    def __init__(self) -> None:
        self.running = asyncio.Event()

    async def propose(self, context: Context, refused: Sequence[tuple[Proposal, str]]) -> Proposal:
        if context.sample == 2:
            await self.running.wait()
        plan = call("Custom", instruction=f"Think {context.sample} times.")
        return Proposal(print_plan(plan, has_entry_point=False), "another instruction")


async def test_a_proposal_is_run_while_those_behind_it_are_still_being_written() -> None:
    waiting, landscape = search(Landscape(), rounds=2, parallel=2), Landscape()
    proposer = OneIsSlow()

    async def evaluate(workflow: str, problem: str, repeat: int) -> Sample:
        if "Think 1 times" in workflow:
            proposer.running.set()
        return await landscape(workflow, problem, repeat)

    waiting.proposer, waiting.evaluate = proposer, evaluate  # type: ignore[assignment]
    async with asyncio.timeout(PATIENCE):
        assert await waiting.run([ROOT]) == "rounds"
    assert [node.round for node in waiting.nodes] == [0, 1, 2]


async def test_failures_of_ours_change_no_score() -> None:
    calm, flaky = search(Landscape()), search(Landscape(flaky=0.05))
    await calm.run([ROOT])
    await flaky.run([ROOT])
    assert calm.nodes == flaky.nodes


async def test_a_failure_of_ours_that_stays_stops_the_search() -> None:
    broken = search(Landscape(flaky=1.0))
    with pytest.raises(InfraError, match="network"):
        await broken.run([ROOT])
    assert broken.nodes == []


class Refusing(Landscape):
    """Its executor refuses to answer on one problem, and whatever AnswerGenerate asks."""

    async def __call__(self, workflow: str, problem: str, repeat: int) -> Sample:
        if problem == "p1" or "answer_generate" in workflow:
            raise CallRefusedError("executor: error 400: content_filter")
        return await super().__call__(workflow, problem, repeat)


async def test_a_refused_call_leaves_a_problem_without_a_score_and_the_search_goes_on() -> None:
    found = search(Refusing(), rounds=40)
    assert await found.run([ROOT]) == "rounds"
    best = found.best()
    assert best is not None and best.validation is not None and best.validation.n == len(PROBLEMS) - 1
    assert best.unscored == {"p1": "executor: error 400: content_filter"} and "p1" not in best.per_problem
    crashed = [node for node in found.nodes if node.status == "crashed"]
    assert crashed and all("content_filter" in (node.error or "") and node.validation is None for node in crashed)
    assert Node.from_row(json.loads(json.dumps(crashed[0].to_row()))) == crashed[0]
    with pytest.raises(WorkflowError, match="content_filter"):
        await search(Refusing()).run([Root(print_plan(call("AnswerGenerate"), has_entry_point=False))])


async def test_a_proposer_that_refuses_to_answer_is_one_recorded_node() -> None:
    class Silent(Stubborn):
        async def propose(self, context: Context, refused: Sequence[tuple[Proposal, str]]) -> Proposal:
            if refused:
                raise CallRefusedError("executor: error 400: the context is too long")
            return await super().propose(context, refused)

    found = search(Landscape(), rounds=1)
    found.proposer = proposer = Silent("no workflow")
    assert await found.run([ROOT]) == "rounds"
    assert (found.nodes[1].status, found.nodes[1].tokens.optimizer, len(proposer.seen)) == ("rejected", 5, 1)
    assert found.nodes[1].error == "no proposal: executor: error 400: the context is too long"


async def test_halving_runs_less_and_finds_no_worse() -> None:
    short, whole = Landscape(), Landscape()
    halved, full = search(short), search(whole)
    full.rungs = replace(RUNGS, halving=False)
    await halved.run([ROOT])
    await full.run([ROOT])
    assert short.runs < 0.9 * whole.runs
    best = [found.best() for found in (halved, full)]
    assert all(node is not None and node.validation is not None and node.validation.n == 12 for node in best)


class Stubborn:
    """A proposer that writes what it is told to."""

    origin = "openai"

    def __init__(self, *replies: str) -> None:
        self.replies, self.seen = replies, []

    async def propose(self, context: Context, refused: Sequence[tuple[Proposal, str]]) -> Proposal:
        self.seen.append([error for _, error in refused])
        return Proposal(self.replies[min(len(refused), len(self.replies) - 1)], "try", tokens=5, cost_usd=0.1)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("I would add a vote.", "find: "),
        ("<workflow><agent name='x'/></workflow>", "syntax: "),
        ("async def workflow(problem):\n    return await oracle(problem)", "unknown operator 'oracle'"),
        ("async def workflow(problem):\n    import os\n    return os.getcwd()", "import of 'os'"),
        ("x" * 2**20, "find: "),
        ("```python\n" * 20_000, "find: "),
        ("<modification>" * 70_000, "find: "),
        ("(" * 50_000, "find: "),
        (f"async def workflow(problem):\n    return {'(' * 3_000}1{')' * 3_000}", "nested more than"),
        ("async def workflow(problem):\n    return open('/etc/passwd').read()", "'open' is out of bounds"),
        ("async def workflow(problem):\n    return ().__class__.__bases__[0].__subclasses__()", ": "),
        ("\x00\ud800\x1b[2J", "find: "),
        ("async def workflow(problem):\n    return (await custom(problem, prompt_custom.LOST))['response']", "LOST"),
        (ROOT.completion, "the same program as node 0"),
    ],
)
async def test_what_is_no_new_workflow_is_one_recorded_node(reply: str, reason: str) -> None:
    proposer = Stubborn(reply)
    found = search(Landscape(), rounds=1)
    found.proposer = proposer
    await found.run([ROOT])
    assert (found.nodes[1].status, found.nodes[1].validation) == ("rejected", None)
    assert reason in (found.nodes[1].error or "")
    assert len(proposer.seen) == 1 + MAX_REPAIRS
    assert found.nodes[1].tokens.optimizer == 5 * (1 + MAX_REPAIRS)
    assert len(json.dumps(found.nodes[1].to_row())) < 10_000


async def test_a_repair_is_shown_what_was_wrong() -> None:
    good = print_plan(call("AnswerGenerate"), has_entry_point=False)
    proposer = Stubborn("nothing", good)
    found = search(Landscape(), rounds=1)
    found.proposer = proposer
    await found.run([ROOT])
    assert found.nodes[1].status == "ok" and found.nodes[1].workflow == good
    assert proposer.seen[1][0].startswith("find: ")


async def test_one_program_proposed_twice_at_once_is_run_once() -> None:
    found = search(Landscape(), rounds=2, parallel=2)
    found.proposer = Stubborn(print_plan(call("AnswerGenerate"), has_entry_point=False))
    await found.run([ROOT])
    assert [node.status for node in found.nodes] == ["ok", "ok", "rejected"]


async def test_a_workflow_whose_every_run_fails_has_crashed_and_is_never_chosen() -> None:
    class Raises(Landscape):
        async def __call__(self, workflow: str, problem: str, repeat: int) -> Sample:
            if "answer_generate" in workflow:
                return Sample(0.0, False, "policy_error", error="KeyError: 'solution'")
            return await super().__call__(workflow, problem, repeat)

    found = search(Raises(), rounds=1)
    found.proposer = Stubborn(print_plan(call("AnswerGenerate"), has_entry_point=False))
    await found.run([ROOT])
    assert (found.nodes[1].status, found.nodes[1].error) == ("crashed", "KeyError: 'solution'")
    assert [item.id for item in found.tree().scored] == [0]


async def test_a_proposer_never_sees_a_gold_answer_but_sees_errors_and_scores() -> None:
    contexts: list[Context] = []

    class Curious(GrammarProposer):
        async def propose(self, context: Context, refused: Sequence[tuple[Proposal, str]]) -> Proposal:
            contexts.append(context)
            return await super().propose(context, refused)

    found = search(Landscape(), rounds=12, selection="greedy", parallel=1)
    found.proposer = Curious([("math", False)], 7)
    await found.run([ROOT])
    assert all(len(context.failures) == 3 for context in contexts)
    assert {failure.problem for failure in contexts[0].failures} <= {view.text for view in PROBLEMS.values()}
    assert any(score is not None for context in contexts for _, score in context.children)


async def test_a_proposer_is_told_why_a_modification_did_not_run() -> None:
    contexts: list[Context] = []

    class Curious(Stubborn):
        async def propose(self, context: Context, refused: Sequence[tuple[Proposal, str]]) -> Proposal:
            contexts.append(context)
            return await super().propose(context, refused)

    found = search(Landscape(), rounds=2, parallel=1)
    found.proposer = Curious("I would add a vote.")
    await found.run([ROOT])
    ((said, score),) = contexts[-1].children
    assert score is None and said.startswith("try [find: ")


async def test_a_workflow_to_start_from_that_never_runs_to_its_end_is_one_clear_error() -> None:
    class Times(Landscape):
        async def __call__(self, workflow: str, problem: str, repeat: int) -> Sample:
            return Sample(0.0, False, "timeout", error="TimeoutError: 60 s")

    found = search(Times())
    with pytest.raises(WorkflowError, match="ran to its end: TimeoutError: 60 s"):
        await found.run([ROOT])
    with pytest.raises(WorkflowError, match="ran to its end"):
        await search(Times(), found.nodes).run([ROOT])


async def test_without_a_workflow_to_start_from_there_is_no_search() -> None:
    with pytest.raises(WorkflowError):
        await search(Landscape()).run([Root("hello")])
    found = search(Landscape(), rounds=0)
    await found.run([Root("hello"), ROOT])
    assert [node.status for node in found.nodes] == ["rejected", "ok"]


def test_another_search_is_not_overwritten(tmp_path: Path) -> None:
    with Journal(tmp_path, {"seed": 1, "rounds": 5}) as journal:
        journal.append([Node(0, None, 0, "root", "", "x")])
    with pytest.raises(UsageError, match="seed was 1, is 2"):
        Journal(tmp_path, {"seed": 2, "rounds": 5})
    rows = (tmp_path / "nodes.jsonl").read_text()
    with pytest.raises(UsageError) as told:
        Journal(tmp_path, {"seed": 1, "rounds": 5, "roots": ["x" * 100_000]})
    assert len(str(told.value)) < 1_000
    (tmp_path / "nodes.jsonl").write_text('{"id": 0}\n' + rows)
    with pytest.raises(UsageError, match="line 1 is damaged"):
        Journal(tmp_path, {"seed": 1, "rounds": 5})
    (tmp_path / "settings.json").write_text("[1, 2]")
    with pytest.raises(UsageError, match=r"settings\.json cannot be read"):
        Journal(tmp_path, {"seed": 1, "rounds": 5})


def test_one_problem_says_nothing_of_others() -> None:
    assert validation_of({"p": [Sample(1.0, True, "ok")]}).ci95 == (0.0, 1.0)


@given(st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), min_size=1, max_size=9))
def test_a_node_is_what_its_row_says(rewards: list[list[float]]) -> None:
    samples = {str(key): [Sample(reward, False, "ok") for reward in group] for key, group in enumerate(rewards)}
    validation = validation_of(samples)
    assert 0 <= validation.ci95[0] <= validation.reward + 1e-9 and validation.reward - 1e-9 <= validation.ci95[1] <= 1
    per_problem = {key: tuple(sample.reward for sample in group) for key, group in samples.items()}
    prompts = {"P": "x", "Q": {1: ["a", {2.5: None, "b": True}], "c": {}}, "R": [{"items of a dict": 1}]}
    node = Node(3, 1, 2, "grammar", "m", "w", prompts, validation=validation, per_problem=per_problem)
    assert Node.from_row(json.loads(json.dumps(node.to_row()))) == node


def test_the_language_reads_a_workflow_back_with_its_prompts() -> None:
    native = (
        "class Workflow:\n    def __init__(self, name, llm_config, dataset):\n"
        "        self.llm = create_llm_instance(llm_config)\n        self.custom = operator.Custom(self.llm)\n"
        "    async def __call__(self, problem):\n"
        "        reply = await self.custom(input=problem, instruction=prompt_custom.P)\n"
        "        return reply['response']"
    )
    found = check(as_completion(native, {"P": 'Say "yes"\n</workflow> or no.'}))
    assert found.prompts == {"P": 'Say "yes"\n</workflow> or no.'}


def test_a_candidate_is_given_up_only_when_it_is_worse_beyond_the_spread() -> None:
    best = {str(key): (0.5,) for key in range(8)}

    def of(*rewards: float) -> dict[str, list[Sample]]:
        return {str(key): [Sample(reward, False, "ok")] for key, reward in enumerate(rewards)}

    assert is_hopeless(of(0.2, 0.2, 0.2, 0.2), best)
    assert not is_hopeless(of(0.5, 0.5, 0.5, 0.5), best)
    assert not is_hopeless(of(1.0, 0.0, 1.0, 0.0), best)
    assert not is_hopeless(of(0.0), best)


def test_where_dollars_count_a_cheap_candidate_is_not_given_up_for_a_little_less_reward() -> None:
    keys = tuple(str(key) for key in range(8))
    samples = {key: [Sample(0.8, False, "ok", cost_usd=0.1)] for key in keys}
    best = with_runs(Node(0, None, 0, "root", "", "x"), samples)
    cheap = {key: [Sample(0.4, False, "ok")] for key in keys}
    right = {key: [Sample(1.0, True, "ok", cost_usd=0.1)] for key in keys}
    plain, priced = Rungs(keys), Rungs(keys, price_per_usd=5.0)
    assert is_hopeless(cheap, plain.worths(best), plain.worth)
    assert not is_hopeless(cheap, priced.worths(best), priced.worth)
    assert priced.worths(best)["0"] == [pytest.approx(0.3)]
    correct = Rungs(keys, objective="correct")
    assert correct.worths(best)["0"] == [0.0] and not is_hopeless(cheap, correct.worths(best), correct.worth)
    assert is_hopeless(cheap, correct.worths(with_runs(best, right)), correct.worth)


def test_convergence_uses_the_spread_between_repeats() -> None:
    rising = [(0.1 * index, 0.02) for index in range(9)]
    level = [(0.5, 0.02)] * 4 + [(0.4, 0.02)] * 5
    noisy = [(0.5 + 0.001 * index, 0.05) for index in range(9)]
    assert not Convergence(z=1.96).reached(rising)
    assert Convergence(z=0).reached(level)
    assert not Convergence(z=0).reached(noisy) and Convergence(z=1.96).reached(noisy)
    assert not Convergence(z=1.96).reached(level[:7])


def test_many_workflows_to_start_from_are_no_convergence() -> None:
    settings = SearchSettings(rounds=20, convergence=Convergence(z=0))

    def scored(identity: int, number: int) -> Node:
        validation = validation_of({"p0": [Sample(0.5, False, "ok")]})
        return Node(identity, None, number, "root", "", "x", validation=validation, per_problem={"p0": (0.5,)})

    nodes = [scored(identity, 0) for identity in range(12)]
    assert ended_by(nodes, settings) is None
    nodes += [scored(12 + number, 1 + number) for number in range(5)]
    assert ended_by(nodes[:-1], settings) is None and ended_by(nodes, settings) == "converged"


def test_a_resume_with_fewer_rounds_keeps_what_was_paid_for() -> None:
    nodes = [Node(number, None if number == 0 else 0, number, "grammar", "", "x") for number in range(12)]
    assert whole_waves(nodes, 1, SearchSettings(rounds=4, parallel=4)) == 12
    assert whole_waves(nodes, 1, SearchSettings(rounds=20, parallel=4)) == 9
    assert whole_waves([], 1, SearchSettings()) == 0
