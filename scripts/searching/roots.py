"""What a search starts from: a first workflow, files, or the rounds of a search of AFlow's."""

from collections.abc import Sequence
from pathlib import Path

from aflow_ops.search.aflow_folder import read_aflow_folder
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
        return [
            Root(found.completion, "import", f"AFlow's round {found.number}: {found.modification or 'the first'}")
            for found in read_aflow_folder(aflow)
        ]
    return [Root(_read(path), "root", f"the workflow in {path.name}") for path in files]


def _read(path: Path) -> str:
    found = read_workflow_file(path, "--root")
    return as_completion(found.text, found.prompts)
