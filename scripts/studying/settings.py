"""What the learning study runs: the quickstart as it is, what it is compared with, a harder lesson, a real model."""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path

import yaml

from data.corpus import CORPUS_FILE
from data.mixing import parse_mix
from data.registry import Split

CONFIGS = Path(__file__).parents[2] / "recipes" / "configs"
QUICKSTART = (CONFIGS / "quickstart.yaml", CONFIGS / "quickstart_warmstart.yaml")
HARDER = "harder"  # the setting whose best workflow differs within a domain
SMOLLM2 = "smollm2"  # the setting whose policy is a pretrained language model
_OTHER_CONFIGS = {name: (CONFIGS / f"{name}.yaml", CONFIGS / f"{name}_warmstart.yaml") for name in (HARDER, SMOLLM2)}


def _tie_breaks(k: int, *, wa_grpo: bool) -> dict[str, object]:
    return {"num_generations": k, "wa_grpo": str(wa_grpo).lower(), "baselines": "false"}


# Setting -> flags beside the values of its YAML files. The number of rollouts a step is the same whatever K.
SETTINGS: Mapping[str, Mapping[str, object]] = {
    "quickstart": {},
    HARDER: {},
    SMOLLM2: {},
    "level_weight": {"level_weight": 0.5, "baselines": "false"},
    "rollouts_ahead": {"rollouts_ahead": 1, "baselines": "false"},
    **{f"grpo_k{k}": _tie_breaks(k, wa_grpo=False) for k in (2, 4, 8)},
    **{f"wa_grpo_k{k}": _tie_breaks(k, wa_grpo=True) for k in (2, 4, 8)},  # 8: the quickstart beside the others
}


def configs_of(setting: str) -> tuple[Path, Path]:
    """Return the YAML files of a setting: the recipe's and its warm start's. Most vary the quickstart."""
    return _OTHER_CONFIGS.get(setting, QUICKSTART)


def fingerprint(setting: str) -> str:
    """Return what tells a setting from itself after a change: a hash of its flags, YAML files, problems and corpus.

    Args:
        setting (`str`): a key of `SETTINGS`; another one, of an earlier version of the study, has none.
    """
    if setting not in SETTINGS:
        return ""
    digest = hashlib.sha256(repr(sorted(SETTINGS[setting].items())).encode())
    recipe, warm_start = configs_of(setting)
    own = yaml.safe_load(warm_start.read_text(encoding="utf-8")).get("corpus", [])
    for file in (recipe, warm_start, CORPUS_FILE, *(CONFIGS.parents[1] / name for name in own)):
        digest.update(file.read_bytes())
    digest.update("".join(_problems_of(recipe)).encode())
    return digest.hexdigest()[:16]


@functools.cache
def _problems_of(config: Path) -> list[str]:
    """Return the ids of the problems that a recipe draws for seed 0: another rule of drawing makes another study."""
    from recipes.training.problems import mixed_problems  # loads torch: `--help` need not wait for it

    values = yaml.safe_load(config.read_text(encoding="utf-8"))
    numbers: dict[Split, int] = {"train": values["num_train_problems"], "heldout": values["num_heldout_problems"]}
    sources, ratios = values["sources"], parse_mix(values["domain_mix"])
    return [each.id for split, n in numbers.items() for each in mixed_problems(sources, ratios, n, split, 0)]


def flags_of(setting: str, seed: int, folder: Path, cache: Path) -> list[str]:
    """Return the recipe's flags for one run.

    Args:
        setting (`str`): a key of `SETTINGS`.
        seed (`int`): of problems, warm start and sampling.
        folder (`Path`): the run's folder; its warm-started policy lies in it too.
        cache (`Path`): the executor's cached replies.
    """
    values = {
        "config": configs_of(setting)[0],
        "seed": seed,
        "output_dir": folder,
        "model_name_or_path": folder / "policy",
        "executor_cache_dir": cache,
        "resume_from_checkpoint": "auto",
        **SETTINGS[setting],
    }
    return [text for name, value in values.items() for text in (f"--{name}", str(value))]
