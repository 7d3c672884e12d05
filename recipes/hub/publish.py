"""A finished run on the Hugging Face Hub: which files go there, what they say, and the upload.

`stage` writes the folder that is uploaded, `RUN_DIR/hub`, from what the run left; `publish` uploads it in one commit.
Recipes (`--push_to_hub`) and `scripts/push_to_hub.py` both end here, so both give the same files. Files are named one
by one: what is not on the list (rollouts, checkpoints, optimizer states, logs) cannot get out by accident. Needs no
torch.
"""

import shlex
from pathlib import Path
from typing import Any

from httpx2 import HTTPError  # comes with huggingface_hub
from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

from aflow_ops.errors import UsageError
from recipes.hub.publication import HubError, Publication
from recipes.hub.staging import read_run, stage

_TOKEN_HELP = "set HF_TOKEN, or log in with `hf auth login` (https://huggingface.co/settings/tokens, with write access)"


def requested_publication(training: Any) -> Publication | None:
    """Return what `--push_to_hub` and `--hub_model_id` ask for, once the Hub knows who is asking.

    Args:
        training: the recipe's `trl.GRPOConfig`.

    Raises:
        UsageError: a missing or malformed `hub_model_id`, a token among the flags, no token at all, or a read-only one.
        HubError: the Hub refuses the token or cannot be reached.
    """
    if training.hub_token:
        raise UsageError(f"--hub_token: a token on the command line ends up in logs; {_TOKEN_HELP}")
    if not training.push_to_hub:
        return None
    if not training.hub_model_id:
        raise UsageError("--push_to_hub needs --hub_model_id you/name")
    publication = Publication(training.hub_model_id, private=training.hub_private_repo)
    check_login(
        "; nothing was started: without --push_to_hub no Hub is needed, and scripts/push_to_hub.py pushes later"
    )
    return publication


def check_login(advice: str = "") -> None:
    """Make sure that there is a token which may write.

    Args:
        advice (`str`): added to a message about the Hub.

    Raises:
        UsageError: no token, or a read-only one.
        HubError: the Hub refuses the token or cannot be reached.
    """
    if get_token() is None:
        raise UsageError(f"no token for the Hub: {_TOKEN_HELP}")
    try:
        who = HfApi().whoami()
    except (OSError, HTTPError) as error:
        raise HubError(f"{explain(error)}{advice}") from None
    if ((who.get("auth") or {}).get("accessToken") or {}).get("role") == "read":
        raise UsageError(f"the token for the Hub can only read: {_TOKEN_HELP}")


def publish(run_dir: Path, publication: Publication) -> str:
    """Stage a run and upload it in one commit. Calling it again after a failure sends only what is missing.

    Returns:
        `str`: address of the model on the Hub.

    Raises:
        UsageError: the run cannot be published as it is, or there is no token; says why.
        HubError: the upload failed.
    """
    folder = stage(read_run(run_dir), publication)
    if get_token() is None:
        raise UsageError(f"no token for the Hub: {_TOKEN_HELP}")
    return upload(folder, publication, f"Policy of the run {run_dir.name}")


def publish_finished_run(run_dir: Path, publication: Publication) -> str:
    """Publish at the end of a recipe.

    Raises:
        HubError: it did not work; says what is saved and how to push it again.
    """
    try:
        return publish(run_dir, publication)
    except (UsageError, HubError, OSError) as error:
        raise HubError(
            f"{error}; everything is saved in {run_dir}; push again: "
            f"python scripts/push_to_hub.py {shlex.quote(str(run_dir))} {publication.flags}"
        ) from None


def upload(folder: Path, publication: Publication, message: str) -> str:
    """Create the repository if there is none, and commit the folder to it.

    Raises:
        HubError: the Hub refused or could not be reached.
    """
    api = HfApi()
    try:
        url = api.create_repo(publication.hub_model_id, private=publication.private, exist_ok=True)
        api.upload_folder(repo_id=publication.hub_model_id, folder_path=folder, commit_message=message)
    except (OSError, HTTPError, ValueError, RuntimeError) as error:
        raise HubError(f"{publication.hub_model_id} was not pushed: {explain(error)}") from None
    return str(url)


def explain(error: Exception) -> str:
    """Return one line about an error of `huggingface_hub`: what happened and what to do."""
    while isinstance(error.__cause__, (HfHubHTTPError, HTTPError)) and not isinstance(error, HTTPError):
        error = error.__cause__  # a failed file of several is reported as a RuntimeError around it
    if isinstance(error, LocalTokenNotFoundError):
        return f"no token for the Hub: {_TOKEN_HELP}"
    if isinstance(error, OfflineModeIsEnabled):
        return "the Hub is switched off: unset HF_HUB_OFFLINE"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return f"the Hub does not accept the token (401): {_TOKEN_HELP}"
    if status == 403:
        return "the token may not write there (403): use one with write access, or a --hub_model_id of your own"
    reason = (getattr(error, "server_message", None) or str(error)).replace(get_token() or "\0", "***")
    line = " ".join(reason.split())[:300]
    if status is not None:
        return f"the Hub answered {status}: {line}"
    if isinstance(error, HTTPError):
        return f"the Hub at {constants.ENDPOINT} cannot be reached: {line or type(error).__name__}"
    return line
