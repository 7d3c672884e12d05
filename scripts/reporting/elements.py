"""What a section of the page is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data.problem import DOMAINS
from scripts.reporting.charts import Figure
from scripts.reporting.counters import OTHER
from scripts.reporting.formatting import shown
from scripts.reporting.reading import number
from scripts.reporting.rows import WorkflowCount
from scripts.reporting.trace_graph import TraceView

STYLES = 5  # of lines and bars in style.css, s1 to s5


def domain_style(name: str) -> str:
    """Return the class of `style.css` for a domain; `"s0"` for anything else."""
    names = [*DOMAINS, OTHER]
    return f"s{names.index(name) % STYLES + 1}" if name in names else "s0"


@dataclass(frozen=True)
class Cell:
    """A table's cell.

    Args:
        text (`str`): what is shown.
        key (`float` or `str`, *optional*): what it is sorted by; the text by default.
        style (`str`): class of `style.css`.
    """

    text: str
    key: float | str | None = None
    style: str = ""


@dataclass(frozen=True)
class Table:
    """A table with its heading; `columns` are headings; a `tall` one scrolls inside its own frame."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    sortable: bool = False
    tall: bool = False


@dataclass(frozen=True)
class WorkflowView:
    """One of the best or worst workflows of a domain: how it did, its text, and what one of its runs was like."""

    verdict: str
    domain: str
    count: WorkflowCount
    code: str
    about: str
    trace: TraceView | None


@dataclass(frozen=True)
class Section:
    """A part of the page: its anchor, its heading, a sentence under it, and its content."""

    id: str
    title: str
    note: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    workflows: Sequence[WorkflowView] = ()


def number_cell(value: Any, form: str = "") -> Cell:
    """Return a cell with a number as `shown` writes it."""
    return Cell(shown(value, form), number(value), "number")
