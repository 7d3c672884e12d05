"""One row of the learning study: what a run came to.

Example row of `recipes/learning/rows.jsonl`, shortened:

    {"setting": "quickstart", "seed": 0, "fingerprint": "9f...", "commit": "1a2b3c", "empty_cache": false, "n": 60,
     "before": 0.31, "after": 0.68, "gain_ci95": [0.27, 0.46], "domains": {"math": {"before": 0.33, "after": 0.87,
     "best_fixed": 0.89}}, "zero_signal": 0.21, "curve": [0.3, 0.34], "seconds": {"warm_start": 61.0}, "tokens": 372.1,
     "routers": {"by_domain": {"reward": 0.6, "difference": 0.08, "ci95": [0.01, 0.15]}}}
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from data.files import write_atomically
from data.problem import DataError

# "Reaches the best fixed workflow" means this share of its reward.
ENOUGH = 0.9


@dataclass(frozen=True)
class StudyRow:
    """What one run came to.

    Args:
        setting (`str`): a key of `SETTINGS`.
        seed (`int`): of the run.
        fingerprint (`str`): of the settings that it was made with.
        commit (`str`): of the code that it was made with.
        empty_cache (`bool`): whether it began without cached replies.
        n (`int`): held-out problems.
        before, after (`float`): mean held-out reward in [0, 1].
        gain_ci95 (`tuple[float, float]`): 95 % interval of the gain, paired bootstrap over problems.
        domains (`Mapping`): `before`, `after` and, where baselines were run, `best_fixed` of each domain.
        zero_signal (`float`): mean share of groups whose rewards are all equal.
        curve (`Sequence[float]`): mean training reward of each step.
        seconds (`Mapping[str, float]`): wall time of each phase.
        routers (`Mapping`): `reward` of the best fixed workflows, chosen as `recipes/run/routers.py` says, and the
            policy's `difference` to it with its interval `ci95`; none where no baseline was run, or a run's summary
            does not tell.
        tokens (`float`, *optional*): executor tokens that a workflow takes, cached replies included, mean over the
            last third of the steps; none in rows of earlier versions.
    """

    setting: str
    seed: int
    fingerprint: str
    commit: str
    empty_cache: bool
    n: int
    before: float
    after: float
    gain_ci95: tuple[float, float]
    domains: Mapping[str, Mapping[str, float]]
    zero_signal: float
    curve: Sequence[float]
    seconds: Mapping[str, float]
    routers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tokens: float | None = None

    @property
    def key(self) -> tuple[str, int]:
        """What no two rows have in common."""
        return self.setting, self.seed

    @property
    def gains(self) -> bool:
        """Whether the interval of the gain lies above 0."""
        return self.gain_ci95[0] > 0

    @property
    def fallen(self) -> list[str]:
        """Domains that ended below where they began."""
        return [name for name, numbers in self.domains.items() if numbers["after"] < numbers["before"]]

    @property
    def short(self) -> list[str]:
        """Domains below 90 % of their best fixed workflow; none where no baseline was run."""
        return [
            name
            for name, numbers in self.domains.items()
            if "best_fixed" in numbers and numbers["after"] < ENOUGH * numbers["best_fixed"]
        ]


def row_of(folder: Path, setting: str, seed: int, fingerprint: str, commit: str, *, empty_cache: bool) -> StudyRow:
    """Return the row of a finished run, from the `summary.json` and `metrics.csv` in its folder."""
    summary = json.loads((folder / "summary.json").read_text())
    heldout: dict[str, Any] = summary["heldout"]
    with (folder / "metrics.csv").open(newline="") as file:
        steps = [row for row in csv.DictReader(file) if row.get("reward")]
    return StudyRow(
        setting,
        seed,
        fingerprint,
        commit,
        empty_cache,
        n=heldout["n"],
        before=round(heldout["before"], 4),
        after=round(heldout["after"], 4),
        gain_ci95=(round(heldout["gain_ci95"][0], 4), round(heldout["gain_ci95"][1], 4)),
        domains={name: _domain(numbers) for name, numbers in heldout["by_domain"].items()},
        zero_signal=round(fmean(float(row["wa_grpo/zero_signal_before"]) for row in steps), 4),
        curve=[round(float(row["reward"]), 4) for row in steps],
        seconds=summary["seconds"],
        routers={name: _router(numbers) for name, numbers in heldout.get("routers", {}).items()},
        tokens=_tokens(steps[-math.ceil(len(steps) / 3) :]),
    )


def _tokens(steps: Sequence[Mapping[str, str]]) -> float | None:
    """Return the mean over steps; a step in which no workflow ran says nothing."""
    said = [float(row["executor/tokens"]) for row in steps if row.get("executor/tokens")]
    return round(fmean(said), 1) if said else None


def _domain(numbers: Mapping[str, Any]) -> dict[str, float]:
    fixed = numbers["baselines"].values()
    means = {"before": numbers["before"], "after": numbers["after"], **({"best_fixed": max(fixed)} if fixed else {})}
    return {name: round(value, 4) for name, value in means.items()}


def _router(numbers: Mapping[str, Any]) -> dict[str, Any]:
    reward, difference = round(numbers["reward"], 4), round(numbers["difference"], 4)
    return {"reward": reward, "difference": difference, "ci95": [round(end, 4) for end in numbers["difference_ci95"]]}


def read_rows(file: Path) -> list[StudyRow]:
    """Read the rows that there are; none when the file is not there.

    Raises:
        DataError: a line is no row; names it.
    """
    if not file.is_file():
        return []
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            rows.append(StudyRow(**{**row, "gain_ci95": tuple(row["gain_ci95"])}))
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{file}, line {number}: not a row of the study: {error}") from None
    return rows


def write_rows(file: Path, rows: Sequence[StudyRow]) -> None:
    """Write all rows, by setting and seed, so that a run more is a line more."""
    with write_atomically(file) as out:
        for row in sorted(rows, key=lambda row: (row.setting, row.seed)):
            out.write(json.dumps(asdict(row)) + "\n")
