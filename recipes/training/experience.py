"""Trajectories as a recipe is given them: files and folders in, distinct and capped rows of training problems out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from aflow_ops.domains import DOMAIN_PROMPTS
from aflow_ops.errors import UsageError, WorkflowError
from aflow_ops.language import Workflow, parse_workflow
from aflow_ops.policy_prompt import PROMPT_STYLES, PromptStyle, policy_messages
from aflow_ops.search.canonical import workflow_key
from data.corpus import with_task_line
from data.problem import Problem, ProblemView
from data.trajectories import Messages, Trajectory, read_trajectories, regrouped
from data.trajectory_sets import by_group, capped, distinct, refuse_leaks, simplest_first, standings
from recipes.run.rollout_log import LIVE, rollout_files

# What a folder may hold, and is asked for in this order: a search's; those that a run made of its own; all that a run
# was rewarded for; an evaluation's.
FOUND = "trajectories.jsonl"
OF_A_RUN = (f"search/episode-*/{FOUND}", f"iteration-*/{FOUND}")
FILES = (FOUND, LIVE, "rows.jsonl")
_SEARCH = "search:"


@dataclass(frozen=True)
class Caps:
    """How much of a set is used, so that no problem and no shape drowns the rest.

    Args:
        per_group (`int`): rows of a problem's prompt.
        per_workflow (`int`): rows of a workflow, over all problems.
        order (`str`): whether a group gives its `best` rows, or a `spread` of good and bad ones.
    """

    per_group: int
    per_workflow: int
    order: Literal["best", "spread"]


def load_trajectories(
    places: Sequence[str],
    *,
    heldout: Sequence[Problem] = (),
    problems: Sequence[Problem] = (),
    style: PromptStyle = "full",
    task_line: bool = False,
) -> list[Trajectory]:
    """Read trajectories, refuse held-out problems, put prompts into one style, and merge equal workflows of a group.

    Args:
        places (`Sequence[str]`): files that `read_trajectories` reads, folders of a search, a run or an evaluation, or
            `search:DIR`.
        heldout (`Sequence[Problem]`): that the run evaluates on.
        problems (`Sequence[Problem]`): whose prompts rows of an evaluation get; rows of other problems are left out.
        style (`str`): of the prompts of designs, as far as they can be said in it (`in_style`).
        task_line (`bool`): designs name the kind of task as those of a warm start with `task_line` do.

    Raises:
        UsageError: nothing usable is there.
        DataError: a file cannot be read, a row is malformed, or a problem is held out.
    """
    prompts = {(problem.source, problem.id): prompt_for(problem.view, style) for problem in problems}

    def prompt_of(row: Mapping[str, Any]) -> Messages | None:
        return prompts.get((str(row.get("source")), str(row.get("id"))))

    files = [file for place in places for file in trajectory_files(place)]
    rows = [row for file in files for row in read_trajectories(file, prompt_of if problems else None)]
    if not rows:
        raise UsageError(
            f"{', '.join(places)}: no trajectory can be used; each is of no known problem, not graded, or itself a "
            "replayed one"
        )
    refuse_leaks(rows, heldout)
    kept = distinct(regrouped([in_style(row, style) for row in rows]), same_workflow)
    return [naming_its_task(row) for row in kept] if task_line else kept


def trajectory_files(place: str) -> list[Path]:
    """Return the files of one place, the parts of a long run in order, all episodes of a loop.

    Raises:
        UsageError: a folder without any.
    """
    path = Path(place.removeprefix(_SEARCH))
    if not path.is_dir():
        return [path]
    names = FILES[:1] if place.startswith(_SEARCH) else FILES
    for name in names:
        if files := rollout_files(path / name) or _of_a_run(path):
            return files
    raise UsageError(f"{path}: has no {' or '.join(names)}")


def _of_a_run(folder: Path) -> list[Path]:
    """Return what the episodes of `grpo_search.py` found, or the iterations of `dpo_search.py` wrote, in order."""
    return [file for pattern in OF_A_RUN for file in sorted(folder.glob(pattern))]


def check_trajectories(places: Sequence[str]) -> None:
    """Read what a run will replay, before anything slow is loaded.

    Raises:
        UsageError: a folder without trajectories.
        DataError: a file cannot be read, or a row of it is malformed; names it.
    """
    for file in (file for place in places for file in trajectory_files(place)):
        read_trajectories(file, lambda row: [{"role": "user", "content": "?"}])


def same_workflow(trajectory: Trajectory) -> str:
    """Return a digest that equal workflows share: their syntax trees, not their texts, are compared."""
    return _digest(trajectory.completion, trajectory.domain)


@lru_cache(maxsize=65536)
def _digest(completion: str, domain: str) -> str:
    workflow = workflow_of(completion, domain)
    if workflow is None:
        return workflow_key(" ".join(completion.split()))
    return workflow_key(workflow.source, workflow.prompts)


def workflow_of(completion: str, domain: str) -> Workflow | None:
    """Parse a completion; `None` where it is no workflow.

    Whether its problem has an entry point is not known, and does not change its tree. An edit that was judged on
    problems of several domains names them all, as in `math+qa`.
    """
    for name in domain.split("+"):
        for has_entry_point in (False, True):
            try:
                return parse_workflow(completion, domain=name, has_entry_point=has_entry_point)
            except WorkflowError:
                continue
    return None


def in_style(trajectory: Trajectory, style: PromptStyle) -> Trajectory:
    """Return a design under the prompt that a run with another prompt style shows the policy.

    Log-probabilities were taken under the old prompt, and are left behind. A row stays as it is when its prompt is none
    that `policy_messages` writes, or when it is brief, which may leave out a passage that a full one shows.

    Args:
        trajectory (`Trajectory`): of any form.
        style (`str`): the style of the run.
    """
    found = _view(trajectory) if trajectory.form == "design" else None
    if found is None or found[0] == style or style == "full":
        return trajectory
    return replace(trajectory, prompt=prompt_for(found[1], style), logprobs=None)


def _view(trajectory: Trajectory) -> tuple[PromptStyle, ProblemView] | None:
    """Tell which problem, in which style, a prompt was made of; `None` where it is none of ours, or of a domain that is
    not known here."""
    if trajectory.domain not in DOMAIN_PROMPTS:
        return None
    head, separator, question = trajectory.asked.rpartition("\n\nQuestion: ")
    context = head.removeprefix("Context:\n") if separator else None
    for entry_point in (None, "f"):  # whether there is one changes the prompt, its name does not
        view = ProblemView(question if separator else trajectory.asked, trajectory.domain, context, entry_point)
        for style in PROMPT_STYLES:
            if prompt_for(view, style) == trajectory.prompt:
                return style, view
    return None


def naming_its_task(trajectory: Trajectory) -> Trajectory:
    """Return a design with a comment that names the kind of task, as a warm start with `task_line` teaches it.

    Such a policy begins every workflow with it: without, a workflow of somebody else is unlikely from there on,
    whatever it does. One that has a comment keeps it, and so does what a policy wrote with its log-probabilities.
    """
    fenced = re.fullmatch(r"```python\n(.*)\n```\s*", trajectory.completion, re.DOTALL)
    if fenced is None or trajectory.form != "design" or trajectory.logprobs is not None:
        return trajectory
    if re.search(r"^\s*#", fenced[1], re.MULTILINE):
        return trajectory
    question = trajectory.asked.rpartition("\n\nQuestion: ")[2]
    problem = Problem(question, "", trajectory.source, trajectory.domain, trajectory.id)
    return replace(trajectory, completion=f"```python\n{with_task_line(problem, fenced[1])}\n```", completion_ids=None)


def prompt_for(view: ProblemView, style: PromptStyle) -> Messages:
    """Return the policy's prompt as trajectories hold it."""
    return tuple({"role": part["role"], "content": part["content"]} for part in policy_messages(view, style))


def cap(trajectories: Sequence[Trajectory], caps: Caps, judged: Sequence[Trajectory] = ()) -> list[Trajectory]:
    """Return so many of them as `caps` says.

    Args:
        trajectories (`Sequence[Trajectory]`): distinct ones.
        caps (`Caps`): how many, and which.
        judged (`Sequence[Trajectory]`): these and what was left out of them: where they are given, of designs that
            earned as much on a problem the simplest come first (`simplest_first`).
    """
    if judged:
        known = standings(judged, same_workflow)
        groups = by_group(trajectories).values()
        trajectories = [row for rows in groups for row in simplest_first(rows, known, same_workflow)]
    return capped(
        trajectories, same_workflow, per_group=caps.per_group, per_workflow=caps.per_workflow, order=caps.order
    )
