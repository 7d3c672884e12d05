"""Seeing a collapse: the policy stops writing valid workflows and does not come back."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

# The level that was held is the best mean over so many steps; over the first ones, while there are no more.
LEVEL_STEPS = 5


@dataclass(frozen=True)
class Collapse:
    """A collapse: the last step whose policy did not write what stayed low, the level before, and the last share."""

    since_step: int
    level: float
    now: float


class CollapseWatch:
    """Watches the share of valid workflows: a collapse is less than half of the best level held, for `patience` steps.

    Args:
        patience (`int`): steps in a row; 0 never sees a collapse.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self._shares: list[float] = []
        self._level = 0.0
        self._low = 0
        self._since = 0

    def seen(self, step: int, valid: float) -> Collapse | None:
        """Take the share of one step; returns the collapse once it has lasted.

        Args:
            step (`int`): optimizer steps that the policy had when it wrote the workflows: fewer than it has now where
                they were sampled ahead, and not one more each time where a generation is used for several steps.
            valid (`float`): share of valid workflows.
        """
        self._shares.append(valid)
        self._low = self._low + 1 if valid < self._level / 2 else 0
        if self._low == 1:
            self._since = step - 1
        if self._low == 0:
            recent = fmean(self._shares[-LEVEL_STEPS:])
            self._level = recent if len(self._shares) < LEVEL_STEPS else max(self._level, recent)
        if self.patience and self._low >= self.patience:
            return Collapse(self._since, self._level, valid)
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it, as JSON."""
        return {"shares": self._shares[-LEVEL_STEPS:], "level": self._level, "low": self._low, "since": self._since}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as it was at a checkpoint.

        Args:
            state (`Mapping[str, Any]`): from `state_dict`.
        """
        self._shares, self._level, self._low = list(state["shares"]), state["level"], state["low"]
        self._since = state.get("since", 0)
