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
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from data.domains import DOMAINS
from data.problem import DataError, Domain, Problem

CORPUS_FILE = Path(__file__).with_name("workflow_corpus.yaml")
FORMS = ("short", "dsl", "native")


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
    return read_corpus(CORPUS_FILE)


def read_corpus(path: Path) -> tuple[CorpusWorkflow, ...]:
    """Read workflows from a file like `data/workflow_corpus.yaml`.

    Raises:
        DataError: it cannot be read, or an entry is not like those; says which and why.
    """
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"corpus {path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(rows, list) or not rows:
        raise DataError(f"corpus {path}: must be a list of workflows, each with name, domains, form and text")
    return tuple(_workflow(row, f"corpus {path}, entry {number}") for number, row in enumerate(rows, start=1))


def _workflow(row: Any, where: str) -> CorpusWorkflow:
    """Check one entry.

    Raises:
        DataError: says what is wrong, and `where`.
    """
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("name", "form", "text")):
        raise DataError(f"{where}: needs name, form and text")
    domains = row.get("domains")
    if not isinstance(domains, list) or not domains or not all(domain in DOMAINS for domain in domains):
        raise DataError(f"{where}: domains={domains!r} must be a list of {', '.join(DOMAINS)}")
    if row["form"] not in FORMS:
        raise DataError(f"{where}: form={row['form']!r} must be one of {', '.join(FORMS)}")
    return CorpusWorkflow(row["name"], tuple(domains), row["form"], row["text"].strip())


def corpus_pairs(
    problems: Sequence[Problem],
    *,
    seed: int,
    forms: Collection[str] = FORMS,
    shape: Callable[[CorpusWorkflow, Problem], Hashable] = lambda workflow, _: workflow.name,
    more: Sequence[CorpusWorkflow] = (),
    left_out: Callable[[CorpusWorkflow, Problem], bool] = lambda workflow, _: False,
) -> Iterator[tuple[Problem, CorpusWorkflow]]:
    """Pair every problem with a workflow of its domain, each shape as often as the others, whatever their texts.

    Args:
        problems (`Sequence[Problem]`): problems in order.
        seed (`int`): which problem meets which workflow.
        forms (`Collection[str]`): forms to use.
        shape (`Callable`): what makes two workflows count as one design, e.g. their operators in order; every text is
            a shape of its own by default.
        more (`Sequence[CorpusWorkflow]`): workflows beside the corpus.
        left_out (`Callable`): whether a workflow is never paired with the kind of a problem.

    Raises:
        DataError: no workflow of these forms fits a problem's domain.
    """
    rng = random.Random(seed)
    designs: dict[Domain, list[list[CorpusWorkflow]]] = {}
    decks: dict[Domain, list[list[CorpusWorkflow]]] = {}
    for problem in problems:
        if problem.domain not in designs:
            taught = [item for item in (*load_corpus(), *more) if problem.domain in item.domains and item.form in forms]
            taught = [item for item in taught if not left_out(item, problem)]
            designs[problem.domain] = _designs(problem, taught, forms, shape, rng)
        deck = decks.setdefault(problem.domain, [])
        if not deck:
            deck += designs[problem.domain]
            rng.shuffle(deck)
        texts = deck.pop()
        texts.append(texts.pop(0))  # the next text of this shape
        yield problem, texts[-1]


def _designs(
    problem: Problem,
    workflows: Sequence[CorpusWorkflow],
    forms: Collection[str],
    shape: Callable[[CorpusWorkflow, Problem], Hashable],
    rng: random.Random,
) -> list[list[CorpusWorkflow]]:
    """Return a domain's workflows by shape, the texts of each shape in an order of their own."""
    found: dict[Hashable, list[CorpusWorkflow]] = {}
    for item in workflows:
        found.setdefault(shape(item, problem), []).append(item)
    if not found:
        raise DataError(f"the corpus has no {problem.domain} workflow of the forms {', '.join(forms)}")
    for texts in found.values():
        rng.shuffle(texts)
    return list(found.values())


def task_line(problem: Problem) -> str:
    """Return the words that name the kind of task in the problem's own: `math: Calculate`, `qa: In which`.

    They are the domain and the plain words, two at most, that the question begins with, and know nothing of workflows.
    """
    words = []
    for word in problem.question.split()[:2]:
        if not word.isalpha():
            break
        words.append(word)
    return f"{problem.domain}: {' '.join(words)}".rstrip(" ")


def with_task_line(problem: Problem, text: str) -> str:
    """Return a workflow's text with the problem's task line as a comment before its first decision.

        async def workflow(problem):
            # math: Calculate
            result = await programmer(problem=problem)

    A policy that has written the comment has said what it was asked just before it decides what to do about it: a small
    one otherwise hardly tells one kind of problem from another at that place, and what it learns about one is done to
    all. In a pipeline, which is one line, the comment comes first.

    Args:
        problem (`Problem`): that the workflow is written for.
        text (`str`): one of the corpus.
    """
    head, _, body = text.partition("\n")
    if not body:
        return f"# {task_line(problem)}\n{text}"
    return f"{head}\n    # {task_line(problem)}\n{body}"
