import gzip
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import trajectory_sets
from data.problem import DataError, Problem
from data.registry import in_heldout_part, load_problems
from data.trajectories import Trajectory, read_trajectories, regrouped
from data.trajectory_sets import (
    by_group,
    capped,
    distinct,
    has_signal,
    refuse_leaks,
    simplest_first,
    standings,
    statistics,
)

ROW: dict[str, Any] = {
    "group": "g", "problem": {"id": "1", "source": "gsm8k", "domain": "math"},
    "prompt": [{"role": "user", "content": "What is 2 + 2?"}], "completion": "Custom -> Format", "reward": 0.7,
    "correct": False, "outcome": "ok", "node": 3, "origin": "policy", "form": "design",
    "policy": {"model": "m", "adapter": None, "step": 4}, "completion_ids": [5, 6], "logprobs": [-0.5, 0.0],
}  # fmt: skip
ROLLOUT: dict[str, Any] = {
    "step": 3, "prompt": ROW["prompt"], "id": "1", "source": "gsm8k", "domain": "math", "completion": "Custom",
    "reward": 1.0, "correct": True, "outcome": "ok", "infra_error": None, "advantage": 0.5,
}  # fmt: skip


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def text_of(trajectory: Trajectory) -> str:
    return trajectory.completion


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
TRAJECTORIES = st.builds(
    Trajectory,
    group=st.sampled_from("abc"),
    source=st.just("gsm8k"),
    id=st.sampled_from("abc"),
    domain=st.just("math"),
    prompt=st.just(({"role": "user", "content": "?"},)),
    completion=st.sampled_from(["A", "B", "C", "D", "E"]),
    reward=st.floats(0, 1),
    correct=st.booleans(),
    outcome=st.sampled_from(["ok", "policy_error", "timeout"]),
    node=st.none() | st.integers(0, 99),
    logprobs=st.none() | st.just((-1.0, -2.0)),
    completion_ids=st.just((1, 2)),
)


