"""AFlow's own folders: read the rounds of a search of its, and write ours as it lays them out.

    workspace/MATH/workflows/results.json              [{"round": 1, "score": 0.5, "avg_cost": 0.001, ...}, ...]
                             round_1/graph.py          the workflow
                                     prompt.py         its prompts
                                     experience.json   {"father node": 1, "modification": ..., "before": ..., ...}
                                     log.json          failed problems; not read
                             template/                 the operators (`aflow_template.py`)

Layout as in FoundationAgents/AFlow, `scripts/optimizer_utils`. Nothing in the folder is run.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from aflow_ops.errors import UsageError
from aflow_ops.language import Workflow, prompt_definitions
from aflow_ops.search.aflow_template import CLASSES, AFlowTemplate, write_template
from aflow_ops.search.expand import as_completion
from aflow_ops.search.native import native_files
from aflow_ops.search.node import Node
from aflow_ops.search.tree import Tree
from aflow_ops.workflow_files import read_source
from data.files import write_atomically

_ROUND = re.compile(r"round_(\d+)")


@dataclass(frozen=True)
class AFlowRound:
    """One round of AFlow's.

    Args:
        number (`int`): from 1.
        completion (`str`): its workflow with its prompts.
        modification (`str`): what it changed of its father; empty for the first one.
        father (`int`, *optional*): the round it was made from.
        score (`float`, *optional*): its mean score over AFlow's validations.
    """

    number: int
    completion: str
    modification: str
    father: int | None
    score: float | None


def read_aflow_folder(folder: Path) -> list[AFlowRound]:
    """Read the rounds of a `workflows` folder, or of the data set's folder around it, in order.

    A round without a workflow is passed over: AFlow makes the folder before it asks for the workflow.

    Args:
        folder (`Path`): where `round_1` lies.

    Raises:
        UsageError: there is no round, or a file cannot be read; says which.
    """
    folder = folder / "workflows" if (folder / "workflows").is_dir() else folder
    found = ((path, match) for path in _entries(folder) if (match := _ROUND.fullmatch(path.name)))
    numbers = sorted(int(match[1]) for path, match in found if (path / "graph.py").is_file())
    if not numbers:
        raise UsageError(
            f"{folder} has no round_N folder with a graph.py: give the `workflows` folder of a data set in AFlow's "
            "workspace"
        )
    scores = _scores(folder / "results.json")
    return [_round(folder / f"round_{number}", number, scores.get(number)) for number in numbers]


def _entries(folder: Path) -> Iterable[Path]:
    return folder.iterdir() if folder.is_dir() else ()


def _round(folder: Path, number: int, score: float | None) -> AFlowRound:
    prompts = prompt_definitions(read_source(folder / "prompt.py")) if (folder / "prompt.py").is_file() else {}
    experience = _json(folder / "experience.json") if (folder / "experience.json").is_file() else {}
    experience = experience if isinstance(experience, dict) else {}
    father = experience.get("father node")
    father = int(father) if isinstance(father, str) and father.isdecimal() else father
    return AFlowRound(
        number=number,
        completion=as_completion(read_source(folder / "graph.py"), prompts),
        modification=str(experience.get("modification") or ""),
        father=father if isinstance(father, int) else None,
        score=score,
    )


def _scores(path: Path) -> dict[int, float]:
    """Mean score of every round; AFlow has a row for each validation."""
    rows = _json(path) if path.is_file() else []
    found: dict[int, list[float]] = {}
    for row in rows if isinstance(rows, list) else []:
        number, score = (row.get("round"), row.get("score")) if isinstance(row, dict) else (None, None)
        if isinstance(number, int) and isinstance(score, int | float):
            found.setdefault(number, []).append(float(score))
    return {number: fmean(values) for number, values in found.items()}


def _json(path: Path) -> Any:
    try:
        return json.loads(read_source(path))
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}") from None


def write_aflow_folder(
    nodes: Sequence[Node],
    folder: Path,
    *,
    dataset: str,
    check: Callable[[str], Workflow],
    problems: int,
    template: AFlowTemplate | None = None,
) -> list[int]:
    """Write every node that ran as a round of AFlow's, with the template of their operators.

    Args:
        nodes (`Sequence[Node]`): of a search. Rejected and crashed ones are left out, as they are by AFlow.
        folder (`Path`): of the rounds; it is created.
        dataset (`str`): AFlow's name of the data set.
        check (`Callable`): parses a completion for the search's problems.
        problems (`int`): size of the validation slice, for the cost of a whole validation.
        template (`AFlowTemplate`, *optional*): that the search started from.

    Returns:
        `list[int]` of the ids of the nodes that became rounds 1, 2, ...
    """
    kept = [node for node in nodes if node.status == "ok" and node.validation is not None]
    rounds = {node.id: number for number, node in enumerate(kept, start=1)}
    results, used, tree = [], set[str](), Tree(nodes)
    for node in kept:
        number, workflow = rounds[node.id], check(as_completion(node.workflow, node.prompts))
        files = native_files(workflow, dataset=dataset, number=number)
        used |= set(workflow.operators)
        place = folder / f"round_{number}"
        _write(place / "graph.py", files.graph)
        _write(place / "prompt.py", files.prompt)
        _write(place / "__init__.py", "")
        row = {"round": number, "score": tree.reward(node), "avg_cost": node.usd_per_problem}
        results.append({**row, "total_cost": node.usd_per_problem * problems, "time": 0})
        parent = next((other for other in kept if other.id == node.parent), None)
        if parent is not None:
            before, after = tree.reward(parent), tree.reward(node)
            experience = {"father node": rounds[parent.id], "modification": node.modification}
            experience |= {"before": before, "after": after, "succeed": after > before}
            _write(place / "experience.json", json.dumps(experience, indent=4))
    _write(folder / "results.json", json.dumps(results, indent=4))
    lacking = write_template(folder / "template", used, template)
    if lacking:
        print(
            f"warning: AFlow has no operator {', '.join(lacking)}: write a class of that name into "
            f"{folder / 'template' / CLASSES} before its loader runs these rounds",
            file=sys.stderr,
        )
    return list(rounds)


def _write(path: Path, text: str) -> None:
    with write_atomically(path) as file:
        file.write(text)
