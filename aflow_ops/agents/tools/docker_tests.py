"""Runs tests in a task's container image, by the `docker` command.

Each run is a container of its own, without network, that is removed afterwards. Edited files are written over the
repository, then the hidden tests are laid over that, so an edit of a test has no effect even where it was not refused.
An edit that makes a file which is there already, or that a link would lead out of the repository, passes nothing; so
does one that keeps the hidden tests, which could be laid over the repository as it was, from being laid over it.
Within the container the tests and the edited code are one process, as the benchmarks' own harnesses have it
(https://github.com/SWE-bench/SWE-bench): the machine is safe from the code, the verdict rests on the tests' output.
"""

import asyncio
import base64
import io
import re
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from uuid import uuid4

from aflow_ops.agents.tools.repository_tests import TestReport
from aflow_ops.errors import InfraError, UsageError
from data.repository_tasks import MAX_FILE_CHARS, RepositoryTask, checked_path

SECONDS = 600.0
# An image has some gigabytes. What fetching it takes is not counted as its tests' time.
PULL_SECONDS = 3_600.0
MEMORY = "8g"
PROCESSES = 1024
# Of an output its beginning and its end are kept: what prints without end must not fill this machine's memory.
MAX_HEAD_BYTES, MAX_OUTPUT_BYTES = 1 << 20, 16 << 20
# Of `pytest -rA`, and of R2E-Gym's `run_tests.sh`, which is pytest too.
_VERDICT = re.compile(r"^(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS) +(\S.*)$", re.MULTILINE)
_DJANGO = re.compile(r"^((\w+ \([\w.]+\))?.*?) ?\.\.\. +(ok|OK|FAIL|ERROR|skipped)\b", re.MULTILINE)
_SYMPY = re.compile(r"^(test_\w+) (ok|F|E|f|s)\b", re.MULTILINE)
_GOOD = ("PASSED", "XFAIL", "ok", "OK")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_MARK = "----- tests of the task -----"


class ContainerError(InfraError):
    """The container did not do its work: says nothing about the edits."""