@given(st.lists(TRAJECTORIES, min_size=1), TEXT, TEXT)
def test_what_is_written_is_read_back(rows: list[Trajectory], content: str, completion: str) -> None:
    prompt = ({"role": "user", "content": content},)
    for row in rows:
        given_row = replace(row, prompt=prompt, completion=completion)
        assert Trajectory.from_row(json.loads(json.dumps(given_row.to_row()))) == replace(given_row, rewards=1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"reward": 1.5}, "reward=1.5"),
        ({"reward": True}, "reward"),
        ({"correct": None}, "correct"),
        ({"outcome": "infra_error"}, "outcome='infra_error' must be one of ok"),
        ({"origin": "someone"}, "origin"),
        ({"form": "essay"}, "form"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [{"role": "user"}]}, "prompt"),
        ({"completion": None}, "completion"),
        ({"problem": "1"}, "problem"),
        ({"problem": {**ROW["problem"], "answer": "4"}}, "answer: gold"),
        ({"tests": ["assert f() == 1"]}, "tests: gold"),
        ({"logprobs": [-0.5]}, "1 logprobs for 2"),
        ({"logprobs": [-0.5, 0.5]}, "logprobs must"),
        ({"logprobs": None, "completion_ids": []}, "completion_ids"),
        ({"completion_ids": None}, "completion_ids"),
    ],
)
def test_a_malformed_row_is_named_by_its_line(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    path = write(tmp_path / "trajectories.jsonl", ROW, "", {**ROW, **change})
    with pytest.raises(DataError, match=f"trajectories.jsonl, line 3: .*{reason}"):
        read_trajectories(path)


def test_rows_of_one_group_share_one_prompt(tmp_path: Path) -> None:
    other = {**ROW, "prompt": [{"role": "user", "content": "What is 2 + 3?"}]}
    path = write(tmp_path / "trajectories.jsonl", ROW, other)
    with pytest.raises(DataError, match="line 2: group 'g' has another prompt in line 1"):
        read_trajectories(path)
    assert len(read_trajectories(write(path, ROW, {**other, "group": "h"}))) == 2


def test_files_that_hold_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_trajectories(tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match="no rows"):
        read_trajectories(write(tmp_path / "empty.jsonl", ""))
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(json.dumps(ROW).encode())[:-9])
    whole = bytearray(gzip.compress(json.dumps(ROW).encode() * 50))
    whole[len(whole) // 2] ^= 0xFF
    (tmp_path / "damaged.jsonl.gz").write_bytes(whole)
    for name in ("cut", "damaged"):
        with pytest.raises(DataError, match="cannot be read"):
            read_trajectories(tmp_path / f"{name}.jsonl.gz")


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"prompt": 5}, "prompt must be"), ({"id": None}, "id must be"), ({"source": None}, "source")],
)
def test_a_malformed_rollout_is_named_by_its_line(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    path = write(tmp_path / "rollouts.jsonl", ROLLOUT, {**ROLLOUT, "id": 0}, {**ROLLOUT, **change})
    with pytest.raises(DataError, match=f"line 3: {reason}"):
        read_trajectories(path)


def test_rollouts_of_a_run_are_trajectories_and_failures_of_ours_are_not(tmp_path: Path) -> None:
    ours = {**ROLLOUT, "reward": None, "correct": None, "infra_error": "no answer"}
    replayed = {**ROLLOUT, "replay": {"kind": "foreign"}}
    sampled = {**ROLLOUT, "replay": None, "completion": "Programmer"}
    lines = [json.dumps(row) for row in (ROLLOUT, ours, replayed, sampled)]
    part = tmp_path / "rollouts-00001.jsonl.gz"
    part.write_bytes(gzip.compress("\n".join(lines).encode()))
    for path in (part, write(tmp_path / "rollouts.jsonl", *lines)):
        first, second = read_trajectories(path)
        assert (first.completion, first.origin, first.key, first.correct) == ("Custom", "policy", ("gsm8k", "1"), True)
        assert first.group == second.group and first.logprobs is None


def test_rows_of_an_evaluation_need_a_prompt_from_whoever_reads_them(tmp_path: Path) -> None:
    rows = [
        {key: value for key, value in {**ROLLOUT, "id": id}.items() if key not in ("step", "prompt")} for id in "12"
    ]
    path = write(tmp_path / "rows.jsonl", *rows)
    with pytest.raises(DataError, match="no prompt"):
        read_trajectories(path)
    (row,) = read_trajectories(path, lambda row: ROW["prompt"] if row["id"] == "2" else None)
    assert (row.id, row.prompt[0]["content"], row.origin) == ("2", "What is 2 + 2?", "import")


@given(st.lists(TRAJECTORIES))
def test_distinct_rows_have_the_mean_of_their_runs(rows: list[Trajectory]) -> None:
    kept = distinct(rows, text_of)
    assert len({(row.group, row.completion) for row in kept}) == len(kept)
    assert sum(row.rewards for row in kept) == len(rows)
    for row in kept:
        same = [item for item in rows if (item.group, item.completion) == (row.group, row.completion)]
        assert row.reward == pytest.approx(sum(item.reward for item in same) / len(same))
        assert row.correct == all(item.correct for item in same)
        assert (row.logprobs is not None) == any(item.logprobs is not None for item in same)
    again = distinct(kept, text_of)
    assert again == kept


@given(st.lists(TRAJECTORIES))
def test_a_standing_lies_between_what_was_earned_and_the_domains_mean(rows: list[Trajectory]) -> None:
    found = standings(rows, text_of)
    assert set(found) == {(row.domain, row.completion) for row in rows}
    for (_, workflow), standing in found.items():
        own = [row.reward for row in rows if row.completion == workflow]
        bounds = sum(own) / len(own), sum(row.reward for row in rows) / len(rows)
        assert min(bounds) - 1e-9 <= standing.mean <= max(bounds) + 1e-9
        assert 0 <= standing.error <= 0.5
    once = standings(distinct(rows, text_of), text_of)
    assert {name: each.mean for name, each in once.items()} == pytest.approx(
        {name: each.mean for name, each in found.items()}
    )


@given(st.lists(TRAJECTORIES))
def test_simplest_first_is_an_order_and_begins_near_the_best(rows: list[Trajectory]) -> None:
    known = standings(rows, text_of)
    ordered = simplest_first(rows, known, text_of)
    assert sorted(map(id, ordered)) == sorted(map(id, rows))
    for index, row in enumerate(ordered):
        best = max((known[left.domain, left.completion] for left in ordered[index:]), key=lambda each: each.mean)
        assert known[row.domain, row.completion].mean >= best.mean - best.error


def test_one_lucky_run_does_not_outrank_what_is_mostly_right_nor_a_longer_design_what_is_as_good() -> None:
    def runs(text: str, *rewards: float, domain: str = "math") -> list[Trajectory]:
        row = Trajectory.from_row(ROW)
        return [replace(row, completion=text, reward=reward, domain=domain) for reward in rewards]

    lucky, good, poor = runs("-", 1.0), runs("good", *[1.0] * 15, 0.2), runs("poor", *[0.2] * 16)
    as_good = runs("as good, and longer", *[1.0] * 16)
    everything = [*lucky, *good, *poor, *as_good]
    known = standings(everything, text_of)
    first = [lucky[0], as_good[0], good[0], poor[0]]
    assert [row.completion for row in simplest_first(first, known, text_of)] == [
        "good", "as good, and longer", "-", "poor",
    ]  # fmt: skip
    elsewhere = runs("good", *[0.0] * 9, domain="qa")
    assert standings([*everything, *elsewhere], text_of)["math", "good"] == known["math", "good"]


@given(st.lists(TRAJECTORIES), st.integers(1, 3), st.integers(1, 4), st.sampled_from(["best", "spread"]))
def test_no_cap_is_passed_and_none_is_kept_for_nothing(
    rows: list[Trajectory], per_group: int, per_workflow: int, order: Any
) -> None:
    rows = distinct(rows, text_of)
    kept = capped(rows, text_of, per_group=per_group, per_workflow=per_workflow, order=order)
    groups, workflows = Counter(row.group for row in kept), Counter(row.completion for row in kept)
    assert all(count <= per_group for count in groups.values())
    assert all(count <= per_workflow for count in workflows.values())
    assert len(set(map(id, kept))) == len(kept) and set(map(id, kept)) <= set(map(id, rows))
    for row in rows:  # what was left out met a cap
        if not any(row is item for item in kept):
            assert groups[row.group] == per_group or workflows[row.completion] == per_workflow
    if per_workflow >= len(rows) and order == "best":
        for name, group in by_group(rows).items():
            best = sorted((row.reward for row in group), reverse=True)[:per_group]
            assert sorted((row.reward for row in kept if row.group == name), reverse=True) == best


def test_a_spread_keeps_the_best_and_the_worst() -> None:
    rows = [
        replace(Trajectory.from_row(ROW), completion=str(reward), reward=reward) for reward in (0.2, 0.4, 0.0, 1.0, 0.7)
    ]
    kept = capped(rows, text_of, per_group=4, per_workflow=1, order="spread")
    assert [row.reward for row in kept] == [1.0, 0.0, 0.7, 0.2]


@given(st.lists(TRAJECTORIES, min_size=1))
def test_statistics_add_up(rows: list[Trajectory]) -> None:
    found = statistics(rows, text_of)
    assert found.rows == len(rows) == sum(found.origins.values()) == sum(found.outcomes.values())
    assert found.groups_with_signal == sum(has_signal(group) for group in by_group(rows).values()) <= found.groups
    assert 0 < found.largest_workflow <= 1 and found.workflows <= found.rows
    json.dumps(found.to_dict())
    assert str(found.rows) in found.line()


def test_files_together_have_one_group_a_prompt(tmp_path: Path) -> None:
    searched = read_trajectories(write(tmp_path / "trajectories.jsonl", ROW))
    trained = read_trajectories(write(tmp_path / "rollouts.jsonl", ROLLOUT))
    edit = [replace(searched[0], form="edit")]
    assert len({row.group for row in (*searched, *trained)}) == 2
    assert [len(group) for group in by_group(regrouped([*searched, *trained, *edit])).values()] == [2, 1]


# Held-out problems


def trajectory_of(problem: Problem, text: str) -> Trajectory:
    row = Trajectory.from_row(ROW)
    prompt = ({"role": "user", "content": text},)
    return replace(row, source=problem.source, id=problem.id, domain=problem.domain, prompt=prompt)


@pytest.mark.parametrize("source", ["arithmetic", "invented_facts", "small_functions", "humaneval"])
def test_held_out_problems_are_refused_and_training_ones_are_not(source: str) -> None:
    train, heldout = (load_problems(source, part, 20, 3) for part in ("train", "heldout"))  # type: ignore[arg-type]
    refuse_leaks([trajectory_of(problem, problem.view.text) for problem in train], heldout)
    refuse_leaks([trajectory_of(problem, problem.question) for problem in train])  # a brief prompt
    for problem in heldout:
        rows = [trajectory_of(train[0], train[0].view.text), trajectory_of(problem, problem.view.text)]
        with pytest.raises(DataError, match=f"1 of 2 trajectories .*{source}/{problem.id}"):
            refuse_leaks(rows)
        brief = [trajectory_of(problem, problem.question)]
        with pytest.raises(DataError, match="held-out"):
            refuse_leaks(brief, heldout)


def test_one_question_about_two_passages_is_two_problems() -> None:
    """A brief prompt has the question alone, which another passage is asked too."""
    train, heldout = (load_problems("invented_facts", part, 400, 1) for part in ("train", "heldout"))  # type: ignore[arg-type]
    asked = {problem.question for problem in heldout}
    rows = [trajectory_of(problem, problem.question) for problem in train if problem.question in asked]
    assert len(rows) > 10
    refuse_leaks(rows, heldout)
    with pytest.raises(DataError, match="1 of"):
        refuse_leaks([*rows, replace(rows[0], source="copied")], heldout)


def test_the_same_text_under_another_id_is_the_same_problem() -> None:
    problem = Problem("What is 2 + 2?", "4", "mine", "math", "7")
    row = replace(trajectory_of(problem, problem.question), id="8")
    refuse_leaks([row])
    with pytest.raises(DataError, match="mine/8"):
        refuse_leaks([row], [problem])
    refuse_leaks([replace(row, form="edit")], [problem])


def test_the_test_set_of_a_benchmark_is_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trajectory_sets, "PROCESSED_FOLDER", tmp_path)
    (tmp_path / "gsm8k").mkdir()
    write(tmp_path / "gsm8k" / "test.jsonl", Problem("How many?", "4", "gsm8k", "math", "t1").to_row())
    row = Trajectory.from_row(ROW)
    refuse_leaks([row])
    with pytest.raises(DataError, match="gsm8k/t1"):
        refuse_leaks([replace(row, id="t1")])
    known = [Problem(f"What is {number} + 1?", "2", "gsm8k", "math", f"q{number}") for number in range(20)]
    (tmp_path / "gsm8k" / "train.jsonl").write_text("".join(json.dumps(each.to_row()) + "\n" for each in known))
    for problem in known:
        trained = replace(row, id=problem.id)
        if in_heldout_part(problem):
            with pytest.raises(DataError, match=f"gsm8k/{problem.id}"):
                refuse_leaks([trained])
        else:
            refuse_leaks([trained])
    assert 0 < sum(map(in_heldout_part, known)) < 20
