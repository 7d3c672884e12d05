import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_ops.language import parse_workflow
from aflow_ops.operators import fitting_operators
from aflow_ops.search.canonical import workflow_key
from aflow_ops.search.conditions import Condition, read_condition
from aflow_ops.search.expand import Context
from aflow_ops.search.grammar import INSTRUCTIONS, GrammarProposer, Mate
from aflow_ops.search.node import Node
from aflow_ops.search.plan import (
    Plan,
    branch,
    call,
    fallback,
    print_plan,
    printable,
    read_plan,
    refine,
    simplified,
    vote,
)

KINDS = [("math", False), ("qa", False), ("code", True), ("code", False)]
CONDITIONS = st.one_of(
    st.builds(Condition, st.sampled_from(["starts", "has"]), st.text(min_size=1, max_size=9)),
    st.builds(Condition, st.sampled_from(["words", "numbers", "lines"]), st.integers(0, 99)),
)
LEAVES = st.one_of(
    st.sampled_from([call("AnswerGenerate"), call("Programmer")]),
    st.builds(
        lambda text: call("Custom", instruction=text), st.one_of(st.sampled_from(INSTRUCTIONS), st.text(max_size=20))
    ),
)
PLANS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(call, st.sampled_from(["Format", "Programmer", "Custom", "Revise"]), inner),
        st.builds(refine, st.just("Review"), st.just("Revise"), st.integers(1, 3), inner),
        st.builds(fallback, st.just("Review"), inner, inner),
        st.builds(
            lambda ensemble, parts: vote(ensemble, *parts),
            st.sampled_from(["ScEnsemble", "MdEnsemble"]),
            st.lists(inner, min_size=2, max_size=4),
        ),
        st.builds(branch, CONDITIONS, inner, inner),
    ),
    max_leaves=6,
)


@given(PLANS)
def test_every_plan_is_a_valid_workflow_and_is_read_back(plan: Plan) -> None:
    assert printable(plan)
    text = print_plan(plan, has_entry_point=False)
    workflow = parse_workflow(text, domain="math", has_entry_point=False)
    assert workflow.repairs == ()
    assert read_plan(workflow.text) == plan


def decided(plan: Plan, text: str) -> Plan:
    """Return what a plan does for a problem, without its choices."""
    if plan.kind == "branch":
        condition = read_condition(plan.constants[0])
        assert condition is not None
        return decided(plan.parts[not condition.holds(text)], text)
    return replace(plan, parts=tuple(decided(part, text) for part in plan.parts))


FEW_CONDITIONS = st.sampled_from([Condition("starts", "a"), Condition("words", 1), Condition("has", "b")])
CHOICES = st.recursive(
    st.sampled_from([call("AnswerGenerate"), call("Programmer")]),
    lambda inner: st.one_of(st.builds(branch, FEW_CONDITIONS, inner, inner), st.builds(call, st.just("Revise"), inner)),
    max_leaves=8,
)


@given(CHOICES, st.sampled_from(["", "a", "b", "a b", "c b", "c", "c d", "a c"]))
def test_a_simplified_plan_does_the_same_and_asks_nothing_twice(plan: Plan, text: str) -> None:
    found = simplified(plan)
    assert decided(found, text) == decided(plan, text)
    assert found.size <= plan.size and simplified(found) == found
    for path in found.positions():
        here = found.at(path)
        if here.kind == "branch":
            assert here.parts[0] != here.parts[1]
            asked = [found.at(path[:depth]) for depth in range(len(path))]
            assert all(other.kind != "branch" or other.constants != here.constants for other in asked)


@pytest.mark.parametrize(
    "text",
    [
        "async def workflow(problem):\n    return 1",
        "# plan: call('Custom')\nasync def workflow(problem):\n    return 'something else'",
        "# plan: __import__('os').system('true')\nx",
        "# plan: call('; import os')\nx",
        "# plan: call('Programmer', 'no instruction')\nx",
        "# plan: call('Review')\nx",
        "# plan: call('Format')\nx",
        "# plan: vote('Custom', call('Custom'), call('Custom'))\nx",
        "# plan: refine('Review', 'Revise', 'many', call('Custom'))\nx",
        "# plan: refine('Custom', 'Revise', '1', call('Custom'))\nx",
        "# plan: branch('import os', call('Custom'), call('Custom'))\nx",
        "# plan: fallback('Custom', call('Custom'), call('Custom'))\nx",
        "# plan: call('Custom', 'a', call('Custom'), call('Custom'))\nx",
        "# plan: " + "call('Format', " * 5_000 + "\nx",
    ],
)
def test_what_no_plan_printed_is_not_read(text: str) -> None:
    assert read_plan(text) is None


