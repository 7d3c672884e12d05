"""A conversation with a program while it runs, over a socket that it and its nursery share with nobody."""

import asyncio
import os
import socket
import struct
import time
from typing import Any

from aflow_ops.errors import SandboxError
from aflow_ops.sandbox.exchange import Report, has_begun
from aflow_ops.sandbox.types import Program, SandboxResult
from aflow_ops.sandbox.worker import Worker

# Of one message. A program that sends more is ended.
MAX_MESSAGE_BYTES = 16 << 20
# Of what it says last, its traceback.
MAX_LAST_BYTES = 16 << 10


class ChannelSession:
    """See `Session`. Made by `start`."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: asyncio.StreamReader, limit: float
    ) -> None:
        self._reader, self._writer, self._status, self._limit = reader, writer, status, limit
        self._begun = time.monotonic()
        self._stderr, self._overflow = "", False
        self._report: Report | None = None
        self._transport: asyncio.BaseTransport | None = None
        self._ended = False

    @classmethod
    async def start(
        cls, worker: Worker, message: dict[str, Any], code: str | Program, body: bytes, limit: float
    ) -> "ChannelSession":
        """Start a program in a worker.

        Args:
            worker (`Worker`): which may run others at the same time.
            message (`dict`): the job.
            code (`str` or `Program`): what is run.
            body (`bytes`): what the program reads first.
            limit (`float`): by `time.monotonic()`: a worker that has not reported the end by then hangs.

        Raises:
            WorkerLostError: the worker is gone.
        """
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe()
        try:
            worker.start(message, code, [theirs.fileno(), writing])
        except BaseException:
            ours.close()
            os.close(reading)
            raise
        finally:
            theirs.close()
            os.close(writing)
        status = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(status),
            os.fdopen(reading, "rb", buffering=0),
        )
        reader, writer = await asyncio.open_connection(sock=ours)
        session = cls(reader, writer, status, limit)
        session._transport = transport
        await session._write(body)
        return session

    async def send(self, message: bytes) -> None:
        """Send a message; it is dropped when the program has ended."""
        await self._write(len(message).to_bytes(8, "big") + message)

    async def _write(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except (ConnectionError, RuntimeError):
            return

    async def receive(self) -> bytes | None:
        """Wait for the program's next message; `None` when it has ended."""
        frame = await self._frame()
        if frame is None or frame[:1] == b"m":
            return frame and frame[1:]
        # Its last words, or what no program of ours sends. Nobody listens to what comes behind them.
        self._stderr = frame[1:MAX_LAST_BYTES].decode("utf-8", "replace")
        self._overflow = frame[:1] != b"e"
        self._end()
        return None

    async def _frame(self) -> bytes | None:
        if self._ended:
            return None
        try:
            (size,) = struct.unpack(">Q", await self._reader.readexactly(8))
            if size <= MAX_MESSAGE_BYTES:
                return await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        self._overflow = True
        self._end()
        return None

    async def result(self) -> SandboxResult:
        """Wait until the program has ended; says how.

        Raises:
            SandboxError: the worker was lost before the program began.
        """
        while not self._overflow and await self.receive() is not None:
            pass
        report = await self._reported()
        if report is None:
            error: str | None = "lost"
        else:
            error = report.error(self._stderr, overflowed=self._overflow)
        return SandboxResult(error is None, "", self._stderr, error, time.monotonic() - self._begun)

    async def _reported(self) -> Report | None:
        """The nursery's report; `None` when the worker was lost after the program had begun."""
        if self._report is None:
            try:
                async with asyncio.timeout(max(0.0, self._limit - time.monotonic())):
                    data = await self._status.read()
            except TimeoutError:
                return None
            if not has_begun(data):
                raise SandboxError(f"a program could not begin: {data.decode('utf-8', 'replace') or 'no worker'}")
            self._report = Report.parse(data)
        return self._report

    def _end(self) -> None:
        """Close the channel; a program that does not end by that is killed when the status pipe closes."""
        self._ended = True
        self._writer.close()

    async def close(self) -> bool:
        """End the program, if it still runs; whether its worker is as it was."""
        self._end()
        if self._report is None and self._status.at_eof():
            try:
                await self._reported()
            except SandboxError:
                return False
        if self._transport is not None:
            self._transport.close()
        return self._report is None or not self._report.changed
