"""DROP (https://arxiv.org/abs/1903.00161): reading with counting, sorting and arithmetic.

Example row of the Hub's `ucinlp/drop`:

    {"section_id": "nfl_1184", "query_id": "f37e81fa-...", "passage": "To start the season, the Lions traveled ...",
     "question": "How many points did the buccaneers need to tie in the first?",
     "answers_spans": {"spans": ["3"], "types": ["number"]}}

In the training split the spans are the parts of one answer. In the validation split each is what one annotator
answered, so every one is right by itself: that is how the Hub's builder flattens `answer` and `validated_answers`.
"""

from data.benchmarks.row import Row, column, text, texts
from data.problem import SPAN_SEPARATOR


def train_row(row: Row) -> Row:
    """Return a row of the training split as a `Problem` row: all spans are one answer.

    Raises:
        ValueError: a column is missing, or there is no answer.
    """
    return _row(row, [SPAN_SEPARATOR.join(_spans(row))])


def problem_row(row: Row) -> Row:
    """Return a row of another split as a `Problem` row: every span is an answer.

    Raises:
        ValueError: a column is missing, or there is no answer.
    """
    return _row(row, _spans(row))


def _row(row: Row, answers: list[str]) -> Row:
    return {
        "id": str(column(row, "query_id", "id")),
        "question": text(row, "question").strip(),
        "answer": answers,
        "context": text(row, "passage", "context").strip(),
    }


def _spans(row: Row) -> list[str]:
    answers = column(row, "answers_spans", "answers")
    spans = [span.strip() for span in texts(answers, "spans", "text")]
    spans = list(dict.fromkeys(span for span in spans if span))
    if not spans:
        raise ValueError("answers_spans has no span")
    return spans
