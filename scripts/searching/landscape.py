"""A landscape whose optimum is known: what searches can be compared on without an executor.

Problems are of three kinds, told apart by their first word. Each kind has an operator that solves it and one that is to
work on that draft; which ones is drawn from the landscape's seed. A workflow solves a problem with probability

    0.1 + 0.5 [the kind's operator was run] + 0.3 [its second one worked on that draft]

and earns 1, else 0.2. So no single pipeline is good at all kinds, and the best workflow, which branches, solves 90 % of
the problems. Every operator call takes ten tokens. What a run comes to depends on workflow, problem and repeat alone.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

from aflow_ops.search.conditions import read_condition
from aflow_ops.search.node import Sample
from aflow_ops.search.plan import Plan, read_plan
from data.problem import ProblemView

KINDS = ("Compute", "Find", "Explain")
SOURCES, SECONDS = ("AnswerGenerate", "Programmer"), ("Format", "Revise", "Custom")
WORDS = ("river", "stone", "cloud", "apple", "candle", "window", "garden", "silver", "orange", "market")
BASE, SOURCE_GAIN, SECOND_GAIN, POOR = 0.1, 0.5, 0.3, 0.2
OPTIMUM = POOR + (1 - POOR) * (BASE + SOURCE_GAIN + SECOND_GAIN)
TOKENS_PER_CALL = 10


@dataclass(frozen=True)
class Ran:
    """What a plan's run has come to.

    Args:
        solved (`bool`): the kind's operator was run on the way to the answer.
        refined (`bool`): and its second operator worked on that.
        calls (`int`): operators that were called.
    """

    solved: bool
    refined: bool
    calls: int


@lru_cache(maxsize=64)
def _plan(workflow: str) -> Plan:
    plan = read_plan(workflow)
    assert plan is not None, "the landscape knows what the grammar prints"
    return plan


class Landscape:
    """An `Evaluate` for the search, with a true value for every workflow.

    Args:
        seed (`int`): of the operators that the kinds want, of the problems and of luck.
        problems (`int`): how many, the kinds in turn.
        part (`str`): whose problems: those of another part are others of the same kinds.
    """

    def __init__(self, seed: int, problems: int, part: str = "validation") -> None:
        rng = random.Random(f"landscape {seed}")
        self.seed = seed
        sources = [*SOURCES, rng.choice(SOURCES)]
        rng.shuffle(sources)
        self.wanted = {kind: (source, rng.choice(SECONDS)) for kind, source in zip(KINDS, sources, strict=True)}
        words = random.Random(f"{part} {seed}")
        self.problems: Mapping[str, ProblemView] = {
            f"p{index}": ProblemView(f"{KINDS[index % len(KINDS)]} the {' '.join(words.choices(WORDS, k=6))}.", "math")
            for index in range(problems)
        }

    async def __call__(self, workflow: str, problem: str, repeat: int) -> Sample:
        """Run once; see `aflow_ops.search.evaluate.Evaluate`."""
        ran = self._ran(_plan(workflow), self.problems[problem].text)
        lucky = random.Random(f"{self.seed} {workflow} {problem} {repeat}").random() < self._chance(ran)
        return Sample(1.0 if lucky else POOR, lucky, "ok", tokens=TOKENS_PER_CALL * ran.calls)

    def value(self, workflow: str) -> float:
        """Return the expected reward of a workflow over all problems."""
        plan = _plan(workflow)
        chances = [self._chance(self._ran(plan, view.text)) for view in self.problems.values()]
        return POOR + (1 - POOR) * fmean(chances)

    @staticmethod
    def _chance(ran: Ran) -> float:
        return BASE + SOURCE_GAIN * ran.solved + SECOND_GAIN * (ran.solved and ran.refined)

    def _ran(self, plan: Plan, text: str) -> Ran:
        source, second = self.wanted[text.split()[0]]
        if plan.kind == "branch":
            condition = read_condition(plan.constants[0])
            assert condition is not None
            return self._ran(plan.parts[not condition.holds(text)], text)
        before = [self._ran(part, text) for part in plan.parts]
        calls = 1 + sum(ran.calls for ran in before)
        if plan.kind == "vote":  # it takes the first draft
            return Ran(before[0].solved, before[0].refined, calls)
        if plan.kind == "refine":
            times = int(plan.constants[2])
            return Ran(before[0].solved, before[0].refined or second == plan.constants[1], calls + 2 * times - 1)
        operator = plan.constants[0]
        solved = operator == source if not before else before[0].solved
        return Ran(solved, bool(before) and (before[0].refined or (solved and operator == second)), calls)
