"""MBPP (https://arxiv.org/abs/2108.07732): short Python functions, three asserts each; full and sanitized.

Example row of the Hub's `google-research-datasets/mbpp`, configuration `full` (`sanitized` says `prompt` for `text` and
`test_imports`, a list, for `test_setup_code`):

    {"task_id": 234, "text": "Write a function to find the volume of a cube given its side length.",
     "code": "def volume_cube(l):\\r\\n  ...", "test_list": ["assert volume_cube(3) == 27", ...],
     "test_setup_code": "", "challenge_test_list": []}

All asserts are hidden tests, as the benchmark counts them. The first one is public too and stands in the question: the
text alone does not say how the function is called.
"""

from data.benchmarks.row import Row, column, text, texts


def problem_row(row: Row) -> Row:
    """Return the row as a `Problem` row.

    Raises:
        ValueError: a column is missing, or there is no test.
    """
    tests = [test.strip() for test in texts(row, "test_list") if test.strip()]
    if not tests:
        raise ValueError("test_list is empty: no solution could be graded")
    setup = str(row.get("test_setup_code") or "")
    if row.get("test_imports") is not None:
        setup = "\n".join(texts(row, "test_imports"))
    return {
        "id": str(column(row, "task_id")),
        "question": f"{text(row, 'text', 'prompt').strip()}\n\nExample: {tests[0]}",
        "answer": str(row.get("code") or "").replace("\r\n", "\n"),
        "public_tests": [f"{setup}\n{tests[0]}" if setup.strip() else tests[0]],
        "test_list": tests,
        "test_setup_code": setup,
    }
