"""Questions about invented facts, to be answered from a short passage.

Example row (two hops: the person's town, then the town's country):

    {"context": "Mila Torvan lives in Quorby. Quorby lies in Estria. Jonas Hale lives in Tamsel. ...",
     "question": "In which country does Mila Torvan live?", "answer": "Estria", "source": "invented_facts"}

Nothing in a passage is true, so nothing can be known without reading it. Passages also tell of other people and towns,
often the same kind of thing.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from data.problem import Problem

FIRST_NAMES = ["Mila", "Jonas", "Tessa", "Ravi", "Nadia", "Oscar", "Lena", "Hugo", "Ines", "Pavel", "Greta", "Amir"]
LAST_PARTS = (["Tor", "Hal", "Ber", "Kos", "Mar", "Vel", "Dun", "Fal"], ["van", "den", "ski", "ley", "mond", "rin"])
TOWN_PARTS = (["Quor", "Tam", "Bel", "Zan", "Fir", "Old", "Nor", "Wes", "Kil", "Ash"], ["by", "sel", "ford", "ona"])
COUNTRY_PARTS = (["Est", "Mor", "Val", "Cal", "Dor", "Lum"], ["ria", "avia", "onia", "land"])
JOBS = ["baker", "pilot", "teacher", "painter", "farmer", "doctor", "lawyer", "singer", "miner", "tailor"]
ANIMALS = ["parrot", "goat", "rabbit", "turtle", "ferret", "horse", "hamster", "dog", "cat", "duck"]
COLOURS = ["red", "blue", "green", "yellow", "purple", "orange", "white", "black"]
GOODS = ["cheese", "glass", "honey", "carpets", "clocks", "pottery", "salt", "boats"]


@dataclass(frozen=True)
class _Person:
    name: str
    town: str
    job: str
    animal: str
    colour: str


@dataclass(frozen=True)
class _Town:
    name: str
    country: str
    goods: str
    mayor: str


_PERSON_FACTS: tuple[Callable[[_Person], tuple[str, ...]], ...] = (
    lambda p: (f"{p.name} lives in {p.town}.", f"The home of {p.name} is in {p.town}."),
    lambda p: (f"{p.name} works as a {p.job}.", f"{p.name} earns a living as a {p.job}."),
    lambda p: (f"{p.name} keeps a {p.animal}.", f"{p.name} has a pet {p.animal}."),
    lambda p: (f"{p.name} drives a {p.colour} car.", f"The car of {p.name} is {p.colour}."),
)
_TOWN_FACTS: tuple[Callable[[_Town], tuple[str, ...]], ...] = (
    lambda t: (f"{t.name} is a town in {t.country}.", f"The town of {t.name} lies in {t.country}."),
    lambda t: (f"{t.name} is known for its {t.goods}.", f"People visit {t.name} for its {t.goods}."),
    lambda t: (f"The mayor of {t.name} is {t.mayor}.", f"{t.mayor} is the mayor of {t.name}."),
)
# (question, answer, facts of the person needed, facts of the person's town needed)
_ONE_HOP: tuple[Callable[[_Person], tuple[str, str, int]], ...] = (
    lambda p: (f"In which town does {p.name} live?", p.town, 0),
    lambda p: (f"What is the job of {p.name}?", p.job, 1),
    lambda p: (f"Which animal does {p.name} keep?", p.animal, 2),
    lambda p: (f"What colour is the car of {p.name}?", p.colour, 3),
)
_TWO_HOPS: tuple[Callable[[_Person, _Town], tuple[str, str, int]], ...] = (
    lambda p, t: (f"In which country does {p.name} live?", t.country, 0),
    lambda p, t: (f"What is the home town of {p.name} known for?", t.goods, 1),
    lambda p, t: (f"Who is the mayor of the town where {p.name} lives?", t.mayor, 2),
)
TWO_HOP_SHARE = 0.2
SAME_FACT_SHARE = 0.3


def invented_facts(seed: int) -> Iterator[Problem]:
    """Yield context questions of one and two hops, without end."""
    rng = random.Random(f"invented_facts {seed}")
    while True:
        towns, people = _world(rng)
        person = people[0]
        town = next(town for town in towns if town.name == person.town)
        if rng.random() < TWO_HOP_SHARE:
            question, answer, fact = rng.choice(_TWO_HOPS)(person, town)
            facts = [_PERSON_FACTS[0](person), _TOWN_FACTS[fact](town)]
            distractors = [_PERSON_FACTS[0](people[1]), *(_TOWN_FACTS[fact](other) for other in towns[1:])]
        else:
            question, answer, fact = rng.choice(_ONE_HOP)(person)
            facts = [_PERSON_FACTS[fact](person)]
            other_facts = [other for other in _PERSON_FACTS if other is not _PERSON_FACTS[fact]]
            distractors = [rng.choice(other_facts)(person), rng.choice(_TOWN_FACTS)(towns[1])]
            # The same kind of fact about somebody else is the hard distractor.
            kinds = _PERSON_FACTS[fact : fact + 1] if rng.random() < SAME_FACT_SHARE else other_facts
            distractors.append(rng.choice(kinds)(people[1]))
        sentences = [rng.choice(options) for options in facts + distractors]
        rng.shuffle(sentences)
        row = {"question": question, "answer": answer, "context": " ".join(sentences), "source": "invented_facts"}
        yield Problem.from_row(row)


def _world(rng: random.Random) -> tuple[list[_Town], list[_Person]]:
    """Two towns and three people; the first person lives in the first town, the second in the second."""
    town_names = _distinct(rng, TOWN_PARTS, 2)
    countries = _distinct(rng, COUNTRY_PARTS, 2)
    last_names = _distinct(rng, LAST_PARTS, 5)
    names = [f"{first} {last}" for first, last in zip(rng.sample(FIRST_NAMES, 5), last_names, strict=True)]
    goods = rng.sample(GOODS, 2)
    towns = [_Town(town_names[i], countries[i], goods[i], names[3 + i]) for i in range(2)]
    jobs, animals, colours = rng.sample(JOBS, 3), rng.sample(ANIMALS, 3), rng.sample(COLOURS, 3)
    people = [_Person(names[i], town_names[i % 2], jobs[i], animals[i], colours[i]) for i in range(3)]
    return towns, people


def _distinct(rng: random.Random, parts: tuple[list[str], list[str]], count: int) -> list[str]:
    names = [head + tail for head in parts[0] for tail in parts[1]]
    return rng.sample(names, count)
