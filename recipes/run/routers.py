"""The trained policy against routers: fixed workflows chosen for all problems, for each domain, or for each kind.

Example of one router in `summary.json` under `heldout.routers`:

    "by_domain": {"workflows": {"math": "Programmer", "qa": "AnswerGenerate"}, "n": 75, "reward": 0.55,
                  "difference": 0.12, "difference_ci95": [0.04, 0.2]}

A router is chosen with hindsight, on the problems that it is then compared on, which favours it: it has the luck of the
best of a dozen workflows in every group, and the smaller the groups the more of it. A policy above one is above what
anybody could have chosen by hand at this granularity.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from rewards.evaluation import by_problem
from rewards.statistics import paired_bootstrap

Row = Mapping[str, Any]
# Router -> the column of a row by which it chooses, none for one workflow for all; the finer the later. A problem's
# kind is its source.
ROUTERS: Mapping[str, str | None] = {"single": None, "by_domain": "domain", "by_source": "source"}
NAMES = {
    "single": "the best fixed workflow",
    "by_domain": "the best of each domain",
    "by_source": "the best of each kind",
}


def against_routers(policy: Sequence[Row], baselines: Mapping[str, Sequence[Row]]) -> dict[str, dict[str, Any]]:
    """Compare the policy with the best fixed workflow of all, of each domain and of each kind of problem.

    Args:
        policy (`Sequence[Mapping]`): the policy's rows, as `Rollout.to_row()` gives them.
        baselines (`Mapping[str, Sequence[Mapping]]`): every fixed workflow's rows on the same problems.

    Returns:
        `dict`: by the names in `ROUTERS`: the workflow chosen for each group (`workflows`; the only group of `single`
        is `all`), the problems compared (`n`), the router's mean `reward` on them, and the policy's `difference` to it
        with its paired 95 % bootstrap interval over problems. Empty without problems in common, or where there is
        nothing to choose from: a team's one control is no router.
    """
    if len(baselines) < 2:
        return {}
    earned = by_problem(policy)
    fixed = {name: by_problem(rows) for name, rows in baselines.items()}
    groups = {(row["source"], row["id"]): row for row in policy}
    compared = {}
    for router, column in ROUTERS.items():
        chosen: dict[str, str] = {}
        rewards: dict[tuple[str, str], float] = {}
        for group in sorted({_group(row, column) for row in policy}):
            keys = {key for key, row in groups.items() if _group(row, column) == group}
            name = _best(fixed, keys)
            if name is not None:
                chosen[group] = name
                rewards |= {key: value for key, value in fixed[name].items() if key in keys}
        paired = sorted(earned.keys() & rewards.keys())
        if paired:
            routed = [rewards[key] for key in paired]
            difference, low, high = paired_bootstrap(routed, [earned[key] for key in paired], seed=0)
            compared[router] = {
                "workflows": chosen,
                "n": len(paired),
                "reward": fmean(routed),
                "difference": difference,
                "difference_ci95": [low, high],
            }
    return compared


def router_line(routers: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the policy's difference to every router, with its interval, in a sentence for the terminal."""
    told = [
        f"{NAMES[name]} {numbers['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"
        for name, numbers in routers.items()
        for low, high in [numbers["difference_ci95"]]
    ]
    return f"against, chosen with hindsight, {', '.join(told)}"


def _group(row: Row, column: str | None) -> str:
    return "all" if column is None else str(row[column])


def _best(fixed: Mapping[str, Mapping[tuple[str, str], float]], keys: set[tuple[str, str]]) -> str | None:
    """The fixed workflow with the highest mean on these problems, the first of equal ones; `None` if none was run."""
    means = {
        name: fmean(values)
        for name, rewards in fixed.items()
        if (values := [rewards[k] for k in keys & rewards.keys()])
    }
    return max(means, key=lambda name: means[name], default=None)
