"""The warm start that a multi-agent run does first when its policy needs one."""

from pathlib import Path

from recipes.policy.warm_start import ensure_policy

SCRIPT = "agents_warmstart.py"


def ensure_agent_policy(model: str, config: str | None, seed: int) -> None:
    """Warm-start a policy in every role, unless the same warm start is already in its folder.

    Args:
        model (`str`): `model_name_or_path`; a folder when there is a warm start.
        config (`str`, *optional*): `warm_start_config`; nothing is done for `"none"` or without one.
        seed (`int`): of the run.
    """
    here = Path(__file__).parent
    ensure_policy(model, config, seed, script=SCRIPT, made_of=sorted(here.glob("*_script.py")))
