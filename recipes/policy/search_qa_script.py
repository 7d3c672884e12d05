"""The script of `recipes/search_qa.py`: queries, choices and answers for `invented_worlds`, with mistakes planted.

query_optimizer:     Mila Torvan lives home
document_retriever:  [p7]
answer_extractor:    UNKNOWN
query_optimizer:     Quorby town lies
document_retriever:  [p21]
answer_extractor:    ANSWER: Estria
"""

import random
import re
from collections.abc import Sequence

from aflow_ops.executor.types import Message
from data.invented_worlds import SEARCH_WORDS, Chain, chains_of, fact_told

# How often the script searches, chooses and answers as it should.
SEARCHES_RIGHT, CHOOSES_RIGHT, ANSWERS_RIGHT = 0.75, 0.75, 0.85
_RESULT = re.compile(r"^\[([^\]\n]+)\] (.+)$", re.MULTILINE)

Told = tuple[str, str, str]


class SearchQAScript:
    """Speaks for query_optimizer, document_retriever and answer_extractor."""

    def reply(self, role: str, messages: Sequence[Message], rng: random.Random) -> str:
        """Return the next turn of a role."""
        told = messages[-1]["content"]
        question, _, rest = told.partition("\n\n")
        chains = chains_of(question)
        if not chains:
            raise ValueError(f"not a question of invented_worlds: {question!r}")
        if role == "query_optimizer":
            return "\n".join(queries(question, chains, facts_in(rest), rng))
        if role == "document_retriever":
            return choice(chains, rest, rng)
        return answer(chains, facts_in(rest), rng)


def facts_in(text: str) -> list[Told]:
    """Return what the lines of a text tell, an id before them left out."""
    sentences = [line.partition("] ")[2] if line.startswith("[") else line for line in text.split("\n")]
    return [fact for fact in map(fact_told, sentences) if fact is not None]


def followed(chain: Chain, facts: Sequence[Told]) -> tuple[str, list[str], list[Told]]:
    """Return where a chain leads by some facts, the kinds of facts that are missing, and the facts it took."""
    place, kinds, taken = chain.subject, list(chain.kinds), []
    while kinds:
        by_value = kinds[0] == "worker"
        step = ("job", place) if by_value else (place, kinds[0])
        found = [fact for fact in facts if (fact[1:] if by_value else fact[:2]) == step]
        if not found:
            break
        taken.append(found[0])
        place, kinds = found[0][0 if by_value else 2], kinds[1:]
    return place, kinds, taken


def queries(question: str, chains: Sequence[Chain], facts: Sequence[Told], rng: random.Random) -> list[str]:
    """Return a query for each thing that is missing; at random a vague one, or one for the wrong kind of fact."""
    made = []
    for place, kinds, _ in (followed(chain, facts) for chain in chains):
        kind = {"worker": "job"}.get(kinds[0], kinds[0]) if kinds else "town"
        right = f"{place} {SEARCH_WORDS[kind]}"
        wrong = [f"{place} {SEARCH_WORDS[rng.choice(list(SEARCH_WORDS))]}", place, SEARCH_WORDS[kind]]
        made.append(right if rng.random() < SEARCHES_RIGHT else rng.choice(wrong))
    return made


def choice(chains: Sequence[Chain], told: str, rng: random.Random) -> str:
    """Return the ids of the results that lead on; at random all of them, the first, or another one."""
    known, _, shown = told.partition("Found:\n")
    results = [(name, fact_told(text)) for name, text in _RESULT.findall(shown)]
    facts = [*facts_in(known), *(fact for _, fact in results if fact is not None)]
    taken = [fact for chain in chains for fact in followed(chain, facts)[2]]
    names = [name for name, _ in results]
    wanted = [name for name, fact in results if fact in taken]
    if rng.random() >= CHOOSES_RIGHT:
        wanted = rng.choice([names, names[:1], rng.sample(names, 1)])
    return " ".join(f"[{name}]" for name in wanted) or "[]"


def answer(chains: Sequence[Chain], facts: Sequence[Told], rng: random.Random) -> str:
    """Return the answer when it is known; at random another value, or the wrong thing of the two."""
    ends = [followed(chain, facts) for chain in chains]
    known = all(not kinds for _, kinds, _ in ends)
    values = [value for _, _, value in facts]
    if rng.random() < ANSWERS_RIGHT or not values:
        return f"ANSWER: {', '.join(place for place, _, _ in ends)}" if known else "UNKNOWN"
    return "UNKNOWN" if known and rng.random() < 0.5 else f"ANSWER: {rng.choice(values)}"
