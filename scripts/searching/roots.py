"""What a search starts from: a first workflow, files, or the rounds of a search of AFlow's."""

import sys
from collections.abc import Sequence
from pathlib import Path

from aflow_ops.search.aflow_folder import read_aflow_folder
from aflow_ops.search.aflow_template import AFlowTemplate, read_template
from aflow_ops.search.expand import as_completion
from aflow_ops.search.loop import Root
from aflow_ops.workflow_files import read_workflow_file


def read_roots(files: Sequence[Path], aflow: Path | None) -> list[Root]:
    """Read the workflows that a search starts from; none where none are given.

    Args:
        files (`Sequence[Path]`): workflow files; a `prompt.py` beside one holds its prompts.
        aflow (`Path`, *optional*): a `workflows` folder of AFlow's.

    Raises:
        UsageError: a file cannot be read.
    """
    if aflow is not None:
        return _rounds(aflow)
    return [Root(_read(path), "root", f"the workflow in {path.name}") for path in files]


def read_operators(aflow: Path | None) -> AFlowTemplate | None:
    """Read the operators of a data set of AFlow's; says which of them there are not here.

    Args:
        aflow (`Path`, *optional*): its `workflows` folder.

    Raises:
        UsageError: its template cannot be read.
    """
    template = None if aflow is None else read_template(aflow)
    if template is not None and template.unknown:
        print(
            f"warning: {aflow} has operators that are not here: {', '.join(template.unknown)}. A workflow that calls "
            "one is a rejected node; --operators FILE.py registers classes of yours",
            file=sys.stderr,
        )
    return template


def _rounds(aflow: Path) -> list[Root]:
    """AFlow's rounds, with what was modified into what."""
    roots: list[Root] = []
    places: dict[int | None, int] = {}
    for found in read_aflow_folder(aflow):
        score = "" if found.score is None else f", {found.score:.3f} there"
        said = f"AFlow's round {found.number}{score}: {found.modification or 'the first'}"
        roots.append(Root(found.completion, "import", said, places.get(found.father)))
        places[found.number] = len(places)
    return roots


def _read(path: Path) -> str:
    found = read_workflow_file(path, "--root")
    return as_completion(found.text, found.prompts)
