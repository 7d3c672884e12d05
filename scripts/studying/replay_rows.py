"""One row of the replay study: what a way to learn from search came to for one seed.

Example row of `recipes/learning/replay.jsonl`, shortened:

    {"setting": "mixed", "seed": 0, "fingerprint": "9f...", "commit": "1a2b3c", "before": 0.31, "after": 0.68,
     "domains": {"math": 0.9}, "fixed": {"math": 0.92}, "tokens": 410000, "search_tokens": 96000, "zero_signal": 0.21,
     "tokens_to_fixed": 300000, "masked_share": null, "seconds": 812.0}
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from data.files import write_atomically
from data.problem import DataError


@dataclass(frozen=True)
class ReplayRow:
    """What one run came to.

    Args:
        setting (`str`): a key of `replay_settings.SETTINGS`.
        seed (`int`): of the run.
        fingerprint (`str`): of the settings that it was made with.
        commit (`str`): of the code that it was made with.
        before, after (`float`): mean held-out reward in [0, 1], of the warm start and of the trained policy.
        domains (`Mapping[str, float]`): `after` of each domain.
        fixed (`Mapping[str, float]`): the best fixed workflow's mean of each domain, chosen with hindsight.
        tokens (`int`): executor tokens in all, those from the cache too.
        search_tokens (`int`): of these the search's.
        zero_signal (`float`, *optional*): mean share of groups whose rewards are all equal, where groups are sampled.
        tokens_to_fixed (`int`, *optional*): tokens until the training reward was at the mean of `fixed`, where groups
            are sampled and it was.
        masked_share (`float`, *optional*): of the masked settings, the share of held-out workflows of the masked domain
            that use the operator which the warm start left out.
        seconds (`float`): wall time of its commands that had not ended before; what settings of a seed share is in the
            first one's.
    """

    setting: str
    seed: int
    fingerprint: str
    commit: str
    before: float
    after: float
    domains: Mapping[str, float]
    fixed: Mapping[str, float]
    tokens: int
    search_tokens: int
    zero_signal: float | None
    tokens_to_fixed: int | None
    masked_share: float | None
    seconds: float

    @property
    def key(self) -> tuple[str, int]:
        """What no two rows have in common."""
        return self.setting, self.seed


def zero_signal_of(folder: Path) -> float | None:
    """Return the mean share of groups without a signal, where the run logged it."""
    try:
        with (folder / "metrics.csv").open(newline="") as file:
            values = [row.get("wa_grpo/zero_signal_before") for row in csv.DictReader(file)]
    except OSError:
        return None
    known = [float(value) for value in values if value]
    return round(fmean(known), 4) if known else None


def best_fixed(folder: Path) -> dict[str, float]:
    """Return the best fixed workflow's mean of each domain, from the run that evaluated them."""
    by_domain: Mapping[str, Any] = _json(folder / "summary.json")["heldout"]["by_domain"]
    return {name: round(max(numbers["baselines"].values()), 4) for name, numbers in by_domain.items()}


def rewards_of(evaluation: Path) -> tuple[float, dict[str, float]]:
    """Return mean reward, in all and by domain, of an evaluation's folder."""
    summary = _json(evaluation / "summary.json")
    domains = {name: round(part["reward"], 4) for name, part in summary["by_domain"].items()}
    return round(summary["reward"], 4), domains


def share_with(evaluation: Path, domain: str, operator: str) -> float:
    """Return the share of a domain's workflows in an evaluation that call an operator."""
    rows = [json.loads(line) for line in (evaluation / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    calls = [(row.get("trace") or {}).get("calls", []) for row in rows if row["domain"] == domain]
    return round(fmean([any(call["operator"] == operator for call in each) for each in calls] or [0.0]), 4)


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def read_replay_rows(file: Path) -> list[ReplayRow]:
    """Read the rows that there are; none when the file is not there.

    Raises:
        DataError: a line is no row; names it.
    """
    rows = []
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(ReplayRow(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise DataError(f"{file}, line {number}: not a row of the study: {error}") from None
    return rows


def write_replay_rows(file: Path, rows: Sequence[ReplayRow]) -> None:
    """Write all rows, by setting and seed."""
    with write_atomically(file) as out:
        for row in sorted(rows, key=lambda row: (row.setting, row.seed)):
            out.write(json.dumps(asdict(row)) + "\n")
