"""Questions over small invented worlds, whose facts have to be found before they can be put together.

Example row (`extra.facts` names the passages that the answer rests on; only rewards see them):

    {"question": "What is the job of the mayor of the town where Mila Torvan lives?", "answer": "baker",
     "source": "invented_worlds", "extra": {"facts": ["p7", "p21", "p3"], "passages": [
        {"id": "p1", "title": "Tamsel", "text": "Tamsel is known for its salt."}, ...]}}

Every problem has a world of its own, with people and towns like those of `data/invented_facts.py`, so nothing can be
known without a search, and nothing can be remembered from another problem.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from data.invented_facts import (
    ANIMALS,
    COLOURS,
    COUNTRY_PARTS,
    FIRST_NAMES,
    GOODS,
    JOBS,
    LAST_PARTS,
    TOWN_PARTS,
)
from data.passages import Passage
from data.problem import SPAN_SEPARATOR, Problem

PEOPLE, TOWNS, COUNTRIES = 6, 4, 3


@dataclass(frozen=True)
class _Fact:
    """What is true of somebody or something: `Mila Torvan`, `job`, `baker`."""

    subject: str
    kind: str
    value: str


@dataclass(frozen=True)
class _Question:
    text: str
    answer: str
    needs: tuple[_Fact, ...]


_WORDINGS: dict[str, tuple[str, str]] = {
    "town": ("{0} lives in {1}.", "The home of {0} is in {1}."),
    "job": ("{0} works as a {1}.", "{0} earns a living as a {1}."),
    "animal": ("{0} keeps a {1}.", "{0} has a pet {1}."),
    "colour": ("{0} drives a {1} car.", "The car of {0} is {1}."),
    "country": ("{0} is a town in {1}.", "The town of {0} lies in {1}."),
    "goods": ("{0} is known for its {1}.", "People visit {0} for its {1}."),
    "mayor": ("The mayor of {0} is {1}.", "{1} is the mayor of {0}."),
}
# Words that stand in the passages that tell of a kind of fact.
SEARCH_WORDS = {
    "town": "lives home",
    "job": "works earns living",
    "animal": "keeps pet",
    "colour": "drives car",
    "country": "town lies",
    "goods": "known visit",
    "mayor": "mayor",
}
_OF_A_PERSON = {
    "town": "In which town does {0} live?",
    "job": "What is the job of {0}?",
    "animal": "Which animal does {0} keep?",
    "colour": "What colour is the car of {0}?",
}
_OF_A_HOME = {
    "country": "In which country does {0} live?",
    "goods": "What is the home town of {0} known for?",
    "mayor": "Who is the mayor of the town where {0} lives?",
}
_OF_A_JOB = {
    "country": "In which country does the {0} live?",
    "goods": "What is the town of the {0} known for?",
}
_TWO_THINGS = "In which town does {0} live, and what is the job of {1}?"
_OF_A_MAYOR = {
    "job": "What is the job of the mayor of the town where {0} lives?",
    "animal": "Which animal does the mayor of the town where {0} lives keep?",
    "colour": "What colour is the car of the mayor of the town where {0} lives?",
}


@dataclass(frozen=True)
class Chain:
    """What a question follows: from a subject over kinds of facts to a value.

    Args:
        subject (`str`): a name; a job, where the first kind is `"worker"`.
        kinds (`tuple[str, ...]`): such as `("town", "mayor", "job")`.
    """

    subject: str
    kinds: tuple[str, ...]


# What finds a question, and the kinds of facts of each of its subjects.
_Pattern = tuple[re.Pattern[str], tuple[tuple[str, ...], ...]]


def _patterns(questions: dict[str, str], *before: str) -> list[_Pattern]:
    found: list[_Pattern] = []
    for kind, text in questions.items():
        pattern = re.compile(re.escape(text).replace(r"\{0\}", "(.+)"))
        found.append((pattern, ((*before, kind),)))
    return found


def _chain_patterns() -> list[_Pattern]:
    """Patterns of questions, the most particular first."""
    two = re.compile(re.escape(_TWO_THINGS).replace(r"\{0\}", "(.+)").replace(r"\{1\}", "(.+)"))
    return [
        (two, (("town",), ("job",))),
        *_patterns(_OF_A_JOB, "worker", "town"),
        *_patterns(_OF_A_MAYOR, "town", "mayor"),
        *_patterns(_OF_A_HOME, "town"),
        *_patterns(_OF_A_PERSON),
    ]


def chains_of(question: str) -> list[Chain]:
    """Return what a question of this source follows; nothing for another one.

    Example:

        >>> chains_of("Who is the mayor of the town where Mila Torvan lives?")
        [Chain(subject='Mila Torvan', kinds=('town', 'mayor'))]
    """
    for pattern, kinds in _chain_patterns():
        if (found := pattern.fullmatch(question)) is not None:
            return [Chain(subject, each) for subject, each in zip(found.groups(), kinds, strict=True)]
    return []


def fact_told(sentence: str) -> tuple[str, str, str] | None:
    """Return the subject, the kind and the value that a passage of this source tells; `None` for another sentence."""
    for kind, wordings in _WORDINGS.items():
        for wording in wordings:
            pattern = re.escape(wording).replace(r"\{0\}", "(?P<subject>.+)").replace(r"\{1\}", "(?P<value>.+)")
            if (found := re.fullmatch(pattern, sentence)) is not None:
                return found["subject"], kind, found["value"]
    return None


class _World:
    """People, towns and what is true of them."""

    def __init__(self, rng: random.Random) -> None:
        last_names = _names(rng, LAST_PARTS, PEOPLE)
        self.people = [
            f"{first} {last}" for first, last in zip(rng.sample(FIRST_NAMES, PEOPLE), last_names, strict=True)
        ]
        self.towns, countries = _names(rng, TOWN_PARTS, TOWNS), _names(rng, COUNTRY_PARTS, COUNTRIES)
        mayors = rng.sample(self.people, TOWNS)
        values = {
            "town": [rng.choice(self.towns) for _ in self.people],
            "job": rng.sample(JOBS, PEOPLE),
            "animal": rng.sample(ANIMALS, PEOPLE),
            "colour": rng.sample(COLOURS, PEOPLE),
            "country": [rng.choice(countries) for _ in self.towns],
            "goods": rng.sample(GOODS, TOWNS),
            "mayor": mayors,
        }
        self.facts = [
            _Fact(subject, kind, value)
            for kind, column in values.items()
            for subject, value in zip(self.people if kind in _OF_A_PERSON else self.towns, column, strict=True)
        ]

    def fact(self, subject: str, kind: str) -> _Fact:
        """Return what is true of somebody or something."""
        return next(fact for fact in self.facts if (fact.subject, fact.kind) == (subject, kind))


def _one_fact(world: _World, rng: random.Random) -> _Question:
    kind, person = rng.choice(list(_OF_A_PERSON)), rng.choice(world.people)
    fact = world.fact(person, kind)
    return _Question(_OF_A_PERSON[kind].format(person), fact.value, (fact,))


def _of_the_home(world: _World, rng: random.Random) -> _Question:
    kind, home = rng.choice(list(_OF_A_HOME)), world.fact(rng.choice(world.people), "town")
    fact = world.fact(home.value, kind)
    return _Question(_OF_A_HOME[kind].format(home.subject), fact.value, (home, fact))


def _of_the_mayor(world: _World, rng: random.Random) -> _Question:
    kind, home = rng.choice(list(_OF_A_MAYOR)), world.fact(rng.choice(world.people), "town")
    mayor = world.fact(home.value, "mayor")
    fact = world.fact(mayor.value, kind)
    return _Question(_OF_A_MAYOR[kind].format(home.subject), fact.value, (home, mayor, fact))


def _by_job(world: _World, rng: random.Random) -> _Question:
    job = world.fact(rng.choice(world.people), "job")
    home = world.fact(job.subject, "town")
    fact = world.fact(home.value, rng.choice(list(_OF_A_JOB)))
    asked = (
        "In which country does the {0} live?" if fact.kind == "country" else "What is the town of the {0} known for?"
    )
    return _Question(asked.format(job.value), fact.value, (job, home, fact))


def _two_things(world: _World, rng: random.Random) -> _Question:
    one, other = rng.sample(world.people, 2)
    first, second = world.fact(one, "town"), world.fact(other, "job")
    text = _TWO_THINGS.format(one, other)
    return _Question(text, f"{first.value}{SPAN_SEPARATOR}{second.value}", (first, second))


_MAKERS: tuple[tuple[Callable[[_World, random.Random], _Question], float], ...] = (
    (_one_fact, 0.25),
    (_of_the_home, 0.35),
    (_two_things, 0.15),
    (_of_the_mayor, 0.15),
    (_by_job, 0.1),
)


def invented_worlds(seed: int) -> Iterator[Problem]:
    """Yield questions that need one to three facts of their world, without end."""
    rng = random.Random(f"invented_worlds {seed}")
    makers, weights = zip(*_MAKERS, strict=True)
    while True:
        world = _World(rng)
        question = rng.choices(makers, weights)[0](world, rng)
        passages = _passages(world, rng)
        needed = [passage.id for fact in question.needs for passage, told in passages if told == fact]
        yield Problem.from_row(
            {
                "question": question.text,
                "answer": question.answer,
                "source": "invented_worlds",
                "extra": {"facts": needed, "passages": [passage.to_row() for passage, _ in passages]},
            }
        )


def _passages(world: _World, rng: random.Random) -> list[tuple[Passage, _Fact]]:
    """One passage a fact, in random order."""
    facts = rng.sample(world.facts, len(world.facts))
    return [
        (Passage(f"p{number}", fact.subject, rng.choice(_WORDINGS[fact.kind]).format(fact.subject, fact.value)), fact)
        for number, fact in enumerate(facts, start=1)
    ]


def _names(rng: random.Random, parts: tuple[list[str], list[str]], count: int) -> list[str]:
    return rng.sample([head + tail for head in parts[0] for tail in parts[1]], count)
