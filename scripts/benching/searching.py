"""The stage of `scripts/bench.py` for the search: its wall time over that of its longest chain of calls."""

import asyncio
import hashlib
import json
import sys
import tempfile
from asyncio.subprocess import DEVNULL
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aflow_ops.errors import UsageError
from aflow_ops.search.evaluate import Rungs
from scripts.benching.endpoint import Messages, StubEndpoint
from scripts.benching.stage import Stage

LATENCY, PROBLEMS, ROUNDS, PARALLEL = 0.2, 64, 20, 4
_ASKS_FOR_EDIT = "You improve agent workflows"


def scripted(messages: Messages) -> str:
    """Play optimizer and executor: proposals of one to three calls, answers that are right more often for some."""
    said = "\n".join(message["content"] for message in messages)
    dice = int(hashlib.sha256(said.encode()).hexdigest()[:8], 16)
    if _ASKS_FOR_EDIT not in messages[0]["content"]:
        return "42" if dice % 100 < 20 + 10 * (said.count("Think") % 7) else "17"
    steps = "".join(
        f"    text = (await custom(input=problem + text, instruction='{'Think. ' * (dice % 7)}{dice}'))['response']\n"
        for _ in range(1 + dice % 3)
    )
    code = f"async def workflow(problem):\n    text = ''\n{steps}    return text"
    return f"<modification>try {dice}</modification>\n```python\n{code}\n```"


async def searching() -> float:
    """Search on 64 problems for 20 rounds, four at a time, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder, StubEndpoint(scripted, LATENCY) as stub:
        data, out = Path(folder) / "rows.jsonl", Path(folder) / "out"
        rows = [{"question": f"What is {i} + 1?", "answer": "42", "source": "gsm8k"} for i in range(4 * PROBLEMS)]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        flags = {
            "data": data, "output": out, "proposer": "openai", "optimizer_base_url": stub.url,
            "executor_base_url": stub.url, "executor_cache_dir": "none", "executor_max_concurrency": 512,
            "search_rounds": ROUNDS, "parallel": PARALLEL, "validation_problems": PROBLEMS, "heldout_problems": 0,
        }  # fmt: skip
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "scripts/search.py", *words, stdout=DEVNULL, stderr=DEVNULL
        )
        if await process.wait() != 0:
            raise UsageError("scripts/search.py failed; run it by hand to see why")
        seconds = json.loads((out / "summary.json").read_text())["seconds_by"]["search"]
        return float(seconds) / critical_path([json.loads(line) for line in (out / "nodes.jsonl").open()])


def critical_path(nodes: Sequence[dict[str, Any]]) -> float:
    """Return the seconds of calls that must wait for one another: of each wave the longest chain.

    A chain is the calls of the optimizer, then for every rung of problems the workflow's calls, one after the other.

    Args:
        nodes (`Sequence[dict]`): rows of nodes.jsonl.
    """
    sizes = Rungs(tuple(map(str, range(PROBLEMS)))).sizes()
    waves: dict[int, float] = {}
    for node in nodes:
        ran = node["validation"]["n"] if node["validation"] else 0
        rungs = sum(size <= ran for size in sizes)
        calls = len(node["attempts"]) + rungs * node["workflow"].count("await ")
        wave = -(-node["round"] // PARALLEL)
        waves[wave] = max(waves.get(wave, 0.0), LATENCY * calls)
    return sum(waves.values())


STAGES = [Stage("search 20 rounds x 64 problems x 0.2 s", searching, "times its critical path", "goal 1.5")]
