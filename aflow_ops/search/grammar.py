"""The grammar: a proposer without an LLM. It mutates and crosses plans, so that every proposal is a valid workflow.

| modification | what it does |
|---|---|
| add | puts a step around a step: another operator, a vote, a loop, a fallback, a branch |
| drop | takes a step out |
| swap | exchanges a step for a random one |
| alone | starts again with one operator, while there is one that no node has tried alone |
| instruct | exchanges an instruction, a loop's rounds, a branch's condition, a vote's ensemble |
| cross | exchanges a step for one of another node's |
| split | branches on a condition under which another node did better |
| fall back | takes what another node answers where a check that repairs drafts fails |

A workflow that no plan printed, such as one that the search starts from, is a step as it stands (`given.py`): it is put
into votes, loops and branches, crossed, and its instructions are exchanged.

Operators are those that are registered and fit every kind of problem of the search. Conditions are learned from the
validation problems' texts and from what the nodes earned on each (`conditions.py`).
"""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from aflow_ops.errors import UsageError
from aflow_ops.operators import OPERATORS
from aflow_ops.search.conditions import Condition, conditions_of, splits
from aflow_ops.search.evaluate import standard_error
from aflow_ops.search.expand import Context, Proposal
from aflow_ops.search.given import instructed, read_given
from aflow_ops.search.kinds import common_operators
from aflow_ops.search.node import Node, Origin
from aflow_ops.search.plan import (
    MAX_SIZE,
    Plan,
    branch,
    call,
    fallback,
    given,
    print_plan,
    printable,
    read_plan,
    refine,
    simplified,
    vote,
)
from aflow_ops.search.roles import INSTRUCTION, can_check, can_choose, can_revise, can_write, needs_draft
from data.problem import Domain

INSTRUCTIONS = (
    "",
    "Answer directly. Give only the final answer.",
    "Solve it step by step, then state the final answer.",
    "Copy the answer from the text, word for word.",
    "List the facts that matter, then answer in a few words.",
    "Mind the edge cases, then write the code.",
)
# How often a modification splits or falls back, where that promises a gain, and crosses, where there is another plan.
PROMISING_SHARE, CROSS_SHARE = 0.75, 0.2
# How often one operator is tried alone, while there is one that was not; how many standard errors a split must gain.
ALONE_SHARE, SPLIT_ERRORS = 0.5, 2.0
# After a step comes an operator that needs a draft so much more often than one that can do without.
MADE_FOR_DRAFTS = 3
# A crossing takes from one of so many of the best; splits and fallbacks are so many of the most promising.
MATES, SHOWN_SPLITS, SHOWN_FALLBACKS = 4, 3, 2
_ATTEMPTS = 50
# Characters of a plan with the workflows in it that no plan printed.
MAX_WRITTEN = 6_000
# Conditions where there are no problems to learn from.
_UNLEARNED = (Condition("words", 40), Condition("numbers", 2), Condition("lines", 1))


@dataclass(frozen=True)
class Mate:
    """Another node's plan.

    Args:
        plan (`Plan`): it.
        rewards (`Mapping[str, float]`): what it earned, by problem.
    """

    plan: Plan
    rewards: Mapping[str, float]


@dataclass(frozen=True)
class Offer:
    """A modification that promises a gain.

    Args:
        gain (`float`): what the problems' rewards would add up to more, as far as they are known.
        plan (`Plan`): what the parent becomes.
        what (`str`): what was done, in words.
    """

    gain: float
    plan: Plan
    what: str


