"""Edits are applied as they are written or not at all."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_ops.agents.tools.edits import EditRefusedError, apply_edits, parse_edits
from data.planted_bugs import bug_kinds, planted_bug
from data.repository_tasks import unified_diff

FILES = {
    "shop/stock.py": "def total(items):\n    return sum(items) + 1\n\n\ndef empty():\n    return []\n",
    "shop/twice.py": "x = 1\ny = 2\nx = 1\n",
    "tests/test_stock.py": "from shop.stock import total\n",
    "shop/prices_test.py": "assert True\n",
}
HIDDEN = {"checks/hidden.py": "assert False\n"}


def block(path: str, old: str, new: str) -> str:
    return f"{path}\n<<<<<<< SEARCH\n{old}=======\n{new}>>>>>>> REPLACE\n"


GOOD = block("shop/stock.py", "    return sum(items) + 1\n", "    return sum(items)\n")
DIFF = """\
The sum is one too large.
```diff
--- a/shop/stock.py
+++ b/shop/stock.py
@@ -1,2 +1,2 @@
 def total(items):
-    return sum(items) + 1
+    return sum(items)
```
That is all.
"""


def made_as(mode: str, text: str) -> str:
    head = f"diff --git a/shop/new.py b/shop/new.py\nnew file mode {mode}\n--- /dev/null\n+++ b/shop/new.py\n"
    return f"{head}@@ -0,0 +1 @@\n+{text}\n"


def edited(answer: str) -> dict[str, str]:
    return apply_edits(FILES, parse_edits(answer), HIDDEN)


@pytest.mark.parametrize(
    "answer",
    [
        GOOD,
        f"Here:\n\n```python\n{GOOD}```\n",
        f"### {GOOD}",
        GOOD.replace("shop/stock.py\n", "shop/stock.py\n```python\n"),
        GOOD.replace("\n", "\r\n"),
        DIFF,
        DIFF.replace("@@ -1,2 +1,2 @@", "@@ -7,2 +7,2 @@ def total"),  # the lines are there once: no other can be meant
        DIFF.replace(
            "--- a/shop/stock.py", "diff --git a/shop/stock.py b/shop/stock.py\nindex 1..2 100644\n--- a/shop/stock.py"
        ),
    ],
)
def test_an_edit_is_applied_in_all_its_forms(answer: str) -> None:
    assert edited(answer) == {**FILES, "shop/stock.py": FILES["shop/stock.py"].replace(" + 1", "")}


def test_several_edits_build_on_each_other() -> None:
    second = block("shop/stock.py", "    return sum(items)\n", "    return sum(items, 0)\n")
    assert "sum(items, 0)" in edited(GOOD + second)["shop/stock.py"]
    assert edited(GOOD + second.removeprefix("shop/stock.py\n")) == edited(GOOD + second)  # the same file as before


def test_files_are_made_and_removed() -> None:
    made = block("shop/new.py", "", "y = 1\n")
    assert edited(made)["shop/new.py"] == "y = 1\n"
    removed = "--- a/shop/twice.py\n+++ /dev/null\n@@ -1,3 +0,0 @@\n-x = 1\n-y = 2\n-x = 1\n"
    assert "shop/twice.py" not in edited(removed)
    assert edited(made_as("100644", "y = 1")) == edited(made)
    assert "shop/twice.py" not in edited("diff --git a/x b/x\ndeleted file mode 100755\n" + removed)


def test_prose_may_speak_of_renaming_and_copying() -> None:
    assert edited("rename the argument, or\ncopy the list\n" + DIFF) == edited(DIFF)


def test_a_form_feed_ends_no_line_of_a_diff() -> None:
    before, after = {"a.py": "x = 1\n\x0cy = 2\n\u2028\n"}, {"a.py": "x = 3\n\x0cy = 2\n\u2028\n"}
    assert apply_edits(before, parse_edits(unified_diff(before, after))) == after


def test_a_diff_says_by_its_line_which_of_two_places_is_meant() -> None:
    diff = "--- a/shop/twice.py\n+++ b/shop/twice.py\n@@ -3,1 +3,1 @@\n-x = 1\n+x = 3\n"
    assert edited(diff)["shop/twice.py"] == "x = 1\ny = 2\nx = 3\n"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("I would change the sum.", "no edit found"),
        (block("shop/stock.py", "    return 7\n", "    return 8\n"), "does not have"),
        (block("shop/twice.py", "x = 1\n", "x = 2\n"), "has 2 times"),
        (DIFF.replace("shop/stock.py", "shop/twice.py"), "does not have"),
        (block("shop/none.py", "x\n", "y\n"), "no file"),
        (block("shop/stock.py", "", "x = 1\n"), "there already"),
        (block("shop/stock.py", "def total(items):\n", "def total(items):\n"), "change nothing"),
        (GOOD.replace("=======\n", ""), "has no end"),
        (GOOD.partition(">>>>>>>")[0], "has no end"),
        (GOOD.removeprefix("shop/stock.py\n"), "needs the file's path"),
        (block("../outside.py", "", "x\n"), "leaves the repository"),
        (block("/etc/passwd", "", "x\n"), "leaves the repository"),
        (block("shop/../../x.py", "", "x\n"), "leaves the repository"),
        (block("C:/x.py", "", "x\n"), "leaves the repository"),
        (block("shop\\..\\x.py", "", "x\n"), "no path"),
        (block(".git/hooks/pre-commit", "", "x\n"), "history"),
        (block("shop/.GIT/config", "", "x\n"), "history"),
        (block("tests/test_stock.py", "from shop.stock import total\n", "\n"), "is a test"),
        (block("shop/prices_test.py", "assert True\n", "\n"), "is a test"),
        (block("conftest.py", "", "import os\n"), "is a test"),
        (block("shop/Conftest.py", "", "import os\n"), "is a test"),
        (block("pytest.ini", "", "[pytest]\n"), "is a test"),
        (block("sitecustomize.py", "", "x\n"), "is a test"),
        (block("pytest.py", "", "x\n"), "is a test"),
        (block("evil.pth", "", "import os\n"), "is a test"),
        (block("checks/hidden.py", "", "x\n"), "is a test"),
        (DIFF.replace("+++ b/shop/stock.py", "+++ b/../stock.py"), "leaves the repository|renamed"),
        ("diff --git a/a b/b\nrename from a\nrename to b\n--- a/a\n+++ b/b\n@@ -1 +1 @@\n-x\n+y\n", "no more"),
        ("--- a/a.py\n+++ b/b.py\n@@ -1 +1 @@\n-x\n+y\n", "not renamed"),
        (made_as("120000", "/etc/passwd"), "no more"),
        (made_as("100755", "x = 1"), "no more"),
        (DIFF.replace("--- a/shop", "old mode 100644\nnew mode 100755\n--- a/shop"), "no more"),
        (GOOD + DIFF, "use one of them"),
        (DIFF + "--- a/shop/twice.py\n+++ b/shop/twice.py\n@@ def x @@\n-y = 2\n+y = 3\n", "a hunk says"),
        ("@@ -1 +1 @@\n-x\n+y\n" + DIFF, "a hunk says"),
        (block("shop/stock.py", "def empty():\n=======\n", "x\n"), "two lines of ======="),
        (block("r2e_tests/helper.py", "", "x\n"), "is a test"),
        (block("pytest/__main__.py", "", "x\n"), "is a test"),
        (block("pkg/.gitattributes", "", "* eol=crlf\n"), "is a test"),
        ("--- a/shop/twice.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-x = 1\n", "not what the diff removes"),
        (GOOD * 51, "at most 50"),
        ("x" * 200_001, "at most 200000"),
    ],
)
def test_what_is_not_clear_or_not_allowed_is_refused_with_the_reason(answer: str, reason: str) -> None:
    with pytest.raises(EditRefusedError, match=reason):
        edited(answer)


def test_one_refused_edit_refuses_all() -> None:
    with pytest.raises(EditRefusedError):
        edited(GOOD + block("tests/test_stock.py", "", "x\n"))


@given(st.text(max_size=300))
def test_no_answer_whatever_does_more_than_be_refused(text: str) -> None:
    try:
        apply_edits(FILES, parse_edits(text))
    except EditRefusedError as error:
        assert str(error)


@given(
    st.lists(st.sampled_from([*GOOD.splitlines(), *DIFF.splitlines(), "", "x = 1", "--- a/x", "+++ b/x"]), max_size=25)
)
def test_no_shuffled_edit_touches_a_test_or_leaves_the_repository(lines: list[str]) -> None:
    try:
        after = apply_edits(FILES, parse_edits("\n".join(lines)))
    except EditRefusedError:
        return
    assert set(after) <= {*FILES, "x"} and after["tests/test_stock.py"] == FILES["tests/test_stock.py"]


@pytest.mark.parametrize("text", ["\n" * 200_000, "x = 1\n" * 33_000, " \n" * 99_000])
def test_a_huge_answer_is_read_in_time_that_grows_with_it(text: str) -> None:
    for answer in (text, f"--- a/shop/twice.py\n+++ b/shop/twice.py\n@@ -1 +1 @@\n{text}"[:200_000]):
        with pytest.raises(EditRefusedError):
            apply_edits({"shop/twice.py": text * 5 + "z = 9\n"}, parse_edits(answer))


@given(st.sampled_from(bug_kinds()), st.integers(0, 10**6))
def test_a_diff_of_ours_leads_from_the_bug_to_the_code_without_it(kind: object, seed: int) -> None:
    problem = planted_bug(kind, random.Random(seed))  # type: ignore[arg-type]
    files = problem.extra["repository"]["files"]
    after = apply_edits(files, parse_edits(problem.answer))
    assert unified_diff(files, after) == problem.answer
