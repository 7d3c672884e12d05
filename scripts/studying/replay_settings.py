"""What the replay study runs: ways to learn from search, each for the executor tokens of online GRPO alone.

A run is some commands of recipes and scripts, one after the other. Online GRPO comes first for every seed: its tokens
are everybody's. One search is made for a seed; how much of it counts, and which checkpoint of a training, is decided
by the tokens that they took (`replay_tokens.py`), so trainings get some steps more than they should have tokens for.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from data.corpus import CORPUS_FILE
from scripts.studying.running import ROOT

CONFIGS = ROOT / "recipes" / "configs"
FILES = tuple(CONFIGS / f"{name}.yaml" for name in ("quickstart", "quickstart_warmstart", "grpo_search_quickstart"))
ONLINE, MASKED_ONLINE = "online", "masked_online"
# Problems of a seed: the first ones of the quickstart's, so that a cache of its replies is of use.
QUICKSTART_TRAIN, QUICKSTART_HELDOUT = 120, 90
TRAIN, HELDOUT = 24, 45
# Steps of online GRPO alone, rollouts of each (K = 8, six groups).
STEPS, ROLLOUTS, K = 20, 48, 8
# Steps more than an online part is likely to have tokens for.
MARGIN = 1.25
# Proposals of the search for each problem, beside the least workflow around each operator.
SEARCH_ROUNDS = 30
# Share of the tokens that is for the search where the rest is for online GRPO.
SEARCH_SHARE = 0.4
# Sampling of the policy that is judged, as the quickstart's.
TEMPERATURE, MAX_TOKENS = 0.5, 96
# Of that domain no workflow with that operator is in the warm start of the masked settings, nor of the one that it is
# taken for now and then; it is longer, and only likely tokens are sampled, so that none is from there. These have more
# steps, and four updates of each; what is replayed counts where it is unlikely.
MASKED, ALSO_MASKED, MASKED_EPOCHS = "math:Programmer", "qa:Programmer", 10
MASKED_STEPS, UPDATES = 40, 4
MASKED_SAMPLING = {"top_p": 0.9, "num_iterations": UPDATES, "save_steps": UPDATES}
MASKED_REPLAY = {"replay_shaping": 0.001, "replay_per_group": 2}

SETTINGS: Mapping[str, str] = {
    ONLINE: "online GRPO alone",
    "sft": "SFT on what a search found",
    "score_dpo": "Score-DPO on what a search found",
    "replay": "GRPO on what a search found, nothing sampled",
    "mixed": "online GRPO with one replayed row a group",
    "loop": "search and GRPO in turns",
    "sft_mixed_online": "SFT, then mixed, then online GRPO",
    MASKED_ONLINE: "online GRPO; the best workflow for math is not in the warm start",
    "masked_mixed": "mixed GRPO; the best workflow for math is not in the warm start",
}
# Ways that sample workflows and run them while they train: their checkpoints are cut at the tokens that they took.
SAMPLING = (ONLINE, "mixed", "loop", "sft_mixed_online", MASKED_ONLINE, "masked_mixed")
# Ways that spend all of the tokens on the search.
OFFLINE = ("sft", "score_dpo", "replay")
_LORA = {
    "use_peft": "true", "lora_r": 32, "lora_alpha": 64, "lora_dropout": 0.0,
    "lora_target_modules": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    "lora_modules_to_save": "lm_head", "dtype": "float32", "use_cpu": "true", "bf16": "false",
    "activation_checkpointing": "false", "beta": 0.0, "prompt_style": "brief", "task_line": "true", "report_to": "none",
}  # fmt: skip


@dataclass(frozen=True)
class Command:
    """One process of a run.

    Args:
        words (`tuple[str, ...]`): script and flags.
        done (`Path`): file that is there once it has ended.
    """

    words: tuple[str, ...]
    done: Path

    def has_ended(self) -> bool:
        """Whether the file is there; that of a search is also written when it is interrupted, and says so."""
        if not self.done.is_file():
            return False
        summary = json.loads(self.done.read_text(encoding="utf-8")) if self.done.suffix == ".json" else {}
        return bool(summary.get("stopped") != "interrupted")


@dataclass(frozen=True)
class Tokens:
    """Executor tokens of a seed.

    Args:
        online (`int`): of online GRPO alone, which everybody may spend; for a masked setting, of the masked one.
        search (`int`): of the part of the search that the mixed settings replay.
    """

    online: int
    search: int

    def steps(self, online: int = STEPS) -> int:
        """Return the steps of online GRPO beside the search, some more than the tokens are likely to allow.

        Args:
            online (`int`): of online GRPO alone.
        """
        return max(2, ceil(MARGIN * online * (1 - self.search / self.online)))

    @property
    def loop_epochs(self) -> int:
        """Epochs of the loop, whose problems are tried nine times each in one: a root and eight proposals."""
        return ceil(MARGIN * STEPS * ROLLOUTS / (TRAIN * 9))


def fingerprint(setting: str) -> str:
    """Return what tells a setting from itself after a change: a hash of its commands, the YAML files and the corpus."""
    if setting not in SETTINGS:
        return ""
    seed, tokens = Seed(Path("runs"), 0, Path("cache")), Tokens(online=1000, search=400)
    commands = [*seed.commands(ONLINE, None), seed.searching(), *seed.commands(setting, tokens)]
    commands += [seed.evaluation(before_of(setting)), seed.evaluation(setting, Path("adapter"))]
    words = [word.removeprefix(f"{ROOT}/") for command in commands for word in command.words]
    counts = [QUICKSTART_TRAIN, QUICKSTART_HELDOUT, TRAIN, HELDOUT, SEARCH_SHARE]
    digest = hashlib.sha256(json.dumps([words, counts]).encode())
    for file in (*FILES, CORPUS_FILE):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def before_of(setting: str) -> str:
    """Return what the warm start of a setting is called."""
    return "masked_before" if setting.startswith("masked") else "before"


class Seed:
    """The commands of one seed.

    Args:
        folder (`Path`): of all its runs.
        seed (`int`): of problems, warm start and sampling.
        cache (`Path`): the executor's cached replies.

    Attributes:
        search (`Path`): all that was searched for.
        beside, whole (`Path`): what of it the tokens allow, beside online GRPO and for themselves.
    """

    def __init__(self, folder: Path, seed: int, cache: Path) -> None:
        self.folder, self.seed, self.cache = folder, seed, cache
        self.problems, self.heldout = folder / "problems.jsonl", folder / "heldout.jsonl"
        self.policy, self.search = folder / "policy", folder / "search"
        self.beside, self.whole = folder / "search_beside", folder / "search_whole"

    def searching(self) -> Command:
        """Return the search: for every training problem by itself, from each operator alone, by the grammar."""
        words = _words(
            "scripts/search.py", data=self.problems, output=self.search, validation_problems=TRAIN, seed=self.seed,
            search_rounds=SEARCH_ROUNDS, executor="local", executor_cache_dir=self.cache, workflow_timeout=900,
            prompt_style="brief",
        )  # fmt: skip
        return Command((*words, "--per_problem", "--operator_roots"), self.search / "summary.json")

    def commands(self, setting: str, tokens: Tokens | None) -> list[Command]:
        """Return what a setting runs, in order; the search has ended before, for all but online GRPO alone.

        Args:
            setting (`str`): a key of `SETTINGS`.
            tokens (`Tokens`, *optional*): of the seed; not needed for online GRPO alone, masked or not.
        """
        if setting.startswith("masked"):
            return self._masked(setting, None if setting == MASKED_ONLINE else tokens)
        if setting == ONLINE:
            more = {"num_heldout_problems": HELDOUT, "baselines": "true"}
            return [self._online(setting, STEPS, self.policy, **more)]
        assert tokens is not None
        if setting == "loop":
            return [self._loop(tokens)]
        if setting == "mixed":
            return [self._online(setting, tokens.steps(), self.policy, **self._replaying())]
        if setting == "sft_mixed_online":
            half, base = tokens.steps() // 2, self.folder / setting / "sft"
            mixed = self._online(f"{setting}/mixed", half, base, **self._replaying())
            on = self._online(setting, tokens.steps() - half, self.folder / setting / "merged")
            return [self._sft(base, self.beside), mixed, self._merged(mixed.done.parent, base), on]
        return [{"sft": self._sft, "score_dpo": self._dpo, "replay": self._replay}[setting](
            self.folder / setting, self.whole
        )]  # fmt: skip

    def evaluation(self, setting: str, adapter: Path | None = None) -> Command:
        """Return the evaluation of what a setting came to on the held-out problems.

        Args:
            setting (`str`): a key of `SETTINGS`; the warm starts are `"before"` and `"masked_before"`.
            adapter (`Path`, *optional*): of a setting that trains one; for the others the setting's folder is a model.
        """
        output = self.folder / setting / "evaluation"
        base = {"sft_mixed_online": self.folder / setting / "merged", "sft": self.folder / setting}
        what = {"model": base.get(setting, self._base(setting)), **({"adapter": adapter} if adapter else {})}
        words = _words(
            "scripts/evaluate.py", data=self.heldout, output=output, executor="local", executor_cache_dir=self.cache,
            temperature=TEMPERATURE, max_completion_length=MAX_TOKENS, num_samples=2, prompt_style="brief",
            workflow_timeout=900, seed=self.seed, **what,
        )  # fmt: skip
        return Command(words, output / "summary.json")

    def _base(self, setting: str) -> Path:
        return self.folder / "masked_policy" if setting.startswith("masked") else self.policy

    def _replaying(self) -> dict[str, object]:
        return {"replay": f"search:{self.beside}", "replay_task_line": "true"}

    def _online(self, name: str, steps: int, base: Path, **more: object) -> Command:
        output = self.folder / name
        warm = {} if base == self.policy else {"warm_start_config": "none"}
        flags = {
            "config": FILES[0], "seed": self.seed, "model_name_or_path": base, "sources": self.problems,
            "num_train_problems": TRAIN, "num_heldout_problems": 6, "max_steps": steps, "output_dir": output,
            "executor_cache_dir": self.cache, "resume_from_checkpoint": "auto", "workflow_timeout": 900,
            "baselines": "false", "num_generations": K, "per_device_train_batch_size": ROLLOUTS,
            "lr_scheduler_type": "constant_with_warmup", "lr_scheduler_kwargs": "{}", "save_steps": 1,
            "save_total_limit": 1000, **warm, **more,
        }  # fmt: skip
        return Command(_words("recipes/grpo_mixed.py", **flags), output / "summary.json")

    def _loop(self, tokens: Tokens) -> Command:
        output = self.folder / "loop"
        words = _words(
            "recipes/grpo_search.py", config=FILES[2], seed=self.seed, model_name_or_path=self.policy,
            sources=self.problems, episodes=3, problems_per_episode=TRAIN // 3, num_heldout_problems=6,
            loop_epochs=tokens.loop_epochs, output_dir=output, executor_cache_dir=self.cache,
            resume_from_checkpoint="auto", workflow_timeout=900, save_total_limit=1000,
        )  # fmt: skip
        return Command(words, output / "summary.json")

    def _masked(self, setting: str, tokens: Tokens | None) -> list[Command]:
        base = self.folder / "masked_policy"
        warm = _words(
            "recipes/sft_warmstart.py", config=FILES[1], seed=self.seed, output_dir=base,
            leave_out=(MASKED, ALSO_MASKED), num_train_epochs=MASKED_EPOCHS,
        )  # fmt: skip
        start = Command(warm, base / "model.safetensors")
        if tokens is None:
            return [start, self._online(setting, UPDATES * MASKED_STEPS, base, **MASKED_SAMPLING)]
        more = {**self._replaying(), **MASKED_SAMPLING, **MASKED_REPLAY}
        return [start, self._online(setting, UPDATES * tokens.steps(MASKED_STEPS), base, **more)]

    def _sft(self, output: Path, search: Path) -> Command:
        words = _words(
            "recipes/sft_warmstart.py", config=FILES[1], from_scratch="false", untie_embeddings="false",
            model_name_or_path=self.policy, seed=self.seed, output_dir=output, trajectories=search,
            trajectory_share=0.5, num_examples=600, num_train_epochs=2, learning_rate=1e-3,
        )  # fmt: skip
        return Command(words, output / "model.safetensors")

    def _dpo(self, output: Path, search: Path) -> Command:
        flags = {
            **_LORA, "seed": self.seed, "model_name_or_path": self.policy, "output_dir": output,
            "trajectories": search, "sources": self.problems, "num_train_problems": TRAIN,
            "num_heldout_problems": HELDOUT, "iterations": 1, "num_pairs": 2000, "learning_rate": 1e-3, "beta": 0.1,
            "per_device_train_batch_size": 32, "gradient_accumulation_steps": 1, "num_train_epochs": 1,
            "max_length": 512, "warm_start_config": "none", "resume_from_checkpoint": "auto",
        }  # fmt: skip
        return Command(_words("recipes/dpo_search.py", **flags), output / "summary.json")

    def _replay(self, output: Path, search: Path) -> Command:
        flags = {
            **_LORA, "seed": self.seed, "model_name_or_path": self.policy, "output_dir": output,
            "trajectories": search, "learning_rate": 2e-3, "num_train_epochs": 8, "num_generations": K,
            "per_device_train_batch_size": ROLLOUTS, "gradient_accumulation_steps": 1,
            "max_completion_length": 2 * MAX_TOKENS, "temperature": 1.0, "resume_from_checkpoint": "auto",
        }  # fmt: skip
        return Command(_words("recipes/grpo_replay.py", **flags), output / "summary.json")

    def _merged(self, adapter: Path, base: Path) -> Command:
        output = adapter.parent / "merged"
        script, *flags = _words("scripts/merge_adapter.py", model=base, output=output)
        return Command((script, str(adapter), *flags), output / "model.safetensors")


def _words(script: str, **flags: object) -> tuple[str, ...]:
    words = [str(ROOT / script)]
    for name, value in flags.items():
        values: Sequence[object] = value if isinstance(value, tuple) else (value,)
        words += [f"--{name}", *map(str, values)]
    return tuple(words)
