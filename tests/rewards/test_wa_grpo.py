import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.tiers import TIER_REWARDS
from rewards.wa_grpo import (
    EXEC_SUCCESS,
    WAGRPOConfig,
    WorkflowFeatures,
    adjust_groups,
    node_counts,
    revise_gain,
    workflow_distance,
    zero_signal_groups,
)

CONFIG = WAGRPOConfig()
TIERS = st.sampled_from([None, *TIER_REWARDS.values()])
ENDINGS = st.sampled_from(["ok", "timeout", "policy_error", "invalid", "infra_error"])


@st.composite
def features(draw: st.DrawFn) -> WorkflowFeatures:
    ending = draw(ENDINGS)
    text = "" if ending == "invalid" else draw(st.text(alphabet="abcdef ()=", max_size=40))
    return WorkflowFeatures(
        text=text,
        nodes={"Call": draw(st.integers(0, 5)), "Return": 1},
        ending=ending,
        tokens=draw(st.integers(0, 5000)),
        operators_used=draw(st.integers(0, 10)),
        operators_available=10,
        revise_gain=draw(st.floats(0, 1)),
    )


@st.composite
def groups(draw: st.DrawFn) -> tuple[list[float | None], list[WorkflowFeatures], int]:
    size, count = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    rewards: list[float | None] = []
    for _ in range(count):
        if draw(st.booleans()):
            rewards += [draw(TIERS)] * size
        else:
            rewards += draw(st.lists(TIERS, min_size=size, max_size=size))
    return rewards, draw(st.lists(features(), min_size=size * count, max_size=size * count)), size


@given(groups())
def test_a_tie_break_never_reorders_tiers(data: tuple[list[float | None], list[WorkflowFeatures], int]) -> None:
    rewards, members, size = data
    adjusted = adjust_groups(rewards, members, size, CONFIG).rewards
    for a, b in zip(rewards, adjusted, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert a <= b <= a + CONFIG.alpha
    pairs = [(a, b) for a, b in zip(rewards, adjusted, strict=True) if a is not None and b is not None]
    for left in pairs:
        for right in pairs:
            if left[0] < right[0]:
                assert left[1] < right[1]


@given(groups())
def test_only_tied_groups_are_touched(data: tuple[list[float | None], list[WorkflowFeatures], int]) -> None:
    rewards, members, size = data
    adjusted = adjust_groups(rewards, members, size, CONFIG).rewards
    for index, tied in enumerate(zero_signal_groups(rewards, size)):
        if not tied:
            part = slice(index * size, (index + 1) * size)
            assert adjusted[part] == rewards[part]


@given(groups())
def test_a_group_is_adjusted_alike_alone_and_among_others(
    data: tuple[list[float | None], list[WorkflowFeatures], int],
) -> None:
    rewards, members, size = data
    together = adjust_groups(rewards, members, size, CONFIG).rewards
    alone: list[float | None] = []
    for start in range(0, len(rewards), size):
        part = slice(start, start + size)
        alone += adjust_groups(rewards[part], members[part], size, CONFIG).rewards
    assert together == alone


@given(groups(), st.randoms())
def test_the_order_within_a_group_does_not_matter(
    data: tuple[list[float | None], list[WorkflowFeatures], int], random: object
) -> None:
    rewards, members, size = data
    rewards, members = rewards[:size], members[:size]
    order = list(range(size))
    random.shuffle(order)  # type: ignore[attr-defined]
    straight = adjust_groups(rewards, members, size, CONFIG).rewards
    shuffled = adjust_groups([rewards[i] for i in order], [members[i] for i in order], size, CONFIG).rewards
    for position, index in enumerate(order):
        assert shuffled[position] == pytest.approx(straight[index])


@given(groups())
def test_what_never_ran_gets_no_bonus(data: tuple[list[float | None], list[WorkflowFeatures], int]) -> None:
    rewards, members, size = data
    adjusted = adjust_groups(rewards, members, size, CONFIG).rewards
    for before, after, member in zip(rewards, adjusted, members, strict=True):
        if not member.ran:
            assert before == after


@given(st.lists(features(), min_size=2, max_size=6))
def test_distances_are_symmetric_and_between_0_and_1(members: list[WorkflowFeatures]) -> None:
    for left in members:
        assert workflow_distance(left, left) == pytest.approx(0)
        for right in members:
            assert workflow_distance(left, right) == workflow_distance(right, left)
            assert 0 <= workflow_distance(left, right) <= 1


def ok(text: str = "Custom", **changes: object) -> WorkflowFeatures:
    base = WorkflowFeatures(text, {"Call": 1}, "ok", 100, 1, 10, 0.5)
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (ok(), ok(ending="timeout")),
        (ok(ending="timeout"), ok(ending="policy_error")),
        (ok(tokens=50), ok(tokens=100)),
        (ok(operators_used=3), ok(operators_used=2)),
        (ok(revise_gain=0.8), ok(revise_gain=0.5)),
        (ok(), WorkflowFeatures()),
    ],
    ids=["success", "timeout before error", "thrift", "variety", "revision", "ran at all"],
)
def test_each_component_points_the_right_way(better: WorkflowFeatures, worse: WorkflowFeatures) -> None:
    first, second = adjust_groups([0.0, 0.0], [better, worse], 2, CONFIG).rewards
    assert first == pytest.approx(CONFIG.alpha)
    assert second == 0.0


