"""Passages that can be searched, and where they come from.

Example line of a corpus, as Search-R1's and FlashRAG's are (https://github.com/PeterGriffinJin/Search-R1):

    {"id": "0", "contents": "\\"Ferns\\"\\nFerns reproduce with spores, not seeds."}

or with a title of its own: `{"id": "0", "title": "Ferns", "text": "Ferns reproduce with spores, not seeds."}`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.files import unreadable
from data.problem import DataError, Problem
from data.raw_files import SUFFIXES, iter_raw_rows

DOCUMENT_SUFFIXES = (".md", ".markdown", ".txt", ".rst")
# A file that is longer is no text that somebody wrote to be read.
MAX_DOCUMENT_BYTES = 8 << 20
# Of a passage that a document is cut into; a paragraph is never cut.
PASSAGE_CHARS = 800
# The name of what a question needs that does not say what it needs.
STATED = "the answer"
_PARAGRAPHS = re.compile(r"\n[ \t]*\n")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_TITLE = re.compile(r"([^\n:.!?]{1,80}): ")


@dataclass(frozen=True)
class Passage:
    """A short text that a search can find.

    Args:
        id (`str`): unique in its corpus; what an agent cites.
        title (`str`): what it is about, may be empty.
        text (`str`): itself.
        score (`float`): how well it fits the query that found it; 0 in a corpus.
    """

    id: str
    title: str
    text: str
    score: float = 0.0

    def to_row(self) -> dict[str, str]:
        """Return the JSON form."""
        return {"id": self.id, "title": self.title, "text": self.text}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], number: int) -> "Passage":
        """Read one row of a corpus.

        Args:
            row (`Mapping`): with `text`, `contents` or `content`; `id` and `title` where it has them.
            number (`int`): its position, which is its id where it has none.

        Raises:
            ValueError: it has no text.
        """
        text = next((row[key] for key in ("text", "contents", "content") if isinstance(row.get(key), str)), "")
        if not text.strip():
            raise ValueError(f"a passage needs text or contents; this one has {', '.join(map(str, row)) or 'nothing'}")
        title = str(row.get("title") or "")
        first, _, rest = text.partition("\n")
        if not title and rest.strip():  # the title is the first line of `contents`, in quotes
            title, text = first.strip().strip('"'), rest
        name = row.get("id")
        return cls(str(number if name is None else name), title.strip(), text.strip())


def read_corpus(path: Path) -> list[Passage]:
    """Read passages from a file of rows, or from a folder of text and Markdown files.

    Args:
        path (`Path`): `.jsonl`, `.json`, `.parquet` or gzipped JSON; or a folder.

    Raises:
        DataError: it is missing, empty or malformed, or two passages have one id; names the place.
    """
    if path.is_dir():
        return [passage for document in read_documents(path) for passage in cut(document)]
    if not path.name.endswith(SUFFIXES):
        raise DataError(f"{path}: a corpus is a folder of {', '.join(DOCUMENT_SUFFIXES)} or ends in {SUFFIXES[1]}")
    passages: dict[str, Passage] = {}
    for number, row in iter_raw_rows(path):
        try:
            if isinstance(row, ValueError):
                raise row
            passage = Passage.from_row(row, number)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}") from None
        if passages.setdefault(passage.id, passage) is not passage:
            raise DataError(f"{path}, line {number}: another passage has the id {passage.id!r}")
    if not passages:
        raise DataError(f"{path}: no passages")
    return list(passages.values())


def read_documents(folder: Path) -> list[Passage]:
    """Read every text and Markdown file of a folder whole, in the order of their names; hidden ones are left out.

    A file's id is its path in the folder. Links are not followed: they may lead out of it.

    Raises:
        DataError: there is none, or one is too long or no UTF-8; names it.
    """
    documents = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if hidden or path.is_symlink() or not path.is_file() or path.suffix.lower() not in DOCUMENT_SUFFIXES:
            continue
        try:
            if path.stat().st_size > MAX_DOCUMENT_BYTES:
                raise DataError(f"{path}: longer than {MAX_DOCUMENT_BYTES >> 20} MB; cut it, or move it elsewhere")
            text = path.read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise unreadable(path, error) from None
        if text:
            documents.append(Passage(name.as_posix(), _heading(text) or path.stem, text))
    if not documents:
        raise DataError(f"{folder}: no file that ends in {', '.join(DOCUMENT_SUFFIXES)} and has text")
    return documents


def _heading(text: str) -> str:
    """The first Markdown heading, where the text starts with one."""
    first = text.partition("\n")[0]
    return first.lstrip("#").strip() if first.startswith("#") else ""


def cut(document: Passage, chars: int = PASSAGE_CHARS) -> list[Passage]:
    """Cut a document into passages of whole paragraphs; their ids are `document#1`, `document#2`, ...

    Args:
        document (`Passage`): whole.
        chars (`int`): a passage ends before the paragraph that would make it longer.
    """
    pieces: list[str] = []
    for paragraph in filter(str.strip, _PARAGRAPHS.split(document.text)):
        joined = f"{pieces[-1]}\n\n{paragraph}" if pieces else paragraph
        if pieces and len(joined) <= chars:
            pieces[-1] = joined
        else:
            pieces.append(paragraph)
    if len(pieces) == 1:
        return [document]
    return [Passage(f"{document.id}#{n}", document.title, text.strip()) for n, text in enumerate(pieces, start=1)]


def passages_of(problem: Problem) -> list[Passage]:
    """Return the passages that a problem brings along: those of `extra`, else what its context consists of.

    A context of paragraphs (HotpotQA's) is cut into these, their titles before a colon; one of a single paragraph
    (`invented_facts`) into sentences.

    Raises:
        DataError: it has none, or `extra.passages` is no list of passages.
    """
    rows = problem.extra.get("passages")
    if rows is not None:
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError(f"problem {problem.id}: extra.passages must be a list of objects")
        try:
            found = [Passage.from_row(row, number) for number, row in enumerate(rows)]
        except ValueError as error:
            raise DataError(f"problem {problem.id}: extra.passages: {error}") from None
    else:
        found = list(_context_passages(problem.context or ""))
    if not found:
        raise DataError(
            f"problem {problem.id} of {problem.source!r} brings no passages: name a corpus to search in, --corpus PATH"
        )
    return found


def _context_passages(context: str) -> Iterator[Passage]:
    paragraphs = [part.strip() for part in _PARAGRAPHS.split(context) if part.strip()]
    if len(paragraphs) == 1:
        for number, sentence in enumerate(_SENTENCE_END.split(context.strip()), start=1):
            yield Passage(str(number), "", sentence)
        return
    for number, paragraph in enumerate(paragraphs, start=1):
        title = _TITLE.match(paragraph)
        name, text = (title[1].strip(), paragraph[title.end() :]) if title else ("", paragraph)
        yield Passage(str(number), name, text.strip() or paragraph)


@dataclass(frozen=True)
class Needed:
    """What an answer rests on, so that passages of any corpus can be told apart. Only rewards may ask.

    Args:
        names (`frozenset[str]`): ids or titles of what is needed; of a question that does not say, one name for any
            passage that states the answer.
        golds (`tuple[str, ...]`): the gold answers, where it does not say.
    """

    names: frozenset[str]
    golds: tuple[str, ...] = ()

    @classmethod
    def by(cls, problem: Problem) -> "Needed":
        """Return what a problem needs: what `extra.facts` names, else a passage that states the answer."""
        facts = problem.extra.get("facts")
        if isinstance(facts, list) and facts:
            return cls(frozenset(map(str, facts)))
        return cls(frozenset({STATED}), tuple(gold.strip().lower() for gold in problem.golds if gold.strip()))

    def key(self, passage: Passage) -> str:
        """Return the name that a passage answers to: that of what is needed, else one that is not needed."""
        if self.golds:
            return STATED if any(says(passage.text.lower(), gold) for gold in self.golds) else f"-{passage.id}"
        return next((name for name in (passage.id, passage.title) if name in self.names), f"-{passage.id}")


def says(text: str, words: str) -> bool:
    """Whether a text has some words, as words: "know" does not say "no".

    Example:

        >>> says("she is known for her bakery", "baker"), says("a baker, by trade", "baker")
        (False, True)
    """
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text) is not None


def union(parts: Iterable[Iterable[Passage]]) -> list[Passage]:
    """Join the passages of several problems into one corpus; equal texts once, ids numbered anew."""
    texts: dict[tuple[str, str], None] = {}
    for part in parts:
        texts.update(dict.fromkeys((passage.title, passage.text) for passage in part))
    return [Passage(str(number), title, text) for number, (title, text) in enumerate(texts, start=1)]


def documents(passages: Iterable[Passage]) -> list[Passage]:
    """Join the passages of each title into one document whose id is the title, its lines numbered by passage."""
    titles: dict[str, list[str]] = {}
    for passage in passages:
        titles.setdefault(passage.title or passage.id, []).append(f"[{passage.id}] {passage.text}")
    return [Passage(title, "", "\n".join(lines)) for title, lines in titles.items()]
