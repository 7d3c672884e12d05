"""The warm-start corpus: workflows x problems.

Example entry of `data/workflow_corpus.yaml`:

    - name: programmer
      domains: [math, qa, code]
      form: short
      text: |
        async def workflow(problem):
            result = await programmer(problem=problem)
            return result["output"]
"""

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from data.problem import DataError, Domain, Problem

CORPUS_FILE = Path(__file__).with_name("workflow_corpus.yaml")


@dataclass(frozen=True)
class CorpusWorkflow:
    """One workflow of the corpus.

    Args:
        name (`str`): unique name.
        domains (`tuple[str, ...]`): domains whose problems it is paired with.
        form (`str`): `"short"`, `"native"` or `"dsl"`.
        text (`str`): the workflow.
    """

    name: str
    domains: tuple[Domain, ...]
    form: str
    text: str


@cache
def load_corpus() -> tuple[CorpusWorkflow, ...]:
    """Return every workflow of the corpus."""
    rows = yaml.safe_load(CORPUS_FILE.read_text(encoding="utf-8"))
    return tuple(CorpusWorkflow(row["name"], tuple(row["domains"]), row["form"], row["text"].strip()) for row in rows)


def corpus_pairs(
    problems: Sequence[Problem], *, seed: int, forms: Collection[str] = ("short", "dsl", "native")
) -> Iterator[tuple[Problem, CorpusWorkflow]]:
    """Pair every problem with a workflow of its domain, each workflow as often as the others.

    Args:
        problems (`Sequence[Problem]`): problems in order.
        seed (`int`): which problem meets which workflow.
        forms (`Collection[str]`): forms to use.

    Raises:
        DataError: no workflow of these forms fits a problem's domain.
    """
    rng = random.Random(seed)
    decks: dict[Domain, list[CorpusWorkflow]] = {}
    for problem in problems:
        deck = decks.setdefault(problem.domain, [])
        if not deck:
            deck += [item for item in load_corpus() if problem.domain in item.domains and item.form in forms]
            rng.shuffle(deck)
        if not deck:
            raise DataError(f"the corpus has no {problem.domain} workflow of the forms {', '.join(forms)}")
        yield problem, deck.pop()
