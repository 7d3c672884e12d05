"""What one worker of a cluster does: the recipe, in a process of its own."""

import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Job:
    """What every worker runs.

    Args:
        command (`tuple[str, ...]`): the recipe's file and its flags.
        folder (`str`): where it runs.
        environment (`dict[str, str]`): variables from where it was launched, keys among them; never shown.
        project (`str`): the repository.
    """

    command: tuple[str, ...] = field(repr=False)
    folder: str
    environment: dict[str, str] = field(repr=False)
    project: str


@dataclass(frozen=True)
class Place:
    """Where a worker stands among the others.

    Args:
        rank (`int`): among all.
        world_size (`int`): how many there are.
        local_rank (`int`): among those of its machine.
        local_world_size (`int`): how many these are.
        node_rank (`int`): its machine among the machines.
        address (`str`): host of the first worker.
        port (`int`): free on that host.
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    node_rank: int
    address: str
    port: int

    def variables(self) -> dict[str, str]:
        """Return what `torch.distributed` and accelerate read, as a launcher of theirs sets it."""
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_RANK": str(self.local_rank),
            "LOCAL_WORLD_SIZE": str(self.local_world_size),
            "GROUP_RANK": str(self.node_rank),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
        }


def run_recipe(job: Job, place: Place) -> int:
    """Run the recipe to its end and return its exit code; it ends with this process.

    Args:
        job (`Job`): what is run.
        place (`Place`): as which of the workers.
    """
    path = os.pathsep.join(filter(None, (job.project, os.environ.get("PYTHONPATH", ""))))
    variables = {**os.environ, **job.environment, **place.variables(), "PYTHONPATH": path}
    if place.world_size == 1:  # as accelerate launches a single process: without a group
        for name in place.variables():
            variables.pop(name)
    process = subprocess.Popen([sys.executable, *job.command], cwd=job.folder, env=variables)
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)


def free_port() -> int:
    """Return a port that is free on this machine."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port
