"""SQuAD 2.0 (https://arxiv.org/abs/1806.03822): spans of a passage, or no answer at all.

Example row of the Hub's `rajpurkar/squad_v2`:

    {"id": "56ddde6b9a695914005b9628", "title": "Normans", "context": "The Normans (Norman: Nourmands; ...",
     "question": "In what country is Normandy located?",
     "answers": {"text": ["France", "France"], "answer_start": [159, 159]}}

Every annotator's text is right. A question without any has the empty gold answer: only an answer that says that the
passage does not tell is right.
"""

from data.benchmarks.row import Row, column, text, texts


def problem_row(row: Row) -> Row:
    """Return the row as a `Problem` row.

    Raises:
        ValueError: a column is missing or of another type.
    """
    answers = texts(column(row, "answers"), "text")
    return {
        "id": str(column(row, "id")),
        "question": text(row, "question").strip(),
        "answer": list(dict.fromkeys(answers)) or "",
        "context": text(row, "context").strip(),
    }
