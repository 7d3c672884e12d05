"""Domain mixing: exact shares over an epoch, spread evenly within it."""

import math
import random
from collections.abc import Callable, Mapping, Sequence

from data.problem import DOMAINS, DataError, Domain, Problem

# (problems of a domain, how many) -> its part of an epoch, in order
Queue = Callable[[Sequence[Problem], int], list[Problem]]
# The specification's shares, where nobody says others.
DEFAULT_MIX = "math=0.4,qa=0.3,code=0.3"


def parse_mix(text: str) -> dict[Domain, float]:
    """Read a domain mix such as `"math=0.4,qa=0.3,code=0.3"`.

    Raises:
        ValueError: an unknown domain or a ratio that is no number.
    """
    ratios: dict[Domain, float] = {}
    for part in text.split(","):
        name, _, ratio = (piece.strip() for piece in part.partition("="))
        if name not in DOMAINS:
            raise ValueError(f"domain_mix={text!r}: {name!r} is not one of {', '.join(DOMAINS)}")
        if name in ratios:
            raise ValueError(f"domain_mix={text!r}: {name!r} stands twice")
        try:
            ratios[name] = float(ratio)
        except ValueError:
            raise ValueError(f"domain_mix={text!r}: {ratio!r} is not a number") from None
    return ratios


def mix(
    problems: Mapping[Domain, Sequence[Problem]],
    ratios: Mapping[Domain, float],
    total: int,
    seed: int,
    queue: Queue | None = None,
) -> list[Problem]:
    """Return one epoch of `total` problems with every domain's share exact.

    Shares are apportioned by largest remainder and interleaved, so that any stretch of the epoch is close to the
    ratios. A domain with too few problems is repeated in a fresh order each time.

    Args:
        problems (`Mapping[str, Sequence[Problem]]`): problems by domain.
        ratios (`Mapping[str, float]`): weight of each domain, at least 0; need not sum to 1.
        total (`int`): problems in the epoch.
        seed (`int`): order within a domain.
        queue (`Queue`, *optional*): another order within a domain.

    Raises:
        DataError: a negative weight, no positive one, or a positive one without problems.
    """
    counts = apportion(ratios, total)
    queues: dict[Domain, list[Problem]] = {}
    for domain, count in counts.items():
        if count and not problems.get(domain):
            raise DataError(f"the domain mix asks for {domain} problems, but no source has any")
        available = problems.get(domain, ())
        queues[domain] = queue(available, count) if queue else shuffled_cycles(available, count, seed)
    order = [((index + 0.5) / counts[domain], domain) for domain in counts for index in range(counts[domain])]
    positions = dict.fromkeys(queues, 0)
    mixed = []
    for _, domain in sorted(order):
        mixed.append(queues[domain][positions[domain]])
        positions[domain] += 1
    return mixed


def apportion(ratios: Mapping[Domain, float], total: int) -> dict[Domain, int]:
    """Split `total` by weight, by largest remainder; the parts sum to `total` and each is within 1 of its exact share.

    Raises:
        DataError: a negative weight, or no positive one.
    """
    for domain, ratio in ratios.items():
        if not 0 <= ratio < math.inf:
            raise DataError(f"domain mix: {domain}={ratio} must be a number and not negative")
    weight = sum(ratios.values())
    if not weight > 0:
        raise DataError("domain mix: at least one share must be above 0")
    exact = {domain: ratio / weight * total for domain, ratio in ratios.items()}
    counts = {domain: int(share) for domain, share in exact.items()}
    by_remainder = sorted(exact, key=lambda domain: counts[domain] - exact[domain])
    for domain in by_remainder[: total - sum(counts.values())]:
        counts[domain] += 1
    return counts


def shuffled_cycles(problems: Sequence[Problem], count: int, seed: int) -> list[Problem]:
    """Return `count` problems: every one once before any comes twice."""
    rng = random.Random(seed)
    chosen: list[Problem] = []
    while len(chosen) < count:
        epoch = list(problems)
        rng.shuffle(epoch)
        chosen += epoch
    return chosen[:count]


def in_turns(columns: Sequence[Sequence[Problem]], seed: int) -> Queue:
    """Return the order in which the sources of a domain take turns, each shuffled, while they last.

    So each has the same share of a domain's part as far as it goes. All are used up before any comes again, in a fresh
    order; of one source it is the order of `shuffled_cycles`.

    Args:
        columns (`Sequence[Sequence[Problem]]`): problems of each source.
        seed (`int`): order within a source.
    """

    def queue(problems: Sequence[Problem], count: int) -> list[Problem]:
        domain = problems[0].domain
        sources = [[problem for problem in column if problem.domain == domain] for column in columns]
        epochs = math.ceil(count / len(problems))
        orders = [shuffled_cycles(source, epochs * len(source), seed) for source in sources]
        chosen: list[Problem] = []
        for epoch in range(epochs):
            chosen += interleave(
                [
                    order[epoch * len(source) : (epoch + 1) * len(source)]
                    for order, source in zip(orders, sources, strict=True)
                ]
            )
        return chosen[:count]

    return queue


def interleave(columns: Sequence[Sequence[Problem]]) -> list[Problem]:
    """Interleave several lists: first rows first, then second rows, and so on."""
    longest = max((len(column) for column in columns), default=0)
    return [column[index] for index in range(longest) for column in columns if index < len(column)]


def cycled(problems: Sequence[Problem], count: int) -> list[Problem]:
    """Return `count` problems in their order, from the beginning again when there are fewer."""
    return [problems[index % len(problems)] for index in range(count)]
