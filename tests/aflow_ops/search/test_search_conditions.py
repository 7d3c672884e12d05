import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_ops.language import parse_workflow
from aflow_ops.operators import OPERATORS, register_operator
from aflow_ops.search.conditions import Condition, conditions_of, read_condition, splits
from aflow_ops.search.expand import Context
from aflow_ops.search.grammar import GrammarProposer, is_significant
from aflow_ops.search.node import Node
from aflow_ops.search.plan import Plan, branch, call, print_plan, read_plan
from rewards.baselines import FIXED_BASELINES, fixed_workflows
from tests.aflow_ops.test_own_operators import LLMDebate, Pool

TEXTS = {
    **{f"sum{index}": f"Calculate {index} + {index}." for index in range(4)},
    **{f"fact{index}": f"Context:\nMila lives in Quorby {index}.\n\nQuestion: Where?" for index in range(4)},
    **{f"code{index}": f"def f{index}(x):\n    '''Return x plus {index}.'''" for index in range(4)},
}


@pytest.fixture
def own() -> Iterator[None]:
    before = dict(OPERATORS)
    register_operator(LLMDebate)
    register_operator(Pool)
    yield
    OPERATORS.clear()
    OPERATORS.update(before)


def test_conditions_are_learned_from_texts_and_each_tells_other_problems_apart() -> None:
    found = conditions_of(TEXTS.values())
    assert {str(condition) for condition in found} >= {"starts 'Calculate'", "starts 'Context'", "starts 'def'"}
    holds = [tuple(map(condition.holds, TEXTS.values())) for condition in found]
    assert len(set(holds)) == len(holds)
    assert all(2 <= sum(held) <= len(TEXTS) - 2 for held in holds)
    assert conditions_of([]) == [] and conditions_of(["one text"] * 5) == []


@given(st.sampled_from(["starts", "has"]), st.text(min_size=1, max_size=12))
def test_a_condition_says_the_same_in_a_workflow_as_here(feature: str, word: str) -> None:
    condition = Condition(feature, word)
    assert read_condition(str(condition)) == condition
    for problem in (f"{word} then", f"then {word}", "x\ny 12"):
        assert eval(condition.expression, {"problem": problem}) == condition.holds(problem)


@pytest.mark.parametrize("feature", ["words", "numbers", "lines"])
def test_a_count_says_the_same_in_a_workflow_as_here(feature: str) -> None:
    import re

    for problem in TEXTS.values():
        for bound in range(12):
            condition = Condition(feature, bound)
            assert eval(condition.expression, {"problem": problem, "re": re}) == condition.holds(problem)
    assert read_condition(f"{feature} > 3") == Condition(feature, 3)


@pytest.mark.parametrize("text", ["", "import os", "words > x", "has x", "has ['a']", "starts ''", "is 'x'"])
def test_what_says_no_condition_is_none(text: str) -> None:
    assert read_condition(text) is None


def test_a_split_is_where_another_workflow_does_better_beyond_its_spread() -> None:
    held = {
        condition: frozenset(key for key, text in TEXTS.items() if condition.holds(text))
        for condition in conditions_of(TEXTS.values())
    }
    mine = {key: 0.9 if key.startswith("sum") else 0.2 for key in TEXTS}
    other = {key: 0.9 if key.startswith("fact") else 0.2 for key in TEXTS}
    best = splits(held, mine, other, is_significant)[0]
    assert str(best.condition) == "starts 'Context'" and best.gain == pytest.approx(2.8)
    assert splits(held, mine, mine, is_significant) == []
    assert splits(held, mine, {"fact0": 1.0}, is_significant) == []


def good_at(identity: int, plan: Plan, *kinds: str, good: float = 1.0) -> Node:
    rewards = {key: (good if key.startswith(kinds) else 0.2,) for key in TEXTS}
    return Node(identity, None, 0, "grammar", "", print_plan(plan, has_entry_point=False), per_problem=rewards)


async def split_into(mine: Node, *others: Node) -> list[str]:
    """Return the plans of those of sixty proposals that are splits."""
    proposer = GrammarProposer([("math", False), ("qa", False)], 0, TEXTS)
    contexts = [Context(mine, 0.5, others=others, sample=sample) for sample in range(60)]
    proposals = [await proposer.propose(context, []) for context in contexts]
    return [str(read_plan(each.completion)) for each in proposals if each.modification.startswith("split")]


SUMS = good_at(0, call("Programmer"), "sum")
FACTS = good_at(1, call("AnswerGenerate"), "fact")
WANTED = branch(Condition("starts", "Context"), call("AnswerGenerate"), call("Programmer"))


async def test_the_grammar_branches_where_two_workflows_are_good_at_different_problems() -> None:
    assert (await split_into(SUMS, FACTS)).count(str(WANTED)) >= 9


async def test_what_promises_more_is_proposed_more_often() -> None:
    little = good_at(2, call("Custom"), "code", good=0.6)
    found = await split_into(SUMS, FACTS, little)
    less = str(branch(Condition("starts", "def"), call("Custom"), call("Programmer")))
    assert found.count(str(WANTED)) > found.count(less) > 0


async def test_a_branch_that_was_tried_is_not_proposed_again_and_none_asks_what_another_has_asked() -> None:
    tried = good_at(2, WANTED, "sum", "fact")
    assert str(WANTED) not in await split_into(SUMS, FACTS, tried)
    nested = [plan for plan in await split_into(FACTS, SUMS, tried) if plan.count("\"starts 'Context'\"") > 1]
    assert nested == []


async def test_operators_of_ones_own_are_proposed_and_have_a_fixed_workflow(own: None) -> None:
    proposer = GrammarProposer([("math", False)], 0)
    assert "Pool" in proposer.votes and "LLMDebate" in proposer.seconds and "LLMDebate" in proposer.checkers
    seen: set[str] = set()
    text = print_plan(call("Custom"), has_entry_point=False)
    for sample in range(400):
        context = Context(Node(0, None, 0, "root", "", text), 0.0, sample=sample)
        completion = (await proposer.propose(context, [])).completion
        text = parse_workflow(completion, domain="math", has_entry_point=False).text
        seen |= {name for name in ("Pool", "LLMDebate") if name in text}
    assert seen == {"Pool", "LLMDebate"}
    fixed = fixed_workflows()
    assert set(fixed) == {*FIXED_BASELINES, "Pool", "LLMDebate"}
    for name in seen:
        assert name in parse_workflow(fixed[name], domain="math", has_entry_point=False).operators


def test_modifications_without_problems_to_learn_from_are_still_valid() -> None:
    proposer = GrammarProposer([("code", True)], 1)
    assert proposer.conditions and proposer.source(random.Random(0)).kind == "call"