class DockerTests:
    """Runs tests in containers; see `RepositoryTests`.

    Args:
        seconds (`float`): for one run.
        concurrency (`int`): containers at a time.

    Raises:
        UsageError: there is no `docker` command.
    """

    def __init__(self, *, seconds: float = SECONDS, concurrency: int = 4) -> None:
        found = shutil.which("docker")
        if found is None:
            raise UsageError("--swe_backend docker needs the docker command; --swe_backend local runs small packages")
        self._docker, self._seconds = found, seconds
        self._slots = asyncio.Semaphore(concurrency)
        self._fetching: dict[str, asyncio.Lock] = {}
        self._there: set[str] = set()

    async def check(self) -> None:
        """Ask whether the daemon answers, before anything else is started.

        Raises:
            UsageError: it does not.
        """
        status, output = await self._command(["version", "--format", "{{.Server.Version}}"], b"", 30.0)
        if status != 0:
            raise UsageError(f"--swe_backend docker: the docker daemon does not answer: {_last_line(output)}")

    async def files(self, task: RepositoryTask, paths: Sequence[str]) -> dict[str, str]:
        """Return text files of the image's repository."""
        wanted = [checked_path(path) for path in paths]
        fits = f'[ -f "$path" ] && [ "$(wc -c < "$path")" -le {MAX_FILE_CHARS} ]'
        script = (
            f"cd {_quoted(task.folder)} || exit 3\n"
            f'for path in {" ".join(map(_quoted, wanted))}; do {fits} && set -- "$@" "$path"; done\n'
            '[ $# -eq 0 ] || tar -cf - --ignore-failed-read -- "$@" 2>/dev/null | base64 -w0\n'
        )
        output = await self._container(task, script.encode())
        if not output.strip():
            return {}
        try:
            return _archived(base64.b64decode(output), wanted)
        except (ValueError, tarfile.TarError) as error:
            raise ContainerError(f"image {task.image}: its files cannot be read: {error}") from None

    async def run(
        self,
        task: RepositoryTask,
        files: Mapping[str, str],
        names: Sequence[str],
        before: Mapping[str, str] | None = None,
    ) -> TestReport:
        """Write the edited files and the hidden tests over the repository, and run the tests' files."""
        output = await self._container(task, test_script(task, files, names, before or {}).encode())
        text = _ANSI.sub("", output.decode("utf-8", "replace"))
        if _MARK not in text:
            raise ContainerError(f"image {task.image}: the hidden tests were not laid over it: {_last_line(output)}")
        verdicts = read_verdicts(text.partition(_MARK)[2])
        passed = {name: verdicts.get(name) in _GOOD for name in names}
        failed = next((name for name in names if not passed[name]), None)
        return TestReport(passed, failed and f"{failed}: {verdicts.get(failed, 'was not run')}")

    async def _container(self, task: RepositoryTask, script: bytes) -> bytes:
        """Run a script in a container of its own and return what it printed."""
        if not task.image:
            raise UsageError("--swe_backend docker: the task names no container image; use --swe_backend local")
        await self._fetch(task.image)
        name = f"aflow-{uuid4().hex[:12]}"
        limits = ["--network", "none", "--memory", MEMORY, "--pids-limit", str(PROCESSES), "--name", name]
        command = ["run", "--rm", "-i", *limits, "--entrypoint", "bash", "--", task.image, "-s"]
        async with self._slots:
            try:
                status, output = await self._command(command, script, self._seconds)
            except TimeoutError:
                return _MARK.encode()  # every test of it counts as not run: the code hung
            finally:
                await self._command(["rm", "-f", name], b"", 60.0)
        if status in (125, 126, 127) and _MARK.encode() not in output:  # docker's own failures
            raise ContainerError(f"image {task.image}: {_last_line(output)}")
        return output

    async def _fetch(self, image: str) -> None:
        """See to it that an image is on this machine, once."""
        async with self._fetching.setdefault(image, asyncio.Lock()):
            if image in self._there:
                return
            try:
                status, output = await self._command(["image", "inspect", "--", image], b"", 60.0)
                if status != 0:
                    status, output = await self._command(["pull", "--quiet", "--", image], b"", PULL_SECONDS)
            except TimeoutError:
                status, output = 1, b"it could not be fetched in time"
            if status != 0:
                raise ContainerError(f"image {image}: {_last_line(output)}")
            self._there.add(image)

    async def _command(self, arguments: list[str], stdin: bytes, seconds: float) -> tuple[int, bytes]:
        process = await asyncio.create_subprocess_exec(
            self._docker,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(seconds):
                output, _ = await asyncio.gather(_ends_of(process.stdout), _written_to(process.stdin, stdin))
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode or 0, output


async def _ends_of(stream: asyncio.StreamReader | None) -> bytes:
    """Read an output to its end; what is in the middle of a long one is not kept."""
    head, tail = bytearray(), bytearray()
    while stream is not None and (part := await stream.read(1 << 16)):
        room = MAX_HEAD_BYTES - len(head)
        head += part[:room]
        tail += part[room:]
        if len(tail) > 2 * MAX_OUTPUT_BYTES:
            del tail[:-MAX_OUTPUT_BYTES]
    return bytes(head + tail[-MAX_OUTPUT_BYTES:])


async def _written_to(stream: asyncio.StreamWriter | None, data: bytes) -> None:
    if stream is None:
        return
    with suppress(ConnectionError):  # it ended before it had read all of it
        stream.write(data)
        await stream.drain()
    stream.close()


def read_verdicts(output: str) -> dict[str, str]:
    """Return what pytest's summary, Django's or SymPy's runner says of each test; the last word on each counts.

    Args:
        output (`str`): of the runner. A test of pytest's goes by its node id; by the beginning of that up to a space,
            as SWE-bench has it; and, as R2E-Gym has it, by what follows the file in it, with points. One of Django's
            goes by what stands before the dots, which is the first line of its docstring where it has one.
    """
    found: dict[str, str] = {}
    for verdict, line in _VERDICT.findall(output):
        name = line.rstrip() if verdict == "PASSED" else line.partition(" - ")[0].rstrip()
        for alias in (name, name.split()[0], ".".join(name.split("::")[1:])):
            found[alias] = verdict
    for whole, name, verdict in _DJANGO.findall(output):
        found[whole] = found[name or whole] = verdict
    found.update(_SYMPY.findall(output))
    return found


def _archived(data: bytes, wanted: Sequence[str]) -> dict[str, str]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() and member.size <= MAX_FILE_CHARS else None
            if file is not None and member.name in wanted:
                with suppress(UnicodeDecodeError):  # it would be another file once it was written back
                    found[member.name] = file.read().decode("utf-8")
    return found


def test_script(task: RepositoryTask, files: Mapping[str, str], names: Sequence[str], before: Mapping[str, str]) -> str:
    """Return what is run in the container. Texts travel as base64, so nothing in them is read by the shell.

    Args:
        task (`RepositoryTask`): the task.
        files (`Mapping[str, str]`): after the edits.
        names (`Sequence[str]`): tests; those of their files that the task itself brings are named in the command.
        before (`Mapping[str, str]`): the files that the edits were made on.
    """
    ours, theirs = "exit 3", f"{{ echo '{_MARK}'; exit 0; }}"  # whose fault it is when a line fails
    lines = [f"cd {_quoted(task.folder)} && realpath -m . > /dev/null || {ours}", _INSIDE]
    tests = [_written(path, text, ours) for path, text in task.test_files.items()]
    if task.test_patch:
        lines.append(f"echo {_base64(task.test_patch)} | base64 -d > /tmp/tests.diff")
        lines.append(f"git apply --check /tmp/tests.diff || {ours}")
    lines += tests
    for path, text in files.items():
        if path not in before:
            lines.append(f"[ ! -e {_quoted(path)} ] || {theirs}")
        if before.get(path) != text:
            lines.append(_written(path, text, theirs))
    lines += [f"inside {_quoted(path)} && rm -f -- {_quoted(path)} || {theirs}" for path in before if path not in files]
    lines += [line.removesuffix(ours) + theirs for line in tests]
    if task.test_patch:
        lines.append("git apply --numstat /tmp/tests.diff | cut -f3 > /tmp/tests.paths")
        lines.append(
            'while read -r path; do git checkout -q HEAD -- "$path" 2>/dev/null || rm -rf -- "$path"; done '
            "< /tmp/tests.paths"
        )
        lines.append(f"git apply /tmp/tests.diff || {theirs}")
    own = [path for path in dict.fromkeys(name.partition("::")[0] for name in names) if path in task.test_files]
    # The script is on standard input: the tests must not read it.
    lines += [f"echo '{_MARK}'", " ".join([task.test_command, *map(_quoted, own), "< /dev/null"]), "true"]
    return "\n".join(lines) + "\n"


# Whether a path is in the repository when all links in it are followed.
_INSIDE = 'inside() { case "$(realpath -m -- "$1")" in "$(pwd -P)"/*) ;; *) return 1 ;; esac; }'


def _written(path: str, text: str, otherwise: str) -> str:
    place = _quoted(checked_path(path))
    written = f'mkdir -p "$(dirname {place})" && echo {_base64(text)} | base64 -d > {place}'
    return f"inside {place} && {written} || {otherwise}"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "replace")).decode()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"
