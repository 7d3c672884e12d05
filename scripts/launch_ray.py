"""Start a recipe on the workers of a Ray cluster, as `accelerate launch` starts it on GPUs.

    python scripts/launch_ray.py recipes/grpo_mixed.py --ray_workers 8 --ray_storage /shared/runs --gpu a100_80gb
    python scripts/launch_ray.py recipes/grpo_math.py --ray_workers 2 --ray_gpus_per_worker 0 --use_cpu   # without GPUs

Ray Train's TorchTrainer places the workers and starts them again when one is lost; each runs the recipe in a process of
its own, with the ranks and addresses that `accelerate launch` would have set. Flags that do not begin with --ray_ are
the recipe's. With --ray_storage, a folder that all machines share, the run lies in STORAGE/NAME/run and goes on from
its newest whole checkpoint, after a lost worker too. The repository and its Python are at the same place on all
machines, on a shared file system, as under SLURM.

Keys reach the workers inside the pickled training function, never through Ray's runtime environment or configuration,
which its dashboard and logs show. Needs `pip install --editable ".[ray]"`.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from aflow_ops.errors import InfraError, UsageError
from recipes.run.command import BUDGET_SPENT, USAGE_ERROR, CommandParser, run_command
from scripts.launching.worker import Job

ROOT = Path(__file__).parents[1]
# Variables that a run reads, by the beginnings of their names. What belongs to one machine stays there.
PASSED_ON = (
    "OPENAI_",
    "OPTIMIZER_",
    "HF_",
    "WANDB_",
    "TRACKIO_",
    "AWS_",
    "GOOGLE_",
    "AZURE_",
    "NCCL_",
    "OMP_",
    "AFLOW_",
)
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def parse_arguments(words: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """Return this command's flags, and the recipe's."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("recipe", type=Path, help="file of the recipe")
    parser.add_argument("--ray_workers", type=int, default=1, help="processes in all [1]")
    parser.add_argument("--ray_gpus_per_worker", type=int, default=1, help="GPUs of each process; 0 trains on CPUs [1]")
    parser.add_argument("--ray_cpus_per_worker", type=float, default=1, help="cores of each process [1]")
    parser.add_argument("--ray_address", help="of the cluster [RAY_ADDRESS, else a cluster on this machine alone]")
    parser.add_argument(
        "--ray_storage", type=Path, help="folder that all machines share, for the run and Ray's own files"
    )
    parser.add_argument("--ray_name", help="of the run in it [the recipe's]")
    parser.add_argument("--ray_max_failures", type=int, default=0, help="how often a lost worker is replaced [0]")
    parser.add_argument("--ray_env", nargs="+", default=[], metavar="NAME", help="further variables for the workers")
    arguments, flags = parser.parse_known_args(words)
    if arguments.ray_workers < 1 or arguments.ray_gpus_per_worker < 0 or arguments.ray_max_failures < 0:
        parser.error("--ray_workers must be at least 1, --ray_gpus_per_worker and --ray_max_failures not negative")
    if not arguments.recipe.is_file():
        parser.error(f"{arguments.recipe} is no file; the first argument is a recipe, e.g. recipes/grpo_mixed.py")
    if arguments.ray_max_failures and arguments.ray_storage is None:
        parser.error("--ray_max_failures needs --ray_storage: there would be no checkpoint to go on from")
    wrong = [word for word in flags if word.startswith("--ray_")]
    if wrong:
        parser.error(f"unknown: {wrong[0]}")
    return arguments, flags


def environment(flags: Sequence[str], more: Sequence[str]) -> dict[str, str]:
    """Return the variables that workers get from here.

    Args:
        flags (`Sequence[str]`): the recipe's, which may name the variable of the executor's key.
        more (`Sequence[str]`): names of further ones.

    Raises:
        UsageError: one that was asked for is not set.
    """
    named = [*more]
    for index, word in enumerate(flags):
        flag, _, value = word.partition("=")
        if flag == "--executor_api_key_env" and (name := value or "".join(flags[index + 1 : index + 2])) != "none":
            named.append(name)
    if missing := [name for name in named if name not in os.environ]:
        raise UsageError(f"--ray_env {missing[0]}: there is no such variable here")
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(PASSED_ON) or name in PROXIES or name in named
    }


def main() -> None:
    """Start the recipe and wait for its end.

    Raises:
        UsageError: ray is missing, or the recipe refused its flags.
        InfraError: a worker failed more often than `--ray_max_failures` allows.
    """
    arguments, flags = parse_arguments()
    if find_spec("ray") is None:
        raise UsageError('ray is not installed: pip install --editable ".[ray]"')
    # ray takes seconds to import
    from scripts.launching.cluster import run_on_cluster

    recipe = arguments.recipe.resolve()
    job = Job((str(recipe), *flags), str(Path.cwd()), environment(flags, arguments.ray_env), str(ROOT))
    name = arguments.ray_name or recipe.stem
    code = run_on_cluster(arguments, job, name)
    if code == USAGE_ERROR:
        raise UsageError(f"{arguments.recipe} refused its flags; the workers' output says why")
    if code == BUDGET_SPENT:
        sys.exit(BUDGET_SPENT)
    if code:
        raise InfraError(f"{arguments.recipe} ended with exit code {code}; the workers' output says why")


if __name__ == "__main__":
    sys.exit(run_command(main))