@given(PLANS, st.integers(0, 10**6), st.sampled_from(KINDS[:2]))
def test_a_mutation_is_another_valid_workflow(plan: Plan, seed: int, kind: tuple[str, bool]) -> None:
    proposer = GrammarProposer([kind], seed)  # type: ignore[list-item]
    found, what = proposer.modified(Mate(plan, {}), [Mate(plan, {})], random.Random(seed))
    assert what and printable(found) and found.size <= 9
    parse_workflow(print_plan(found, has_entry_point=False), domain=kind[0], has_entry_point=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_chain_of_proposals_stays_valid_and_reaches_every_step(kind: tuple[str, bool]) -> None:
    proposer = GrammarProposer([kind], seed=1)  # type: ignore[list-item]
    text = "async def workflow(problem):\n    return (await custom(input=problem))['response']"
    seen: set[str] = set()
    for sample in range(250):
        context = Context(Node(0, None, 0, "root", "", text), 0.0, sample=sample)
        proposal = await proposer.propose(context, [])
        text = parse_workflow(proposal.completion, domain=kind[0], has_entry_point=kind[1]).text  # type: ignore[arg-type]
        plan = read_plan(text)
        assert plan is not None
        seen |= {name for path in plan.positions() for name in (plan.at(path).kind, *plan.at(path).constants)}
    fitting = {operator.__name__ for operator in fitting_operators(*kind)}  # type: ignore[arg-type]
    assert seen >= fitting | {"vote", "refine", "branch"}
    assert ("fallback" in seen) == bool(proposer.repairers) == ("Test" in fitting)


async def test_a_repeated_request_gets_the_same_proposal_and_a_refused_one_another() -> None:
    proposer = GrammarProposer([("math", False)], seed=3)
    context = Context(
        Node(0, None, 0, "root", "", print_plan(call("AnswerGenerate"), has_entry_point=False)), 0.0, sample=5
    )
    first = await proposer.propose(context, [])
    assert await proposer.propose(context, []) == first
    others = {(await proposer.propose(context, [(first, "again")] * count)).completion for count in range(1, 6)}
    assert others != {first.completion}


def test_programs_are_compared_by_what_they_do_not_by_how_they_are_spelled() -> None:
    one = "async def workflow(problem: str):\n    '''Doc'''\n    a = await custom(input=problem)  # !\n    return a"
    same = "async def workflow(problem):\n    draft = (await custom(input = problem))\n    return draft"
    other = "async def workflow(problem):\n    a = await custom(input=problem, instruction='x')\n    return a"
    assert workflow_key(one) == workflow_key(same) != workflow_key(other)
    assert workflow_key(one, {"P": "a"}) != workflow_key(one, {"P": "b"})
    assert workflow_key("[A, A] -> B") == workflow_key("[A,A]->B") != workflow_key("A -> B")


@given(PLANS, PLANS)
def test_different_plans_are_different_programs(one: Plan, other: Plan) -> None:
    keys = {workflow_key(print_plan(plan, has_entry_point=False)) for plan in (one, other)}
    assert len(keys) == len({one, other})


def test_names_of_helpers_make_no_difference_and_what_is_passed_by_name_does() -> None:
    text = (
        "def {name}({first}, {second}):\n    return {first} + {second}\n\n"
        "async def workflow(problem):\n    return {name}({first}=problem, {second}=(await custom(problem))['response'])"
    )
    keys = [workflow_key(text.format(name=name, first="a", second="b")) for name in ("join", "put_together")]
    assert keys[0] == keys[1] != workflow_key(text.format(name="join", first="b", second="a"))
    turned = text.format(name="join", first="a", second="b").replace("join(a, b)", "join(b, a)", 1)
    assert workflow_key(turned.replace("a + b", "b + a")) != keys[0]
    other = text.format(name="custom_", first="a", second="b").replace("await custom(", "await custom_(")
    assert workflow_key(other) != keys[0]
