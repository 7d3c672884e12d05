"""AIME 2024: thirty competition problems whose answers are integers from 0 to 999.

Example row of the Hub's `HuggingFaceH4/aime_2024`:

    {"id": 60, "problem": "Every morning Aya goes for a $9$-kilometer-long walk ...", "solution": "...",
     "answer": "204", "url": "https://artofproblemsolving.com/wiki/...", "year": "2024"}

An answer may be written with leading zeros, as on the answer sheet.
"""

from data.benchmarks.row import Row, column, text


def problem_row(row: Row) -> Row:
    """Return the row as a `Problem` row.

    Raises:
        ValueError: a column is missing, or the answer is no integer from 0 to 999.
    """
    answer = str(column(row, "answer", "Answer")).strip()
    if not answer.isdecimal() or int(answer) > 999:
        raise ValueError(f"an AIME answer is an integer from 0 to 999, not {answer!r}")
    problem = text(row, "problem", "Problem").strip()
    return {"id": str(column(row, "id", "ID")), "question": problem, "answer": str(int(answer))}
