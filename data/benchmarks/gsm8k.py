"""GSM8K (https://arxiv.org/abs/2110.14168): grade-school word problems with a worked solution.

Example row of the Hub's `openai/gsm8k`:

    {"question": "Natalia sold clips to 48 of her friends in April, and then ...",
     "answer": "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\\n...\\n#### 72"}

The gold answer is what follows `####`, as the dataset's own `extract_answer` reads it, without thousands separators.
"""

from data.benchmarks.row import Row, text


def problem_row(row: Row) -> Row:
    """Return the row as a `Problem` row.

    Raises:
        ValueError: a column is missing, or the solution has no `####` line.
    """
    question, solution = text(row, "question"), text(row, "answer")
    _, mark, answer = solution.rpartition("####")
    if not mark or not answer.strip():
        raise ValueError(f"answer has no '#### n' line: {solution[-60:]!r}")
    return {"question": question.strip(), "answer": answer.strip().replace(",", "")}
