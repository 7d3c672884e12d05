"""What tied groups add to the advantages: in units of the real ones, and never more than a tier is worth."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.advantages import LEVEL_WINDOW, TIER_STD, DomainLevels, advantage_scale, tied_advantages
from rewards.tiers import TIER_REWARDS

TIERS = sorted(TIER_REWARDS.values())
SMALLEST_GAP = min(b - a for a, b in itertools.pairwise(TIERS))
ALPHA = 0.12


def added(
    rewards: list[float | None],
    adjusted: list[float | None] | None = None,
    *,
    k: int = 2,
    scale: str = "batch",
    levels: dict[str, float] | None = None,
    weight: float = 0.0,
    domain: str = "math",
) -> list[float]:
    return tied_advantages(
        rewards,
        rewards if adjusted is None else adjusted,
        [domain] * len(rewards),
        k,
        scale_rewards=scale,  # type: ignore[arg-type]
        levels=levels or {},
        level_weight=weight,
    )


def test_a_tie_break_in_a_batch_of_ties_stays_what_it_is_worth() -> None:
    """The standard deviation of such a batch is near 0; divided by it the bonus would be an advantage of 1."""
    assert added([0.2, 0.2, 0.2, 0.2], [0.32, 0.2, 0.2, 0.2]) == pytest.approx(
        [0.06 / TIER_STD, -0.06 / TIER_STD, 0, 0]
    )
    assert added([0.2, 0.2], [0.32, 0.2], scale="none") == pytest.approx([0.06, -0.06])


def test_groups_with_a_signal_of_their_own_are_left_alone() -> None:
    assert added([1.0, 0.2, 0.2, 0.2], levels={"math": 0.9}, weight=1.0)[:2] == [0.0, 0.0]


@given(
    rewards=st.lists(st.sampled_from(TIERS), min_size=4, max_size=4),
    tie=st.sampled_from(TIERS),
    bonus=st.lists(st.floats(0, ALPHA), min_size=4, max_size=4),
    scale=st.sampled_from(["batch", "none"]),
)
def test_a_tie_break_is_smaller_than_any_real_difference_beside_it(
    rewards: list[float], tie: float, bonus: list[float], scale: str
) -> None:
    both = [*rewards, *[tie] * 4]
    values = added(both, [*rewards, *[tie + b for b in bonus]], k=4, scale=scale)
    spread = max(values[4:]) - min(values[4:])
    assert sum(values[4:]) == pytest.approx(0, abs=1e-9)
    mean = sum(both) / len(both)
    deviation = math.sqrt(sum((r - mean) ** 2 for r in both) / (len(both) - 1)) if scale == "batch" else 1.0
    if deviation > 0:
        assert spread < SMALLEST_GAP / deviation


def test_a_group_that_earns_less_than_its_domain_lately_is_pushed_away() -> None:
    levels = {"math": 0.7}
    assert added([0.2, 0.2], levels=levels, weight=0.5) == pytest.approx([-0.25 / TIER_STD] * 2)
    assert added([1.0, 1.0], levels=levels, weight=0.5, scale="none") == pytest.approx([0.15] * 2)
    assert added([0.2, 0.2], levels=levels, weight=0.5, domain="qa") == [0.0, 0.0], "no level, no opinion"
    assert added([0.2, 0.2], levels=levels) == [0.0, 0.0], "off"


def test_a_rollout_without_a_reward_gets_nothing() -> None:
    assert added([None, 0.2], [None, 0.32], levels={"math": 0.7}, weight=1.0)[0] == 0.0
    assert added([None, None], [None, None]) == [0.0, 0.0]


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="2 rewards, 1 adjusted"):
        added([0.2, 0.2], [0.2])
    with pytest.raises(ValueError, match="num_generations=2"):
        added([0.2, 0.2, 0.2])


@pytest.mark.parametrize(("rewards", "scale"), [([0.0, 0.0], TIER_STD), ([0.0, 1.0], math.sqrt(0.5))])
def test_the_scale_is_the_batchs_deviation_but_never_small(rewards: list[float], scale: float) -> None:
    assert advantage_scale(rewards, "batch") == pytest.approx(scale)
    assert advantage_scale(rewards, "group") == pytest.approx(scale)
    assert advantage_scale(rewards, "none") == 1.0


def test_a_level_is_the_mean_of_the_latest_rewards_and_waits_for_enough() -> None:
    levels = DomainLevels(window=16)
    levels.add(["math"], [1.0])
    assert levels.levels() == {}
    levels.add(["math", "math", "qa"], [1.0, None, 0.4])
    assert levels.levels() == {"math": 1.0}
    levels.add(["math"] * 16, [0.2] * 16)
    assert levels.levels()["math"] == pytest.approx(0.2)
    other = DomainLevels(window=16)
    other.load_state_dict(levels.state_dict())
    assert other.levels() == levels.levels()
    assert LEVEL_WINDOW >= 64
