"""The cluster's side of `scripts/launch_ray.py`: imported only where ray is installed."""

import argparse
import sys
from collections.abc import Callable
from typing import Any

import ray
from ray import cloudpickle, train
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from aflow_ops.errors import InfraError
from recipes.run.command import BUDGET_SPENT, USAGE_ERROR
from scripts.launching import worker
from scripts.launching.worker import Job, Place, free_port, run_recipe

# Ends that another start would only repeat.
FINAL = (0, USAGE_ERROR, BUDGET_SPENT)


def run_on_cluster(arguments: argparse.Namespace, job: Job, name: str) -> int:
    """Run a job on all workers and return its exit code.

    Args:
        arguments (`argparse.Namespace`): `--ray_*`.
        job (`Job`): what is run.
        name (`str`): of the run.

    Raises:
        InfraError: no cluster at the address, too small a one, or more lost workers than are replaced.
    """
    cloudpickle.register_pickle_by_value(worker)  # a worker need not import this repository to start it
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        ray.init(address=arguments.ray_address, configure_logging=True, log_to_driver=True)
    except Exception as error:  # noqa: BLE001 - of a node that does not start, ray says so in a plain one
        where = f"at {arguments.ray_address}" if arguments.ray_address else "at RAY_ADDRESS, or none starts here"
        raise InfraError(f"no Ray cluster {where}: {_first_line(error)}") from None
    storage = None if arguments.ray_storage is None else arguments.ray_storage.resolve()
    if storage is not None:
        folder = storage / name
        folder.mkdir(parents=True, exist_ok=True)
        more = ("--output_dir", str(folder / "run"), "--resume_from_checkpoint", "auto")
        job = Job((*job.command, *more), job.folder, job.environment, job.project)
    gpus, cpus = arguments.ray_gpus_per_worker, arguments.ray_cpus_per_worker
    trainer = TorchTrainer(
        loop(job),
        torch_config=TorchConfig(backend="gloo"),  # of the workers alone: the recipe makes its own group
        scaling_config=ScalingConfig(
            num_workers=arguments.ray_workers,
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": cpus, **({"GPU": gpus} if gpus else {})},
        ),
        run_config=RunConfig(
            name=name,
            storage_path=None if storage is None else str(storage),
            failure_config=FailureConfig(max_failures=arguments.ray_max_failures),
        ),
    )
    try:
        result = trainer.fit()
    except (TrainingFailedError, RayError) as error:
        raise InfraError(f"{name}: {_first_line(error)}") from None
    finally:
        ray.shutdown()
    return int(result.return_value)


def loop(job: Job) -> Callable[[], int]:
    """Return the training function of TorchTrainer. The job is pickled with it: no configuration shows it."""

    def train_loop_per_worker() -> int:
        import torch.distributed as distributed

        context = train.get_context()
        where: list[Any] = [ray.util.get_node_ip_address(), free_port()]
        if context.get_world_size() > 1:
            distributed.broadcast_object_list(where, src=0)
            distributed.destroy_process_group()
        place = Place(
            context.get_world_rank(),
            context.get_world_size(),
            context.get_local_rank(),
            context.get_local_world_size(),
            context.get_node_rank(),
            *where,
        )
        code = run_recipe(job, place)
        if code not in FINAL:
            raise RuntimeError(f"worker {place.rank} of {place.world_size} ended with exit code {code}")
        return code

    return train_loop_per_worker


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
