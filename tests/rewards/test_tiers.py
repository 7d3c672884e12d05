import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.tiers import TIER_REWARDS, Grade


@pytest.mark.parametrize("tier", TIER_REWARDS)
def test_a_grade_has_the_reward_of_its_tier(tier: int) -> None:
    assert Grade(tier, tier == 5, "x", "").reward == TIER_REWARDS[tier]  # type: ignore[arg-type, index]


@given(st.floats(0, 1))
def test_a_reward_of_ones_own_is_kept_and_reaches_the_tier_at_or_below_it(reward: float) -> None:
    grade = Grade.of_reward(reward, "x", "measured")
    assert grade.reward == reward == grade.to_dict()["reward"]
    assert TIER_REWARDS[grade.tier] <= reward
    assert all(TIER_REWARDS[tier] > reward for tier in TIER_REWARDS if tier > grade.tier)
    assert grade.correct == (reward == 1)


@pytest.mark.parametrize("reward", [-0.1, 1.1, math.inf, math.nan])
def test_no_reward_is_out_of_range(reward: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        Grade.of_reward(reward, "x", "measured")


@given(st.floats(0, 1), st.sampled_from(sorted(TIER_REWARDS)))
def test_a_grade_that_moves_takes_the_reward_of_its_new_tier(reward: float, tier: int) -> None:
    moved = Grade.of_reward(reward, "x", "measured").moved_to(tier, "judged", correct=tier == 5)  # type: ignore[arg-type]
    assert moved.reward == TIER_REWARDS[moved.tier]


def test_equal_grades_are_equal() -> None:
    grade = Grade(3, False, "x", "F1 0.4")
    assert grade == Grade(3, False, "x", "F1 0.4") == dataclasses.replace(grade)
