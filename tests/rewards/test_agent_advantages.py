import pytest

from rewards.agent_advantages import AgentRow, agent_advantages, zero_signal


def rows(*parts: tuple[int, str, float | None]) -> list[AgentRow]:
    return [AgentRow(*part) for part in parts]


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_one_agents_rewards_never_reach_another(scale: str) -> None:
    own = [(0, "a", 1.0), (0, "a", 0.0), (1, "a", 0.5), (1, "a", 0.1)]
    calm = agent_advantages(rows(*own, (0, "b", 0.0), (0, "b", 0.1)), scale)
    wild = agent_advantages(rows(*own, (0, "b", -100.0), (0, "b", 100.0)), scale)
    assert calm[:4] == wild[:4] and None not in calm


def test_who_took_no_part_is_in_no_baseline() -> None:
    found = agent_advantages(rows((0, "a", 1.0), (0, "a", None), (0, "a", 0.0), (0, "b", None)), "none")
    assert found == [0.5, None, -0.5, None]


def test_a_group_without_a_difference_has_no_part_and_is_counted() -> None:
    step = rows((0, "a", 1.0), (0, "a", 1.0), (1, "a", 0.0), (1, "a", 1.0), (0, "b", 0.2), (1, "b", None))
    assert agent_advantages(step, "none") == [None, None, -0.5, 0.5, None, None]
    assert zero_signal(step) == {"a": 0.5, "b": 1.0}


def test_the_scale_is_the_agents_own() -> None:
    step = rows((0, "a", 1.0), (0, "a", -1.0), (0, "b", 10.0), (0, "b", -10.0))
    assert agent_advantages(step, "batch") == pytest.approx([0.7070, -0.7070, 0.7071, -0.7071], abs=1e-3)
