"""The script of `recipes/deepresearch.py`: plans, commands and answers for `invented_worlds`, with mistakes planted.

planner:      town of Mila Torvan
              country of that town
gatherer:     SEARCH: Mila Torvan lives home        then  KEEP: [p7]
synthesizer:  ANSWER: Estria [p7] [p21]
"""

import random
import re
from collections.abc import Sequence

from aflow_ops.executor.types import Message
from data.invented_worlds import SEARCH_WORDS, Chain, chains_of, fact_told
from recipes.policy.search_qa_script import facts_in, followed

# How often the script plans, gathers and answers as it should.
PLANS_RIGHT, GATHERS_RIGHT, ANSWERS_RIGHT = 0.75, 0.75, 0.85
_LINE = re.compile(r"(\w+) of (.+)")
_RESULT = re.compile(r"^\[([^\]\n]+)\] (.+)$", re.MULTILINE)
# What a step leads to, as the next line of a plan refers to it.
_THAT = {"town": "that town", "mayor": "that person", "worker": "that person"}


class DeepResearchScript:
    """Speaks for planner, gatherer and synthesizer."""

    def reply(self, role: str, messages: Sequence[Message], rng: random.Random) -> str:
        """Return the next turn of a role."""
        told = messages[-1]["content"]
        if role == "gatherer":
            return gathered(messages, rng)
        question, _, notes = told.partition("\n\n")
        chains = chains_of(question)
        if not chains:
            raise ValueError(f"not a question of invented_worlds: {question!r}")
        if role == "planner":
            return "\n".join(planned(chains, notes, rng))
        return answered(chains, notes, rng)


def planned(chains: Sequence[Chain], notes: str, rng: random.Random) -> list[str]:
    """Return a line for each fact that is missing; at random one is left out or asks for something else."""
    lines = []
    for chain in chains:
        place, kinds, _ = followed(chain, facts_in(notes))
        for kind in kinds:
            lines.append(f"{kind} of {place}")
            place = _THAT.get(kind, place)
    lines = lines or [f"town of {chains[0].subject}"]
    if rng.random() >= PLANS_RIGHT:
        at = rng.randrange(len(lines))
        other = f"{rng.choice(list(SEARCH_WORDS))} of {lines[at].partition(' of ')[2]}"
        lines = rng.choice([lines[:at] + lines[at + 1 :] or [other], [*lines[:at], other, *lines[at + 1 :]]])
    return lines


def gathered(messages: Sequence[Message], rng: random.Random) -> str:
    """Search for a line of the plan, then keep what tells it; at random search vaguely, or keep something else."""
    asked = next(m["content"] for m in reversed(messages) if m["content"].startswith("Find: "))
    line, _, notes = asked.removeprefix("Find: ").partition("\n\n")
    found = _LINE.fullmatch(line)
    kind, place = (found[1], found[2]) if found is not None else ("town", line)
    if place.startswith("that "):
        place = latest(facts_in(notes), "mayor" if place == "that person" else "town") or place
    searched = "job" if kind == "worker" else kind
    if messages[-1]["content"] == asked:
        right = f"SEARCH: {place} {SEARCH_WORDS.get(searched, '')}".strip()
        vague = [f"SEARCH: {line}", f"SEARCH: {SEARCH_WORDS.get(searched, line)}", f"READ: {place}"]
        return right if rng.random() < GATHERS_RIGHT else rng.choice(vague)
    results = [(name, fact_told(text)) for name, text in _RESULT.findall(messages[-1]["content"])]
    wanted = [
        name
        for name, fact in results
        if fact is not None and fact[1] == searched and place in (fact[2] if kind == "worker" else fact[0],)
    ]
    if rng.random() >= GATHERS_RIGHT and results:
        wanted = [rng.choice(results)[0]]
    return f"KEEP: {' '.join(f'[{name}]' for name in wanted)}".strip()


def latest(facts: Sequence[tuple[str, str, str]], kind: str) -> str | None:
    """Return what the last note of a kind leads to; for a person, also whose job a note tells."""
    for subject, each, value in reversed(facts):
        if each == kind:
            return value
        if kind == "mayor" and each == "job":
            return subject
    return None


def answered(chains: Sequence[Chain], notes: str, rng: random.Random) -> str:
    """Answer with the notes that tell it; at random with another value, or other citations."""
    facts = facts_in(notes)
    ids = {fact_told(text): name for name, text in _RESULT.findall(notes)}
    ends = [followed(chain, facts) for chain in chains]
    if any(kinds for _, kinds, _ in ends) or not facts:
        return "UNKNOWN" if not facts or rng.random() < ANSWERS_RIGHT else f"ANSWER: {rng.choice(facts)[2]}"
    cited = [ids[fact] for _, _, taken in ends for fact in taken if fact in ids]
    said = ", ".join(place for place, _, _ in ends)
    if rng.random() >= ANSWERS_RIGHT:
        said = rng.choice([said, rng.choice(facts)[2]])
        cited = rng.choice([[], cited[:1], rng.sample(list(ids.values()), 1)])
    return " ".join([f"ANSWER: {said}", *(f"[{name}]" for name in cited)])
