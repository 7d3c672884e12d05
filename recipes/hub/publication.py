"""How a run is published: under which name, with what."""

from dataclasses import dataclass

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from aflow_ops.errors import InfraError, UsageError

BASE_FOLDER = "base_model"


class HubError(InfraError):
    """The Hub refused or could not be reached; what was to be pushed is still on disk."""


@dataclass(frozen=True)
class Publication:
    """How a run is published.

    Args:
        hub_model_id (`str`): `"you/name"`.
        private (`bool`, *optional*): whether a new repository is private; the account's default if unset.
        include_rollouts (`bool`): also publish `rollouts.jsonl` and `heldout.jsonl`.
        base_model (`str`, *optional*): the adapter's base on the Hub, where the run used a local copy of it.
        license (`str`, *optional*): license id of the Hub, e.g. `"apache-2.0"`; the base model's by default.

    Raises:
        UsageError: `hub_model_id` or `base_model` is not a repository's name.
    """

    hub_model_id: str
    private: bool | None = None
    include_rollouts: bool = False
    base_model: str | None = None
    license: str | None = None

    def __post_init__(self) -> None:
        if not is_repository(self.hub_model_id):
            raise UsageError(f"--hub_model_id {self.hub_model_id}: must be of the form you/name")
        if self.base_model is not None and not is_repository(self.base_model):
            raise UsageError(f"--base_model {self.base_model}: must be of the form owner/name, as on the Hub")

    @property
    def flags(self) -> str:
        """The same as flags of `scripts/push_to_hub.py`."""
        given = f"--hub_model_id {self.hub_model_id}"
        given += f" --base_model {self.base_model}" if self.base_model else ""
        given += f" --license {self.license}" if self.license else ""
        given += " --private" if self.private else ""
        return given + (" --include_rollouts" if self.include_rollouts else "")


def is_repository(name: str) -> bool:
    """Whether a text is a repository's full name, `owner/name`."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return name.count("/") == 1
