"""Scoring rows of like length together: TRL pads all rows of a batch to the longest of them.

What agents say differs in length far more than answers do: a team's batch is two thirds padding, which a forward and a
backward pass compute like the rest.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import pad

# Rows of a part: fewer would leave a device idle, and with sharded parameters each part gathers them anew.
ROWS = 32

Scores = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]


def score_by_length(
    score: Callable[..., Scores],
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    logits_to_keep: int,
    *args: Any,
    **kwargs: Any,
) -> Scores:
    """Call TRL's `_get_per_token_logps_and_entropies` for rows of like length, without the padding all of them have.

    How many parts there are depends on the number of rows alone, so that processes agree about it.

    Args:
        score (`Callable`): TRL's method.
        model (`Any`): handed to it.
        input_ids (`torch.Tensor`): (rows, prompt + completion), prompts padded on the left, completions on the right.
        attention_mask (`torch.Tensor`): (rows, prompt + completion), 1 where there is a token.
        logits_to_keep (`int`): length of the completions, padding included.
        args, kwargs (`Any`): handed on.

    Returns:
        `tuple`: log-probabilities (rows, completion) and entropies or `None`, 0 where a part had no column; mean of the
            parts' auxiliary losses, or `None`.
    """
    parts = len(input_ids) // ROWS
    if parts < 2:
        return score(model, input_ids, attention_mask, logits_to_keep, *args, **kwargs)
    prompt = input_ids.shape[1] - logits_to_keep
    order = attention_mask.sum(dim=1).argsort(stable=True)
    found = []
    for places in order.tensor_split(parts):
        mask = attention_mask[places]
        first = prompt - int(mask[:, :prompt].sum(dim=1).max())
        kept = max(1, int(mask[:, prompt:].sum(dim=1).max()))
        columns = slice(first, prompt + kept)
        logps, entropies, aux_loss = score(model, input_ids[places, columns], mask[:, columns], kept, *args, **kwargs)
        missing = (0, logits_to_keep - kept)
        found.append((pad(logps, missing), None if entropies is None else pad(entropies, missing), aux_loss))
    back = order.argsort()
    logps, entropies, losses = zip(*found, strict=True)
    return (
        torch.cat(logps)[back],
        None if entropies[0] is None else torch.cat(entropies)[back],
        None if losses[0] is None else torch.stack(losses).mean(),
    )
