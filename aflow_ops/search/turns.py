"""Several proposers that take turns, a round each."""

from collections.abc import Sequence
from dataclasses import replace

from aflow_ops.search.expand import Context, Proposal, Proposer
from aflow_ops.search.node import Origin


class TakingTurns:
    """Asks one of several proposers, round by round. Proposals of one round are the same one's.

    Args:
        proposers (`Sequence[Proposer]`): in the order of their turns, at least one.
        at_once (`int`): proposals of a round (`SearchSettings.parallel`).
    """

    def __init__(self, proposers: Sequence[Proposer], at_once: int) -> None:
        self.proposers, self.at_once = tuple(proposers), at_once

    @property
    def origin(self) -> Origin:
        """The first one's; each proposal says its own."""
        return self.proposers[0].origin

    async def propose(self, context: Context, refused: Sequence[tuple[Proposal, str]]) -> Proposal:
        """Let the one whose turn it is propose."""
        turn = self.proposers[(context.sample - 1) // self.at_once % len(self.proposers)]
        return replace(await turn.propose(context, refused), origin=turn.origin)
