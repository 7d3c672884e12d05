"""The grammar: a proposer without an LLM. It mutates and crosses plans, so that every proposal is a valid workflow.

| modification | what it does |
|---|---|
| add | puts a step around a step: a check, a vote, a loop, a shortening, a branch |
| drop | takes a step out |
| swap | exchanges a step for a random one |
| instruct | exchanges an instruction, a loop's rounds, a branch's test, a vote's kind |
| cross | exchanges a step for one of another node's |
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from aflow_ops.operators import fitting_operators
from aflow_ops.search.expand import Context, Proposal
from aflow_ops.search.node import Origin
from aflow_ops.search.plan import MAX_SIZE, TESTS, Plan, print_plan, printable, read_plan
from data.problem import Domain

INSTRUCTIONS = (
    "",
    "Answer directly. Give only the final answer.",
    "Solve it step by step, then state the final answer.",
    "Copy the answer from the text, word for word.",
    "List the facts that matter, then answer in a few words.",
    "Mind the edge cases, then write the code.",
)
# Step -> the operators that it calls.
_CALLS = {
    "answer": ("AnswerGenerate",),
    "compute": ("Programmer",),
    "custom": ("Custom",),
    "write": ("CustomCodeGenerate",),
    "shorten": ("Format",),
    "refine": ("Review", "Revise"),
    "tested": ("Test",),
    "vote": ("ScEnsemble",),
}
_ATTEMPTS = 50


class GrammarProposer:
    """Proposes random modifications within a grammar of plans.

    Args:
        kinds (`Sequence[tuple[Domain, bool]]`): domain, and whether there is an entry point, of each kind of problem
            that the workflow must be valid for.
        seed (`int`): of its choices.
    """

    origin: Origin = "grammar"

    def __init__(self, kinds: Sequence[tuple[Domain, bool]], seed: int) -> None:
        allowed = [{operator.__name__ for operator in fitting_operators(*kind)} for kind in kinds]
        common = set.intersection(*allowed) if allowed else set()
        self.steps = tuple(step for step, names in _CALLS.items() if common.issuperset(names))
        self.sources = tuple(step for step in ("answer", "compute", "custom", "write") if step in self.steps)
        self.votes = tuple(
            snake for name, snake in (("ScEnsemble", "sc_ensemble"), ("MdEnsemble", "md_ensemble")) if name in common
        )
        self.has_entry_point = all(flag for _, flag in kinds)
        self.seed = seed

    async def propose(self, context: Context, refused: Sequence[tuple[Proposal, str]]) -> Proposal:
        """Draw one modification. The draw depends on the seed, the proposal's number and the attempt alone."""
        rng = random.Random(f"{self.seed} {context.sample} {len(refused)}")
        plan = read_plan(context.parent.workflow)
        if plan is None:
            fresh = self.source(rng)
            return self._proposal(fresh, f"start again with {fresh}")
        mates = [mate for node in context.others if (mate := read_plan(node.workflow)) is not None]
        modified, what = self.modified(plan, mates, rng)
        return self._proposal(modified, what)

    def _proposal(self, plan: Plan, modification: str) -> Proposal:
        return Proposal(print_plan(plan, has_entry_point=self.has_entry_point), modification)

    def modified(self, plan: Plan, mates: Sequence[Plan], rng: random.Random) -> tuple[Plan, str]:
        """Return a plan that differs from the given one, with what was done."""
        ways: list[Callable[[Plan, Plan, random.Random], tuple[Plan, str]]]
        ways = [self._add, self._add, self._drop, self._swap, self._instruct]
        for _ in range(_ATTEMPTS):
            path = rng.choice(list(plan.positions()))
            here = plan.at(path)
            if mates and rng.random() < 0.2:
                mate = rng.choice(mates)
                there, what = mate.at(rng.choice(list(mate.positions()))), "cross: {} instead of {}"
                what = what.format(there, here)
            else:
                there, what = rng.choice(ways)(here, plan, rng)
            found = plan.put(path, there)
            if found != plan and found.size <= MAX_SIZE and printable(found):
                return found, what
        fresh = self.source(rng)
        return fresh, f"start again with {fresh}"

    def source(self, rng: random.Random) -> Plan:
        """Return a step that answers the problem by itself."""
        kind = rng.choice(self.sources)
        return Plan(kind, rng.choice(INSTRUCTIONS) if kind in ("custom", "write") else "")

    def _add(self, here: Plan, plan: Plan, rng: random.Random) -> tuple[Plan, str]:
        around = rng.choice([step for step in (*self.steps, "branch") if step not in self.sources])
        if around == "vote":
            voters = [here, *(self._voter(here, rng) for _ in range(rng.choice((1, 2))))]
            return Plan("vote", rng.choice(self.votes), tuple(voters)), f"add a vote around {here}"
        if around == "branch":
            parts = [here, self.source(rng)]
            rng.shuffle(parts)
            test = rng.choice(list(TESTS))
            return Plan("branch", test, tuple(parts)), f"add a branch on whether the problem {test}"
        choice = rng.choice("12") if around == "refine" else ""
        return Plan(around, choice, (here,)), f"add {around} after {here}"

    def _voter(self, here: Plan, rng: random.Random) -> Plan:
        return here if rng.random() < 0.3 else self.source(rng)

    def _drop(self, here: Plan, plan: Plan, rng: random.Random) -> tuple[Plan, str]:
        if not here.parts:
            return here, "nothing to drop"
        if here.kind == "vote" and len(here.parts) > 2:
            gone = rng.randrange(len(here.parts))
            parts = tuple(part for index, part in enumerate(here.parts) if index != gone)
            return replace(here, parts=parts), f"drop {here.parts[gone]} from the vote"
        return rng.choice(here.parts), f"drop {here.kind}"

    def _swap(self, here: Plan, plan: Plan, rng: random.Random) -> tuple[Plan, str]:
        other = self.source(rng)
        return other, f"swap {here} for {other}"

    def _instruct(self, here: Plan, plan: Plan, rng: random.Random) -> tuple[Plan, str]:
        choices: dict[str, Sequence[str]] = {
            "custom": INSTRUCTIONS,
            "write": INSTRUCTIONS,
            "refine": ("1", "2", "3"),
            "branch": tuple(TESTS),
            "vote": self.votes,
        }
        if here.kind not in choices:
            return here, "nothing to instruct"
        choice = rng.choice(choices[here.kind])
        return replace(here, choice=choice), f"instruct {here.kind} with {choice!r}"
