"""What each strategy of `scripts/study_search.py` found for one seed: a row, kept as soon as the seed has ended.

Example, shortened:

    {"environment": "embedded", "tokens": 40000, "seed": 0, "fingerprint": "9f...", "commit": "1a2b3c",
     "rewards": {"aflow": 0.61, "uct": 0.58, "greedy": 0.55, "random": 0.57, "independent": 0.48}}
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from data.files import unreadable, write_atomically
from scripts.studying.running import ROOT

# What decides a seed's numbers, beside the executor's replies.
SOURCES = (
    *sorted((ROOT / "aflow_ops" / "search").glob("*.py")),
    ROOT / "scripts" / "searching" / "landscape.py",
    ROOT / "scripts" / "study_search.py",  # its strategies and numbers of problems
)


@dataclass(frozen=True)
class Compared:
    """One seed's comparison.

    Args:
        environment (`str`): where.
        tokens (`int`): executor tokens of each strategy.
        seed (`int`): of its choices.
        fingerprint (`str`): of the code that it was made with.
        commit (`str`): likewise.
        rewards (`Mapping[str, float]`): held-out reward in [0, 1] of what each strategy found.
    """

    environment: str
    tokens: int
    seed: int
    fingerprint: str
    commit: str
    rewards: Mapping[str, float]

    @property
    def key(self) -> tuple[str, int, int]:
        """What no two rows have in common."""
        return self.environment, self.tokens, self.seed


def fingerprint(environment: str, tokens: int) -> str:
    """Return what tells rows of this code from those of another: a hash of the search's files and the study's."""
    digest = hashlib.sha256(f"{environment} {tokens}".encode())
    for file in SOURCES:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def read_compared(path: Path) -> list[Compared]:
    """Return the rows of a file; none where there is no file.

    Raises:
        DataError: it is damaged.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [Compared(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError) as error:
        raise unreadable(path, error) from None


def write_compared(path: Path, rows: Sequence[Compared]) -> None:
    """Write rows to a file, by seed."""
    with write_atomically(path) as file:
        file.writelines(json.dumps(asdict(row)) + "\n" for row in sorted(rows, key=lambda row: row.key))
