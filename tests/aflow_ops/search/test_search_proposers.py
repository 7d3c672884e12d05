"""Proposers that ask a model, and what is kept of their replies for training."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aflow_ops.executor import ExecutorConfig, open_executor
from aflow_ops.executor.types import Message, Reply
from aflow_ops.policy_prompt import policy_messages
from aflow_ops.search.edit_prompt import edit_messages, with_kept_prompts
from aflow_ops.search.expand import Context, Proposal, expand, same_program
from aflow_ops.search.grammar import GrammarProposer
from aflow_ops.search.kinds import checker
from aflow_ops.search.llm import ModelProposer
from aflow_ops.search.node import Attempt, Node, Sample, validation_of
from aflow_ops.search.plan import call, print_plan
from aflow_ops.search.prompting import DesignPrompting, EditPrompting
from aflow_ops.search.trajectories import write_trajectories
from aflow_ops.search.turns import TakingTurns
from data.problem import Problem
from tests.stub_endpoint import Failure, Messages, Raw, StubEndpoint

PROBLEMS = {
    f"sums/{index}": Problem.from_row(
        {"question": f"What is {index} + 1?", "answer": "4711", "source": "sums", "domain": "math", "id": str(index)}
    )
    for index in range(3)
}
GOOD = "```python\nasync def workflow(problem):\n    return (await programmer(problem=problem))['output']\n```"
ROOT = Node(0, None, 0, "root", "", print_plan(call("Custom"), has_entry_point=False))
CHECK = checker([("math", False)])


class Scripted:
    """A model that writes what it is told to, with tokens."""

    def __init__(self, *replies: str) -> None:
        self.replies, self.asked = list(replies), []

    def price(self, prompt_tokens: int, completion_tokens: int) -> float:
        return 0.0

    async def complete(
        self, messages: Sequence[Message], *, temperature: float, max_tokens: int, sample: int = 0
    ) -> Reply:
        self.asked.append((list(messages), sample))
        text = self.replies.pop(0)
        return Reply(text, 5, 2, 0.0, 0.0, cached=False, tokens=((7, -0.5), (9, -0.25)))


POLICY = {"model": "tiny", "adapter": None, "step": 3}


async def test_every_attempt_is_kept_with_its_tokens_and_a_node_is_what_its_row_says() -> None:
    model = Scripted("no workflow", GOOD)
    proposer = ModelProposer(model, EditPrompting([("math", False)]), origin="policy", policy=POLICY)
    candidate = await expand(proposer, Context(ROOT, 0.2, sample=4), CHECK, {})
    node = Node(1, 0, 1, "policy", **candidate.node_parts())
    refused, accepted = node.attempts
    assert refused.error is not None and accepted.error is None
    assert (accepted.completion_ids, accepted.logprobs, accepted.policy) == ((7, 9), (-0.5, -0.25), POLICY)
    assert refused.messages == tuple(model.asked[0][0]) and accepted.messages == tuple(model.asked[1][0])
    assert len({sample for _, sample in model.asked}) == 2 and node.tokens.optimizer == 14
    assert Node.from_row(json.loads(json.dumps(node.to_row()))) == node


async def test_a_policy_that_is_asked_for_designs_gets_its_own_prompt() -> None:
    views = {key: problem.view for key, problem in PROBLEMS.items()}
    model = Scripted(GOOD, GOOD)
    proposer = ModelProposer(model, DesignPrompting(views, "brief"), origin="policy", policy=POLICY)
    for sample in (0, 1):
        candidate = await expand(proposer, Context(ROOT, 0.2, sample=sample), CHECK, {})
        (attempt,) = candidate.node_parts()["attempts"]
        assert attempt.form == "design" and attempt.problem == f"sums/{sample}"
        assert list(attempt.messages) == policy_messages(views[attempt.problem], "brief")


async def test_a_reply_of_a_megabyte_is_not_kept() -> None:
    proposer = ModelProposer(Scripted("x" * 2**20), EditPrompting([("math", False)]))
    assert (await proposer.propose(Context(ROOT, 0.0), [])).attempt is None


def test_a_repair_shows_no_more_of_a_refused_reply_than_fits() -> None:
    refused = [(Proposal("x" * 60_000, "m"), "find: no workflow")] * 3
    messages = edit_messages(Context(ROOT, 0.0), [("math", False)], refused)
    assert len(messages) == 8 and sum(len(message["content"]) for message in messages) < 40_000


NATIVE = (
    "```python\nclass Workflow:\n    def __init__(self, name, llm_config, dataset):\n"
    "        self.llm = create_llm_instance(llm_config)\n        self.custom = operator.Custom(self.llm)\n"
    "    async def __call__(self, problem):\n"
    "        a = await self.custom(input=problem, instruction=prompt_custom.SOLVE)\n"
    "        b = await self.custom(input=a['response'], instruction=prompt_custom.CHECK)\n"
    "        return b['response'], self.llm.get_usage_summary()['total_cost']\n```"
)


@pytest.mark.parametrize(
    "block",
    [
        "<prompt>\nCHECK = 'Check it.'\n</prompt>",
        "<prompt>\nSOLVE = 'Solve <\\x2fprompt> it.'\nCHECK = 'Check it.'\n</prompt>",
        "\n```python\nCHECK = 'Check it.'\n```",
    ],
    ids=["one new", "all", "beside"],
)
async def test_prompts_that_a_reply_leaves_as_they_were_are_its_nodes_too(block: str) -> None:
    parent = replace(ROOT, prompts={"SOLVE": "Solve </prompt> it.", "UNUSED": "x"})
    model = Scripted(f"<modification>check</modification>{NATIVE}\n{block}")
    proposer = ModelProposer(model, EditPrompting([("math", False)]))
    candidate = await expand(proposer, Context(parent, 0.2), CHECK, {})
    assert candidate.error is None and candidate.workflow is not None
    assert candidate.workflow.prompts == {"SOLVE": "Solve </prompt> it.", "CHECK": "Check it."}


def test_prompts_that_nobody_has_are_missing_all_the_same() -> None:
    assert with_kept_prompts(NATIVE, {"OTHER": "x"}) == NATIVE
    assert "SOLVE = 'a'" in with_kept_prompts(NATIVE, {"SOLVE": "a"})


def ran(identity: int, attempts: tuple[Attempt, ...], rewards: Sequence[float]) -> Node:
    samples = {key: [Sample(reward, reward == 1, "ok")] for key, reward in zip(PROBLEMS, rewards, strict=False)}
    per_problem = {key: (reward,) for key, reward in zip(PROBLEMS, rewards, strict=False)}
    workflow = CHECK(GOOD).text
    return Node(
        identity, 0, identity, "policy", "m", workflow, status="ok" if rewards else "rejected", attempts=attempts,
        validation=validation_of(samples) if rewards else None, per_problem=per_problem,
    )  # fmt: skip


def rows_of(folder: Path, nodes: Sequence[Node]) -> list[dict[str, Any]]:
    count = write_trajectories(folder, nodes, PROBLEMS, "full")
    rows = [json.loads(line) for line in (folder / "trajectories.jsonl").read_text().splitlines()]
    assert len(rows) == count and "4711" not in json.dumps(rows)
    for row in rows:
        assert set(row) == {
            "group", "problem", "prompt", "completion", "reward", "correct", "outcome", "node", "origin", "form",
            "policy", "completion_ids", "logprobs",
        }  # fmt: skip
        assert (row["completion_ids"] is None) == (row["logprobs"] is None) and 0 <= row["reward"] <= 1
    prompts: dict[str, Any] = {}
    for row in rows:
        assert prompts.setdefault(row["group"], row["prompt"]) == row["prompt"]
    return rows


def test_an_edit_earns_what_its_workflow_earned_on_all_problems(tmp_path: Path) -> None:
    asked = ({"role": "user", "content": "Improve it."},)
    first = Attempt(asked, "nothing", error="find: no workflow", completion_ids=(1,), logprobs=(-1.0,), policy=POLICY)
    second = Attempt(asked, GOOD, completion_ids=(2, 3), logprobs=(-0.1, -0.2), policy=POLICY)
    rows = rows_of(tmp_path, [ROOT, ran(1, (first, second), [1.0, 0.4, 0.1]), ran(2, (first,), [])])
    edits = [row for row in rows if row["form"] == "edit"]
    assert [row["reward"] for row in edits] == [0.0, pytest.approx(0.5), 0.0]
    assert [row["outcome"] for row in edits] == ["policy_error", "ok", "policy_error"]
    assert [row["completion_ids"] for row in edits] == [[1], [2, 3], [1]] and len({row["group"] for row in edits}) == 1
    assert edits[1]["problem"] == {"id": "all", "source": "sums", "domain": "math"}
    designs = [row for row in rows if row["form"] == "design"]
    assert len(designs) == 3 and {row["completion_ids"] is None for row in designs} == {True}


def test_an_edit_that_was_given_up_early_is_scored_beside_the_best_and_an_outcome_is_that_of_its_problem(
    tmp_path: Path,
) -> None:
    asked = ({"role": "user", "content": "Improve it."},)
    best = replace(ran(0, (), [1.0, 0.0, 0.0]), parent=None, failed={"sums/2": "timeout"})
    given_up = ran(1, (Attempt(asked, GOOD),), [0.6])
    late = replace(ran(2, (Attempt(asked, GOOD),), [0.0, 0.0, 0.0]), status="crashed")
    late = replace(late, failed=dict.fromkeys(PROBLEMS, "timeout"))
    rows = rows_of(tmp_path, [best, given_up, late])
    assert [row["outcome"] for row in rows if row["node"] == 0] == ["ok", "ok", "timeout"]
    assert [row["outcome"] for row in rows if row["node"] == 2] == ["timeout"] * 4
    (edit,) = [row for row in rows if row["node"] == 1 and row["form"] == "edit"]
    assert edit["reward"] == 0.0 and edit["outcome"] == "ok"
    filtered = replace(ran(3, (Attempt(asked, GOOD),), []), status="crashed", unscored={"sums/0": "a filter"})
    assert rows_of(tmp_path, [best, filtered]) == rows_of(tmp_path, [best])


def test_a_design_has_its_tokens_where_it_was_asked_for_and_a_refused_one_earns_nothing(tmp_path: Path) -> None:
    key = "sums/1"
    asked = tuple(map(dict, policy_messages(PROBLEMS[key].view, "full")))
    refused = Attempt(asked, "nothing", "design", key, "find: no workflow", POLICY, (1,), (-1.0,))
    taken = Attempt(asked, "I say:\n" + GOOD, "design", key, None, POLICY, (2, 3), (-0.1, -0.2))
    rows = rows_of(tmp_path, [ran(1, (refused, taken), [1.0, 0.4, 0.1])])
    assert [(row["problem"]["id"], row["reward"], row["completion_ids"]) for row in rows] == [
        ("0", 1.0, None), ("1", 0.0, [1]), ("1", 0.4, [2, 3]), ("2", 0.1, None),
    ]  # fmt: skip
    assert rows[2]["completion"].startswith("I say:") and rows[0]["completion"] == GOOD


def test_a_design_that_is_there_already_earns_what_it_earned_there_whatever_its_number_was(tmp_path: Path) -> None:
    key = "sums/2"
    asked = tuple(map(dict, policy_messages(PROBLEMS[key].view, "full")))
    again = Attempt(asked, f"Again: {GOOD}", "design", key, same_program(71), POLICY, (5, 6), (-0.1, -0.2))
    rejected = Node(1, 0, 1, "policy", "", GOOD, status="rejected", attempts=(again,))
    rows = rows_of(tmp_path, [ran(0, (), [1.0, 0.4, 0.7]), rejected])
    (own,) = [row for row in rows if row["completion_ids"] == [5, 6]]
    assert (own["reward"], own["outcome"], own["form"]) == (0.7, "ok", "design")


async def test_proposers_take_turns_a_round_each_and_their_nodes_say_whose_they_are() -> None:
    views = {key: problem.view for key, problem in PROBLEMS.items()}
    policy = ModelProposer(Scripted(GOOD, GOOD), DesignPrompting(views, "full"), origin="policy")
    proposer = TakingTurns([policy, GrammarProposer([("math", False)], 0, {})], at_once=2)
    origins = [(await proposer.propose(Context(ROOT, 0.2, sample=number), ())).origin for number in (1, 2, 3, 4)]
    assert origins == ["policy", "policy", "grammar", "grammar"]


def completion(text: str, tokens: Sequence[tuple[int, float]] | None) -> Raw:
    said = None if tokens is None else [{"token": f"token_id:{token}", "logprob": value} for token, value in tokens]
    choice = {"message": {"content": text}, "finish_reason": "stop", "logprobs": said and {"content": said}}
    return Raw({"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})


async def test_a_server_that_says_tokens_is_asked_for_them_and_they_are_cached(
    stub: StubEndpoint, tmp_path: Path
) -> None:
    stub.answer = lambda messages: completion("hi", [(5, -0.5), (0, -0.125)])
    config = ExecutorConfig(executor_base_url=stub.url, executor_cache_dir=str(tmp_path), executor_model="policy")
    ask: list[Message] = [{"role": "user", "content": "x"}]
    for _ in range(2):
        async with open_executor(config, token_ids=True) as executor:
            reply = await executor.complete(ask, temperature=1.0, max_tokens=4)
            assert reply.tokens == ((5, -0.5), (0, -0.125))
    assert len(stub.requests) == 1 and stub.requests[0]["return_tokens_as_token_ids"] is True
    async with open_executor(config) as executor:
        assert (await executor.complete(ask, temperature=1.0, max_tokens=4)).tokens is None
    assert "logprobs" not in stub.requests[1]


async def test_a_server_that_refuses_tokens_is_asked_without(stub: StubEndpoint, tmp_path: Path) -> None:
    def answer(messages: Messages) -> Raw | Failure:
        asked = "logprobs" in stub.requests[-1]
        return (
            Failure(400, "Unrecognized request argument: return_tokens_as_token_ids")
            if asked
            else completion("hi", None)
        )

    stub.answer = answer
    config = ExecutorConfig(executor_base_url=stub.url, executor_cache_dir=str(tmp_path), executor_model="policy")
    async with open_executor(config, token_ids=True) as executor:
        reply = await executor.complete([{"role": "user", "content": "x"}], temperature=1.0, max_tokens=4)
    assert (reply.text, reply.tokens) == ("hi", None)
