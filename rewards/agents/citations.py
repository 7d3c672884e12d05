"""Citations: whether the passages that an answer names are there, were read, and bear it out.

"He lives in Estria [p3][p7]."   cites p3 and p7
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from data.passages import Passage, says
from rewards.agents.retrieval import coverage
from rewards.graders.qa_metrics import normalized

# An answer that cites more than this cites at random.
MAX_CITATIONS = 20
_CITED = re.compile(r"\[([^\[\]\n]{1,120})\]")


@dataclass(frozen=True)
class Support:
    """How well an answer's citations bear it out.

    Args:
        cited (`tuple[str, ...]`): ids that it names, each once.
        known (`float`): share of these that an agent had really seen; 0 without citations.
        needed (`float`): share of the needed passages that are cited.
        stated (`bool`): a cited passage that was seen says the answer, in these words.
    """

    cited: tuple[str, ...]
    known: float
    needed: float
    stated: bool

    @property
    def score(self) -> float:
        """The F1 of citing what is needed, 0 to 1; half of it where no cited passage says the answer."""
        total = self.known + self.needed
        f1 = 2 * self.known * self.needed / total if total else 0.0
        return f1 if self.stated else f1 / 2


def citations(text: str) -> tuple[str, ...]:
    """Return the ids that a text cites in square brackets, each once, in order: `[p3]`, `[p3, p7]`.

    Args:
        text (`str`): an answer; ids beyond `MAX_CITATIONS` are left out.
    """
    found = [part.strip() for inside in _CITED.findall(text[:20_000]) for part in inside.split(",")]
    return tuple(dict.fromkeys(name for name in found if name))[:MAX_CITATIONS]


def without_citations(text: str) -> str:
    """Return a text without what it cites."""
    return re.sub(r"\s+([.,;!?])", r"\1", " ".join(_CITED.sub(" ", text).split()))


def support(text: str, spans: Collection[str], seen: Mapping[str, Passage], needed: Collection[str]) -> Support:
    """Judge an answer's citations.

    Args:
        text (`str`): the answer with its citations.
        spans (`Collection[str]`): what a passage must say to bear it out, such as the parts of the gold answer; one of
            them is enough.
        seen (`Mapping[str, Passage]`): passages that agents were shown, by id: nobody is paid for a passage that
            nobody read.
        needed (`Collection[str]`): ids that the answer rests on.
    """
    cited = citations(text)
    real = [seen[name] for name in cited if name in seen]
    wanted = [normalized(span) for span in spans if normalized(span)]
    stated = any(says(normalized(f"{passage.title} {passage.text}"), span) for passage in real for span in wanted)
    # What is cited beyond the needed passages counts against the answer, else it would pay to cite everything.
    right = frozenset(passage.id for passage in real) & frozenset(needed)
    known = len(right) / len(cited) if cited else 0.0
    return Support(cited, known, coverage(right, needed), stated)