class GrammarProposer:
    """Proposes random modifications within a grammar of plans.

    Args:
        kinds (`Sequence[tuple[Domain, bool]]`): domain, and whether there is an entry point, of each kind of problem
            that the workflow must be valid for.
        seed (`int`): of its choices.
        texts (`Mapping[str, str]`, *optional*): the validation problems as workflows receive them, by id: what
            conditions are learned from.
        offered (`Collection[str]`, *optional*): no other operators than these.

    Raises:
        UsageError: none of the operators offered answers such a problem by itself.
    """

    origin: Origin = "grammar"

    def __init__(
        self,
        kinds: Sequence[tuple[Domain, bool]],
        seed: int,
        texts: Mapping[str, str] | None = None,
        offered: Collection[str] | None = None,
    ) -> None:
        known = common_operators(kinds, offered)
        self.sources = tuple(name for name, each in known.items() if can_write(each, has_draft=False))
        self.seconds = tuple(name for name, each in known.items() if can_write(each, has_draft=True))
        self.votes = tuple(name for name, each in known.items() if can_choose(each))
        self.checkers = tuple(name for name, each in known.items() if can_check(each))
        self.repairers = tuple(name for name in self.checkers if known[name].rewrites())
        self.revisers = tuple(name for name, each in known.items() if can_revise(each))
        if offered is not None and not self.sources:
            raise UsageError(f"none of the operators offered ({', '.join(offered)}) answers such problems by itself")
        self.has_entry_point = all(flag for _, flag in kinds)
        self.seed = seed
        self._plans: dict[str, Plan | None] = {}
        texts = texts or {}
        self.conditions = tuple(conditions_of(texts.values())) or _UNLEARNED
        self._held = {
            condition: frozenset(key for key, text in texts.items() if condition.holds(text))
            for condition in self.conditions
        }

    async def propose(self, context: Context, refused: Sequence[tuple[Proposal, str]]) -> Proposal:
        """Draw a modification, of two steps after a second refusal.

        The draw depends on the seed, the proposal's number, the attempt and the nodes so far alone.
        """
        rng = random.Random(f"{self.seed} {context.sample} {len(refused)}")
        mates = [mate for node in context.others if (mate := self._mate(node)) is not None]
        parent, said = self._mate(context.parent), []
        if parent is None:
            parent = Mate(self.source(rng), {})
            said.append(f"start again with {parent.plan}")
        untried = self._untried([*(mate.plan for mate in mates), parent.plan], refused)
        if untried and rng.random() < ALONE_SHARE:
            alone = rng.choice(untried)
            return self._proposal(alone, f"{alone.constants[0]} alone")
        for _ in range(1 + (len(refused) > 1) - len(said)):
            modified, what = self.modified(parent, mates, rng)
            parent = replace(parent, plan=modified)
            said.append(what)
        return self._proposal(parent.plan, "; ".join(said))

    def _mate(self, node: Node) -> Mate | None:
        key = f"{node.workflow} {sorted(node.prompts.items())!r}"
        if key not in self._plans:
            self._plans[key] = read_plan(node.workflow) or self._given(node)
        plan = self._plans[key]
        rewards = {key: fmean(rewards) for key, rewards in node.per_problem.items()}
        return None if plan is None else Mate(plan, rewards)

    def _given(self, node: Node) -> Plan | None:
        source = read_given(node.workflow, node.prompts, has_entry_point=self.has_entry_point)
        return None if source is None else given(source)

    def _proposal(self, plan: Plan, modification: str) -> Proposal:
        return Proposal(print_plan(plan, has_entry_point=self.has_entry_point), modification)

    def modified(self, parent: Mate, mates: Sequence[Mate], rng: random.Random) -> tuple[Plan, str]:
        """Return a plan that differs from the parent's, with what was done."""
        plan = parent.plan
        tried = {mate.plan for mate in mates}
        promising = [
            [offer for offer in offers if offer.plan not in tried]
            for offers in (self._splits(parent, mates), self._fallbacks(parent, mates))
        ]
        promising = [offers for offers in promising if offers]
        ways: list[Callable[[Plan, random.Random], tuple[Plan, str]]]
        ways = [self._add, self._add, self._drop, self._swap, self._swap, self._instruct]
        for _ in range(_ATTEMPTS):
            if promising and rng.random() < PROMISING_SHARE:
                offers = rng.choice(promising)
                offer = rng.choices(offers, [offer.gain for offer in offers])[0]
                found, what = offer.plan, offer.what
            else:
                path = rng.choice(list(plan.positions()))
                here = plan.at(path)
                if mates and rng.random() < CROSS_SHARE:
                    there, what = self._cross(here, mates, rng)
                else:
                    there, what = rng.choice(ways)(here, rng)
                found = simplified(plan.put(path, there))
            if found != plan and found.size <= MAX_SIZE and len(found.written) <= MAX_WRITTEN and printable(found):
                return found, what
        fresh = self.source(rng)
        return fresh, f"start again with {fresh}"

    def source(self, rng: random.Random) -> Plan:
        """Return a step that answers the problem by itself."""
        return self._call(rng.choice(self.sources), rng)

    def _call(self, name: str, rng: random.Random, *parts: Plan) -> Plan:
        takes = INSTRUCTION in OPERATORS[name].signature().parameters
        return call(name, *parts, instruction=rng.choice(INSTRUCTIONS) if takes else "")

    def _untried(self, known: Sequence[Plan], refused: Sequence[tuple[Proposal, str]]) -> list[Plan]:
        """Return the operators by themselves that neither a node is nor a refused proposal was."""
        tried = {*known, *(read_plan(proposal.completion) for proposal, _ in refused)}
        return [plan for name in self.sources if (plan := call(name)) not in tried]

    def _splits(self, parent: Mate, mates: Sequence[Mate]) -> list[Offer]:
        """Return branches that would have done better than the parent, the most promising ones, one of a mate."""
        found = []
        for mate in mates:
            for split in splits(self._held, parent.rewards, mate.rewards, is_significant)[:1]:
                plan = simplified(branch(split.condition, mate.plan, parent.plan))
                if plan.size <= MAX_SIZE:
                    found.append(Offer(split.gain, plan, f"split: where the problem {split.condition}, {mate.plan}"))
        return sorted(found, key=lambda offer: (-offer.gain, offer.plan.size))[:SHOWN_SPLITS]

    def _fallbacks(self, parent: Mate, mates: Sequence[Mate]) -> list[Offer]:
        """Return what would do better than the parent if a checker that repairs drafts knew the good ones."""
        found = []
        for mate in mates:
            shared = [key for key in parent.rewards if key in mate.rewards]
            gains = [max(0.0, mate.rewards[key] - parent.rewards[key]) for key in shared]
            if gains and is_significant(gains) and parent.plan.size + mate.plan.size < MAX_SIZE:
                found.append((sum(gains), mate.plan))
        found.sort(key=lambda item: (-item[0], item[1].size))
        return [
            Offer(gain, fallback(checker, parent.plan, other), f"fall back on {other} where {checker} fails")
            for checker in self.repairers
            for gain, other in found[:SHOWN_FALLBACKS]
        ]

    def _cross(self, here: Plan, mates: Sequence[Mate], rng: random.Random) -> tuple[Plan, str]:
        mate = rng.choice(mates[:MATES]).plan
        there = mate.at(rng.choice(list(mate.positions())))
        return there, f"cross: {there} instead of {here}"

    def _add(self, here: Plan, rng: random.Random) -> tuple[Plan, str]:
        loops = [*self.checkers] if self.revisers else []
        kinds = (
            ["vote"] * bool(self.votes) + ["refine"] * bool(loops) + ["fallback"] * bool(self.repairers) + ["branch"]
        )
        kind = rng.choice(["call"] * len(kinds) * bool(self.seconds) + kinds)
        if kind == "vote":
            voters = [here, *(self._voter(here, rng) for _ in range(rng.choice((1, 2))))]
            return vote(rng.choice(self.votes), *voters), f"add a vote around {here}"
        if kind == "branch":
            parts = [here, self.source(rng)]
            rng.shuffle(parts)
            condition = rng.choice(self.conditions)
            return branch(condition, *parts), f"add a branch: where the problem {condition}, {parts[0]}"
        if kind == "refine":
            loop = refine(rng.choice(loops), rng.choice(self.revisers), rng.choice((1, 2)), here)
            return loop, f"add {loop.constants[0]} and {loop.constants[1]} after {here}"
        if kind == "fallback":
            checker, other = rng.choice(self.repairers), self.source(rng)
            return fallback(checker, here, other), f"add {other}, where {here} fails {checker}"
        weights = [MADE_FOR_DRAFTS if needs_draft(OPERATORS[name]) else 1 for name in self.seconds]
        after = self._call(rng.choices(self.seconds, weights)[0], rng, here)
        return after, f"add {after.constants[0]} after {here}"

    def _voter(self, here: Plan, rng: random.Random) -> Plan:
        return here if rng.random() < 0.3 else self.source(rng)

    def _drop(self, here: Plan, rng: random.Random) -> tuple[Plan, str]:
        if not here.parts:
            return here, "nothing to drop"
        if here.kind == "vote" and len(here.parts) > 2:
            gone = rng.randrange(len(here.parts))
            parts = tuple(part for index, part in enumerate(here.parts) if index != gone)
            return replace(here, parts=parts), f"drop {here.parts[gone]} from the vote"
        return rng.choice(here.parts), f"drop {here.kind} {here.constants[0]}"

    def _swap(self, here: Plan, rng: random.Random) -> tuple[Plan, str]:
        other = self.source(rng)
        return other, f"swap {here} for {other}"

    def _instruct(self, here: Plan, rng: random.Random) -> tuple[Plan, str]:
        if here.kind == "call":
            other = self._call(here.constants[0], rng, *here.parts)
        elif here.kind == "vote":
            other = vote(rng.choice(self.votes), *here.parts)
        elif here.kind == "refine":
            other = replace(here, constants=(*here.constants[:2], rng.choice("123")))
        elif here.kind == "given":
            return given(instructed(here.constants[0], rng.choice, INSTRUCTIONS)), "instruct an operator otherwise"
        else:
            other = branch(rng.choice(self.conditions), *here.parts)
        return other, f"instruct: {', '.join(other.constants)} instead of {', '.join(here.constants)}"


def is_significant(gains: Sequence[float]) -> bool:
    """Whether the mean of some gains is above 0 beyond their spread."""
    return fmean(gains) > SPLIT_ERRORS * standard_error(gains)
