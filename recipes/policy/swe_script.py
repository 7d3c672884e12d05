"""The script of `recipes/swe.py`: causes, edits and verdicts for `planted_bugs`, with mistakes planted on purpose.

analyzer:   FILE: fleet/lists.py
            return items[-count:-1] if count else []
writer:     a search/replace block of that line
validator:  VERDICT: right
"""

import random
import re
from collections.abc import Sequence

from aflow_ops.agents.tools.edits import EditRefusedError, parse_edits
from aflow_ops.executor.types import Message
from data.planted_bugs import BugKind, bug_kinds

# How often the script finds the cause, mends what was found, mends by itself, follows a wrong cause, and judges right.
FINDS_RIGHT, MENDS_RIGHT, MENDS_ALONE, FOLLOWS, JUDGES_RIGHT = 0.75, 0.85, 0.55, 0.5, 0.75
# How often what mends nothing is no more than that: few of its words are worth learning.
NOTHING = 0.75
_FILE = re.compile(r"^### (\S+)\n(.*?)(?=^### |^Cause:|\Z)", re.MULTILINE | re.DOTALL)
_CAUSE = re.compile(r"Cause:\nFILE: (\S+)\n(.+)")
_ASKED = re.compile(r"`(\w+)` is not right")


class SWEScript:
    """Speaks for analyzer, writer and validator."""

    def reply(self, role: str, messages: Sequence[Message], rng: random.Random) -> str:
        """Return the next turn of a role."""
        told = messages[1]["content"]
        function = _ASKED.search(told)
        kind = next((each for each in bug_kinds() if function and each.function == function[1]), None)
        if kind is None:
            raise ValueError(f"not an issue of planted_bugs: {told[:80]!r}")
        if role == "analyzer":
            return cause(kind, files_in(told), rng)
        if role == "writer":
            return edit(kind, told, rng)
        right = is_the_change(kind, messages[-1]["content"])
        said = right if rng.random() < JUDGES_RIGHT else not right
        return f"VERDICT: {'right' if said else 'wrong'}"


def files_in(text: str) -> dict[str, str]:
    """Return the files that a text shows."""
    return {path: code.rstrip("\n") + "\n" for path, code in _FILE.findall(text)}


def pattern_of(text: str) -> re.Pattern[str]:
    """Finds a part of a kind's code, whatever its numbers."""
    return re.compile(re.sub(r"\\\$([ab])", r"\\d", re.escape(text)))


def wrong_lines(kind: BugKind, code: str) -> tuple[str, str]:
    """Return the lines with the bug, and the lines in their place."""
    found = pattern_of(kind.wrong).search(code)
    if found is None:
        raise ValueError(f"no bug of {kind.kind!r} in {code[:80]!r}")
    # The numbers of the code fill those of what stands in its place; of two of one kind, the first ones do.
    digits = iter(re.findall(r"\d", found[0]) if "$" in kind.wrong else [])
    numbers = {name: next(digits, "") for name in re.findall(r"\$([ab])", kind.wrong)}
    right = re.sub(r"\$([ab])", lambda m: numbers.get(m[1]) or _number(kind, code, m[1]), kind.right)
    start = code.rfind("\n", 0, found.start()) + 1
    end = code.find("\n", found.end())
    end = len(code) if end < 0 else end + 1
    return code[start:end], code[start : found.start()] + right + code[found.end() : end]


def _number(kind: BugKind, code: str, name: str) -> str:
    """A number that the line with the bug has lost, from the rest of the code."""
    lines = [line for line in kind.code.split("\n") if f"${name}" in line and kind.right not in line]
    for line in lines:
        groups = re.sub(r"\\\$([ab])", lambda m: r"(\d)" if m[1] == name else r"\d", re.escape(line))
        if (found := re.search(groups, code)) is not None:
            return found[1]
    return "2"


def cause(kind: BugKind, files: dict[str, str], rng: random.Random) -> str:
    """Name the file and the line of the bug; at random another one."""
    path = next((path for path, code in files.items() if re.search(rf"def {kind.function}\(", code)), "")
    line = wrong_lines(kind, files[path])[0].split("\n")[0]
    if rng.random() >= FINDS_RIGHT:
        path = rng.choice(list(files))
        line = rng.choice([each for each in files[path].split("\n") if each.strip()])
    return f"FILE: {path}\n{line.strip()}"


def edit(kind: BugKind, told: str, rng: random.Random) -> str:
    """Replace the lines that the cause names, or those with the bug; at random by something else."""
    files = files_in(told)
    path = next(path for path, code in files.items() if re.search(rf"def {kind.function}\(", code))
    old, new = wrong_lines(kind, files[path])
    named = _CAUSE.search(told)
    led_on = named is not None and named[2].strip() == old.split("\n")[0].strip()
    if named is not None and not led_on and named[1] in files and rng.random() < FOLLOWS:
        lines = [line + "\n" for line in files[named[1]].split("\n") if line.strip() == named[2].strip()]
        return block(named[1], (lines or [old])[0], junk(old, rng))
    return block(path, old, new if rng.random() < (MENDS_RIGHT if led_on else MENDS_ALONE) else junk(old, rng))


def block(path: str, old: str, new: str) -> str:
    """Return a search/replace block."""
    return f"{path}\n<<<<<<< SEARCH\n{old}=======\n{new}>>>>>>> REPLACE"


def junk(old: str, rng: random.Random) -> str:
    """Return a line in the place of another one that mends nothing."""
    indent = old[: len(old) - len(old.lstrip())]
    instead = rng.choice(bug_kinds()).right.split("\n")[0].strip().replace("$a", "2").replace("$b", "3")
    return f"{indent}return {'None' if rng.random() < NOTHING else instead.removeprefix('return ')}\n"


def is_the_change(kind: BugKind, told: str) -> bool:
    """Whether a change puts what is right in the place of the bug."""
    diff = told.partition("Change:\n")[2]
    try:
        edits = parse_edits(diff)
    except EditRefusedError:
        return False
    right = pattern_of(kind.right)
    return any(right.search(each.new) and not right.search(each.old) for each in edits)
