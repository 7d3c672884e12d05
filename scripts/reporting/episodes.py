"""Episodes of a team as swim lanes: a column an agent, a row a turn."""

from collections.abc import Mapping, Sequence

from scripts.reporting.elements import Cell, Section, Table
from scripts.reporting.formatting import amount
from scripts.reporting.reading import Row, number, one_line, text
from scripts.reporting.rows import RowsReader

SHOWN_EPISODES = 4
SHOWN_CHARS = 400


def episodes_section(reader: RowsReader) -> Section:
    """Show some of a reader's episodes, those after the training where there are any; nothing of other rows."""
    rows = [row for row in reader.sample(reader.rows) if _turns(row)]
    after = [row for row in rows if row.get("phase") == "after"] or rows
    tables = [_lanes(row) for row in after[:SHOWN_EPISODES]]
    note = (
        f"Episodes drawn from {reader.path.name}. Each agent has a column; what it was told stands above what it said."
    )
    return Section("episodes", "Episodes", note, tables=tables)


def _turns(row: Row) -> list[tuple[str, str, str]]:
    """The turns of an episode: agent, what it was told, what it said."""
    found = row.get("dialogue")
    if not isinstance(found, Sequence) or isinstance(found, str):
        return []
    return [tuple(map(str, turn)) for turn in found if isinstance(turn, Sequence) and len(turn) == 3]  # type: ignore[misc]


def _lanes(row: Row) -> Table:
    turns = _turns(row)
    agents = list(dict.fromkeys(agent for agent, _, _ in turns))
    lines = []
    for at, (agent, heard, said) in enumerate(turns, start=1):
        words = Cell(f"told: {text(heard[-SHOWN_CHARS:], SHOWN_CHARS)}\n\n{text(said, SHOWN_CHARS)}", style="wide code")
        lines.append([Cell(str(at), float(at)), *(words if name == agent else Cell("") for name in agents)])
    own: Mapping[str, object] = row["metrics"] if isinstance(row.get("metrics"), Mapping) else {}
    metrics = ", ".join(f"{name} {amount(number(value))}" for name, value in own.items())
    caption = f"reward {amount(number(row.get('reward')))}, answer {one_line(row.get('answer'), 80)}; {metrics}"
    return Table(one_line(row.get("question"), 160), ("turn", *agents), lines, caption)
