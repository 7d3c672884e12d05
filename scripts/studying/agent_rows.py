"""One row of the agents' study: what a team's run came to.

Example row of `recipes/learning/agents.jsonl`, shortened:

    {"team": "math_tool", "setting": "joint", "seed": 0, "fingerprint": "9f...", "commit": "1a2b3c", "n": 100,
     "before": 0.45, "after": 0.68, "gain_ci95": [0.1, 0.36], "verdicts": [0.587, 0.667], "alone": 0.61,
     "seconds": {"training": 240.0}}
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from data.files import write_atomically
from data.problem import DataError

RECIPES = Path(__file__).parents[2] / "recipes"
TEAMS = ("math_tool", "deepcoder", "search_qa", "deepresearch", "swe")
JOINT = "joint"
# Setting -> flags beside the values of a team's YAML.
SETTINGS: Mapping[str, Mapping[str, object]] = {
    JOINT: {},
    "separate": {"adapters": "per_agent"},
    "alternating": {"alternate": 5},
}


@dataclass(frozen=True)
class AgentRow:
    """What one run came to.

    Args:
        team (`str`): the recipe.
        setting (`str`): a key of `SETTINGS`.
        seed (`int`): of the run.
        fingerprint (`str`): of the settings that it was made with.
        commit (`str`): of the code that it was made with.
        n (`int`): held-out problems.
        before, after (`float`): the team's mean held-out reward in [0, 1]; before are the untrained roles.
        gain_ci95 (`tuple[float, float]`): 95 % interval of the gain, paired bootstrap over problems.
        verdicts (`tuple[float, float]`, *optional*): balanced accuracy of the verifier or validator before and after,
            where the team has one.
        alone (`float`, *optional*): of a single agent that writes as many tokens as the trained team, where it was run.
        seconds (`Mapping[str, float]`): wall time of each phase.
    """

    team: str
    setting: str
    seed: int
    fingerprint: str
    commit: str
    n: int
    before: float
    after: float
    gain_ci95: tuple[float, float]
    verdicts: tuple[float, float] | None
    alone: float | None
    seconds: Mapping[str, float]

    @property
    def key(self) -> tuple[str, str, int]:
        """What no two rows have in common."""
        return self.team, self.setting, self.seed


def fingerprint(team: str, setting: str) -> str:
    """Return a hash of a setting's flags, the team's YAML files and its script; empty for one that there is not."""
    if team not in TEAMS or setting not in SETTINGS:
        return ""
    digest = hashlib.sha256(repr(sorted(SETTINGS[setting].items())).encode())
    configs = [RECIPES / "configs" / f"{team}_{part}.yaml" for part in ("quickstart", "warmstart")]
    for file in (*configs, RECIPES / "policy" / f"{team}_script.py"):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def flags_of(team: str, setting: str, seed: int, output: Path) -> list[str]:
    """Return the recipe's flags for one run; its warm start is that of its seed, whatever the setting.

    Args:
        team (`str`): the recipe.
        setting (`str`): a key of `SETTINGS`.
        seed (`int`): of problems, warm start and sampling.
        output (`Path`): folder of all runs.
    """
    folder = folder_of(team, setting, seed, output)
    values = {
        "config": RECIPES / "configs" / f"{team}_quickstart.yaml",
        "seed": seed,
        "output_dir": folder,
        "model_name_or_path": folder / "policy",
        "resume_from_checkpoint": "auto",
        **SETTINGS[setting],
    }
    return [text for name, value in values.items() for text in (f"--{name}", str(value))]


def folder_of(team: str, setting: str, seed: int, output: Path) -> Path:
    """Return the folder of a run."""
    return output / f"{team}_{setting}_seed{seed}"


def row_of(folder: Path, team: str, setting: str, seed: int, used: str, commit: str) -> AgentRow:
    """Return the row of a finished run, from the `summary.json` in its folder.

    Args:
        folder (`Path`): the run's.
        team (`str`): the recipe.
        setting (`str`): a key of `SETTINGS`.
        seed (`int`): of the run.
        used (`str`): fingerprint that it was made with.
        commit (`str`): that it was made with.
    """
    summary = json.loads((folder / "summary.json").read_text())
    heldout, agents = summary["heldout"], summary["agents"]
    (low, high), alone = heldout["gain_ci95"], heldout["baselines"].get("single_agent")
    name = next((name for name in agents["after"] if name.endswith("/balanced_accuracy")), None)
    judged = None if name is None else [agents[part].get(name) for part in ("before", "after")]
    return AgentRow(
        team,
        setting,
        seed,
        used,
        commit,
        n=heldout["n"],
        before=round(heldout["before"], 4),
        after=round(heldout["after"], 4),
        gain_ci95=(round(low, 4), round(high, 4)),
        verdicts=None if judged is None or None in judged else (round(judged[0], 4), round(judged[1], 4)),
        alone=None if alone is None else round(alone, 4),
        seconds=summary["seconds"],
    )


def read_agent_rows(file: Path) -> list[AgentRow]:
    """Read the rows that there are; none when the file is not there.

    Raises:
        DataError: a line is no row; names it.
    """
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines() if file.is_file() else [], start=1):
        try:
            row = json.loads(line)
            judged = row["verdicts"]
            pairs = {"gain_ci95": tuple(row["gain_ci95"]), "verdicts": None if judged is None else tuple(judged)}
            rows.append(AgentRow(**{**row, **pairs}))
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{file}, line {number}: not a row of the agents' study: {error}") from None
    return rows


def write_agent_rows(file: Path, rows: Sequence[AgentRow]) -> None:
    """Write all rows in order, so that a run more is a line more."""
    with write_atomically(file) as out:
        for row in sorted(rows, key=lambda row: row.key):
            out.write(json.dumps(asdict(row)) + "\n")
