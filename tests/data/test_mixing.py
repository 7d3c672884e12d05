import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.mixing import apportion, in_turns, mix, parse_mix, shuffled_cycles
from data.problem import DOMAINS, DataError, Domain, Problem

RATIOS = st.dictionaries(st.sampled_from(list(DOMAINS)), st.floats(0, 10, allow_nan=False), min_size=1).filter(
    lambda ratios: sum(ratios.values()) > 1e-6
)


def problems(domain: Domain, count: int) -> list[Problem]:
    row = {"answer": "1", "source": "made", "domain": domain}
    return [Problem.from_row({**row, "question": f"{domain} {i}"}) for i in range(count)]


@given(RATIOS, st.integers(0, 500))
def test_shares_are_exact_to_one_problem_and_sum_to_the_total(ratios: dict[Domain, float], total: int) -> None:
    counts = apportion(ratios, total)
    assert sum(counts.values()) == total
    weight = sum(ratios.values())
    for domain, ratio in ratios.items():
        assert abs(counts[domain] - total * ratio / weight) <= 1


@given(RATIOS, st.integers(1, 120), st.integers(0, 5))
def test_an_epoch_has_exactly_the_apportioned_problems(ratios: dict[Domain, float], total: int, seed: int) -> None:
    mixed = mix({domain: problems(domain, 7) for domain in DOMAINS}, ratios, total, seed)
    counts = apportion(ratios, total)
    assert {d: sum(p.domain == d for p in mixed) for d in counts} == counts


def test_any_stretch_of_the_epoch_is_close_to_the_ratios() -> None:
    ratios: dict[Domain, float] = {"math": 0.4, "qa": 0.3, "code": 0.3}
    mixed = mix({domain: problems(domain, 100) for domain in DOMAINS}, ratios, 200, 0)
    for start in range(0, 200, 20):
        stretch = mixed[start : start + 20]
        for domain, ratio in ratios.items():
            assert abs(sum(p.domain == domain for p in stretch) - 20 * ratio) <= 2


def test_a_small_domain_is_repeated_only_when_it_is_used_up() -> None:
    mixed = mix({"math": problems("math", 5)}, {"math": 1.0}, 10, 0)
    assert len({p.question for p in mixed[:5]}) == 5
    assert len({p.question for p in mixed[5:]}) == 5


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 40), st.integers(0, 5))
def test_sources_of_a_domain_take_turns_while_they_last(one: int, other: int, count: int, seed: int) -> None:
    every = problems("math", one + other)
    columns = [every[:one], [*every[one:], *problems("qa", 2)]]
    chosen = in_turns(columns, seed)(every, count)
    assert len(chosen) == count
    start = chosen[: 2 * min(one, other)]
    assert abs(sum(problem in columns[0] for problem in start) - len(start) / 2) <= 0.5
    epoch = chosen[: one + other]
    assert len(set(epoch)) == len(epoch)
    assert in_turns([every], seed)(every, count) == shuffled_cycles(every, count, seed)


@pytest.mark.parametrize("ratios", [{"math": -1.0, "qa": 2.0}, {"math": 0.0}, {"code": 1.0}])
def test_impossible_mixes_are_refused(ratios: dict[Domain, float]) -> None:
    with pytest.raises(DataError):
        mix({"math": problems("math", 5), "qa": problems("qa", 5)}, ratios, 10, 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("maths=1", "'maths' is not one of"),
        ("math", "'' is not a number"),
        ("math=0.5,math=0.5", "'math' stands twice"),
    ],
)
def test_a_mix_that_is_none_says_what_is_wrong_with_it(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_mix(text)
