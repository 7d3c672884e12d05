"""A parsed workflow: what the language hands to the runtime."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# Given to `ast.parse` as the file's name. What the parser warns about in a workflow (`1if x`, odd escapes) is the
# policy's style, and of no use on this process's standard error.
SOURCE_NAME = "<workflow>"
warnings.filterwarnings("ignore", module=re.escape(SOURCE_NAME))

# The oldest Python that the project runs on: what only later ones read earns the same on all of them.
GRAMMAR = (3, 11)

Form = Literal["native", "short", "dsl"]


@dataclass(frozen=True)
class SourceKey:
    """What a workflow is run from, to be remembered by: equal for equal sources and prompts.

    Args:
        source (`str`): as of the workflow.
        written (`str`): its prompts, written out.
        workflow (`Workflow`): the first one of this kind.
    """

    source: str
    written: str
    workflow: "Workflow" = field(compare=False, repr=False)


@dataclass(frozen=True)
class Workflow:
    """A checked workflow.

    Args:
        form (`str`): `"native"` (AFlow's `class Workflow`), `"short"` (`async def workflow(problem, ...)`) or `"dsl"`.
        text (`str`): the workflow as its author wrote it, after repair: Python, or a line of DSL.
        source (`str`): the same as Python in native or short form, ready for `ast.parse`; equal to `text` unless the
            form is `"dsl"`.
        operators (`tuple[str, ...]`): class names of the operators that its code calls, in order of appearance, with
            repetitions; empty for a workflow that calls none.
        repairs (`tuple[str, ...]`): what was repaired, one short sentence each.
        prompts (`Mapping[str, Any]`): `prompt_custom.NAME` (native form) by name: text, or lists and dicts of it.
    """

    form: Form
    text: str
    source: str
    operators: tuple[str, ...]
    repairs: tuple[str, ...] = ()
    prompts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> SourceKey:
        """What results that depend on its source and prompts alone are remembered by."""
        return SourceKey(self.source, repr(self.prompts), self)
