"""The row type that everything shares.

Example row (the format users bring):

    {"question": "What is 12 + 30 * 2?", "answer": "72", "source": "gsm8k"}
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from data.catalogue import source_domains
from data.code_tests import entry_point_of, tests_of
from data.domains import DOMAINS, Domain, domain_row

__all__ = ["DOMAINS", "SPAN_SEPARATOR", "DataError", "Domain", "Problem", "ProblemView"]

# Between the spans of an answer that has several.
SPAN_SEPARATOR = " | "


class DataError(ValueError):
    """A source, a file or a row that cannot be used; the message says which and why."""


@dataclass(frozen=True)
class ProblemView:
    """The part of a problem that the policy, the workflow and the executor may see.

    It has no `answer` and no hidden `tests`, so nothing that takes a `ProblemView` can leak them.
    """

    question: str
    domain: Domain
    context: str | None = None
    entry_point: str | None = None
    public_tests: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The problem as a workflow receives it: the context, if any, then the question."""
        if self.context:
            return f"Context:\n{self.context}\n\nQuestion: {self.question}"
        return self.question


@dataclass(frozen=True)
class Problem:
    """One problem with its gold answer.

    Args:
        question (`str`): the task. For code: what to write, with the signature when there is one.
        answer (`str`): gold answer (math, qa) or reference solution (code, may be empty). Only graders see it. Several
            spans that must all be given (DROP) are separated by `" | "`.
        aliases (`tuple[str, ...]`): other gold answers, each as good as the first. Only graders see them.
        source (`str`): where the row is from, e.g. `"gsm8k"`.
        domain (`str`): a name in `data.domains.DOMAINS`, e.g. `"math"`.
        id (`str`): stable identifier, unique within a source.
        context (`str`, *optional*): passage that the question is about.
        entry_point (`str`, *optional*): name of the function to write.
        public_tests (`tuple[str, ...]`): Python snippets (usually one `assert`) that the Test operator may run.
        tests (`tuple[str, ...]`): hidden Python snippets in the same form. Only graders see them. A test is run with
            `candidate` bound to the entry point; it fails when it raises. See `data/code_tests.py`.
    """

    question: str
    answer: str
    source: str
    domain: Domain
    id: str
    context: str | None = None
    entry_point: str | None = None
    public_tests: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def golds(self) -> tuple[str, ...]:
        """Every gold answer."""
        return (self.answer, *self.aliases)

    @property
    def view(self) -> ProblemView:
        """The part without answer and hidden tests."""
        return ProblemView(self.question, self.domain, self.context, self.entry_point, self.public_tests)

    def to_row(self) -> dict[str, Any]:
        """Return the JSON form; `Problem.from_row` reads it back."""
        row = asdict(self)
        for name in ("public_tests", "tests", "aliases"):
            row[name] = list(row[name])
        if not self.extra:
            del row["extra"]
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Problem":
        """Check and complete one row.

        Args:
            row (`Mapping[str, Any]`): at least `question`, `answer` and `source`; other fields as in this class. A list
                of answers means that each is right. Tests may have any form of `data/code_tests.py`.

        Raises:
            ValueError: a field is missing, empty or of the wrong type, or the domain cannot be told from the source.
        """
        question, source = _text(row, "question"), _text(row, "source")
        answer, *aliases = _answers(row)
        tests = tests_of(row)
        entry_point = _optional_text(row, "entry_point") or _function_name(row.get("tests")) or entry_point_of(tests)
        return cls(
            question=question,
            answer=answer,
            source=source,
            domain=_domain(row.get("domain"), source),
            id=str(row.get("id") or _digest(question, str(row.get("context") or ""))),
            context=_optional_text(row, "context"),
            entry_point=entry_point,
            public_tests=_texts(row, "public_tests"),
            tests=tests,
            aliases=(*aliases, *_texts(row, "aliases")),
            extra=_object(row, "extra"),
        )


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key} must be non-empty text, not {value!r}")
    return value


def _optional_text(row: Mapping[str, Any], key: str) -> str | None:
    value = row.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ValueError(f"{key} must be text, not {value!r}")
    return value


def _function_name(tests: Any) -> str | None:
    """APPS names the function among its tests."""
    name = tests.get("fn_name") if isinstance(tests, Mapping) else None
    return name if isinstance(name, str) and name else None


def _answers(row: Mapping[str, Any]) -> list[str]:
    answer = row.get("answer")
    answers = answer if isinstance(answer, (list, tuple)) and answer else [answer]
    for item in answers:
        if isinstance(item, bool) or not isinstance(item, (str, int, float)):
            raise ValueError(f"answer must be text or a number, or a list of them, not {answer!r}")
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError(f"answer must be text or a finite number, not {item}")
    return list(dict.fromkeys(str(item) for item in answers))


def _texts(row: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = row.get(key)
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{key} must be a list of texts, not {value!r}")
    return tuple(value)


def _object(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = row.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{key} must be an object, not {value!r}"[:200])
    return value


def _domain(value: Any, source: str) -> Domain:
    if value is None or value == "":
        known = source_domains()
        value = known.get(source.lower())
        if value is None:
            raise ValueError(
                f'source {source!r} has no known domain: add "domain", or use one of {", ".join(sorted(known))}'
            )
    return domain_row(str(value)).name


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]