def test_diversity_favours_the_odd_one_out_among_workflows_that_ran() -> None:
    members = [ok("Custom"), ok("Custom"), ok("Programmer -> Format", nodes={"Await": 3})]
    rewards = adjust_groups([0.2, 0.2, 0.2], members, 3, CONFIG).rewards
    assert rewards == [0.2, 0.2, pytest.approx(0.2 + CONFIG.alpha)]


def test_garbage_is_not_diverse() -> None:
    garbage = WorkflowFeatures(text="x" * 50)
    assert adjust_groups([0.0, 0.0], [garbage, WorkflowFeatures(text="y" * 9)], 2, CONFIG).rewards == [0.0, 0.0]


def test_infrastructure_errors_are_left_out() -> None:
    members = [ok(), ok(ending="infra_error"), ok(tokens=10)]
    rewards = adjust_groups([0.2, None, 0.2], members, 3, CONFIG).rewards
    assert rewards[0] == 0.2 and rewards[1] is None and rewards[2] == pytest.approx(0.32)
    assert adjust_groups([None] * 3, members, 3, CONFIG).rewards == [None] * 3


def test_the_share_of_zero_signal_groups_is_logged_before_and_after() -> None:
    members = [ok(), ok(tokens=10), ok(), ok(), ok(), ok(tokens=5)]
    metrics = adjust_groups([0.2, 0.2, 0.0, 0.0, 1.0, 0.2], members, 2, CONFIG).metrics
    assert metrics["zero_signal_before"] == pytest.approx(2 / 3)
    assert metrics["zero_signal_after"] == pytest.approx(1 / 3)
    assert metrics["efficiency"] == pytest.approx((0 + 1 + 1 + 1) / 4)


def test_a_revision_is_scored_by_what_it_gained() -> None:
    assert revise_gain(0.2, 1.0) == pytest.approx(0.9)
    assert revise_gain(0.2, 0.2) == revise_gain(1.0, 0.2) == 0.3


def test_the_exec_success_scale_is_the_specification() -> None:
    assert EXEC_SUCCESS == {"ok": 1.0, "timeout": 0.3, "policy_error": 0.2, "invalid": 0.1}


@pytest.mark.parametrize("alpha", [0.2, 0.5, -0.1, float("nan")])
def test_an_alpha_that_could_reorder_tiers_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="wa_alpha"):
        WAGRPOConfig(alpha=alpha)


def test_groups_must_be_whole() -> None:
    with pytest.raises(ValueError, match="num_generations=2 does not divide 3"):
        adjust_groups([0.0] * 3, [ok()] * 3, 2, CONFIG)


def test_nodes_of_broken_code_are_none() -> None:
    assert node_counts("def") == {}
    assert node_counts("x = 1")["Assign"] == 1


def test_features_that_are_left_out_weigh_nothing() -> None:
    config = WAGRPOConfig(features=("efficiency",))
    assert config.weights == {"efficiency": 0.10}
    with pytest.raises(ValueError, match="beauty"):
        WAGRPOConfig(features=("beauty",))
