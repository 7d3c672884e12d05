"""What is to be done at a backup URL, and how patiently."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from recipes.backup.manifest import FileRecord, Kind


@dataclass(frozen=True)
class Patience:
    """How the thread deals with a store that fails.

    Args:
        stall_seconds (`float`): without a block getting through, an attempt is given up.
        first_delay (`float`): before the next attempt; it doubles up to `last_delay`.
        last_delay (`float`): longest wait between attempts.
        warn_after (`int`): failed attempts in a row, none of which got a file through, before it is said.
    """

    stall_seconds: float = 300.0
    first_delay: float = 2.0
    last_delay: float = 300.0
    warn_after: int = 3


class Abandoned(Exception):
    """The attempt was given up, or its checkpoint rolled back."""


@dataclass
class Job:
    """Something to do at the URL: a backup of one kind, or forgetting the checkpoints after `step`.

    Attempts go on where the one before failed: under its `number`, after the files that it `sent`.
    """

    kind: Kind | Literal["forget"]
    step: int
    folder: Path
    cancelled: bool = False
    number: int | None = None
    sent: dict[str, FileRecord] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What it is called when people are told of it."""
        names = {"checkpoint": f"checkpoint-{self.step}", "policy": f"the policy {self.folder}"}
        return names.get(self.kind, "the results" if self.kind == "results" else "a roll-back")


# Which job goes first.
ORDER = ("forget", "checkpoint", "policy", "results")
