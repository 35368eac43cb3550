"""One line to a reader: files sent by the kernel, nobody waited for without end.

Why not a general server: see docs/adr/0016-bytes-out-on-a-listener-of-our-own.md. What holds here:

1. A line holds one request head and one reply head. A file goes from the page cache to the socket
   (`sendfile`); what is not in the cache is read by a thread first, so that a slow disk holds up its own
   reader alone. Under TLS a line holds one piece.
2. What can be answered at once is answered in the loop's next turn, without a task: when many ask together,
   all are read first, then all are decided on by one look at the database, then all are sent to.
3. A reader that takes nothing for `stall_s`, or in it fewer bytes than the least rate comes to, is let go
   (`api.fairness`); until then it costs two descriptors and no thread. So is one that sends no head in time.
4. While a file is being sent, whether it may be is asked again every `RECHECK_S`; a no ends the line there
   and then. The reader sees a body shorter than was announced, which HTTP makes a failure. Where nobody can
   say, nothing is sent until somebody can, for `stall_s` at most.
5. A body is never longer or shorter than its Content-Length without the line ending. A request that brings a
   body of its own ends the line after the reply.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import fcntl
import os
import socket
import ssl
import struct
import termios
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from os import sendfile
from typing import Any, TypeVar

import structlog

from api.fairness import Pace
from api.wire import Application, FilePart, Incoming, Reply, Request
from evidence.errors import Unavailable

READ_BYTES = 16 << 10
PIECE_BYTES = 2 << 20
TLS_PIECE_BYTES = 128 << 10
TURN_S = 0.02
"""A reader as fast as we are keeps the loop for itself no longer than this."""
RECHECK_S = 1.0
LINGER_S = 1.0
_disk = ThreadPoolExecutor(16, thread_name_prefix="media-disk")
"""Reads files: a slow disk must not hold up what asks the database, nor the other way round."""
_Read = TypeVar("_Read")
log = structlog.get_logger()


@dataclass(slots=True)
class Begun:
    """A reply that is being sent, without a task yet."""

    reply: Reply
    head: bytes
    at_once: int
    """Bytes of its file, all in the page cache."""
    sent: int = 0
    """Bytes of its head."""


class LineEnded(Exception):
    """The line is of no more use; nothing is said on it."""


class Line:
    """What lines in the clear and under TLS have in common.

    Args:
        app: What answers.
        patience: How many seconds a reader may take nothing, and the least rate in bytes a second.
        turned: Told whenever the line turns idle or busy.
        gone: Told when it has ended.
    """

    def __init__(
        self,
        app: Application,
        patience: tuple[float, float],
        turned: Callable[[Line], None],
        gone: Callable[[Line], None],
    ) -> None:
        self._app, self._turned, self._gone = app, turned, gone
        self._stall_s, self._least_bytes_s = patience
        self._loop = asyncio.get_running_loop()
        self._incoming = Incoming()
        self._task: asyncio.Task[None] | None = None
        self.idle_since: float | None = self._loop.time()
        """None while a request is being answered."""
        self.fault: str | None = None
        """Why its reader was let go."""

    @property
    def task(self) -> asyncio.Task[None] | None:
        """What is answering, where that takes time."""
        return self._task

    def close(self) -> None:
        """End the line at once."""
        if self._task is not None:
            self._task.cancel()
        self._gone(self)

    def _pace(self, taken_bytes: int) -> Pace:
        """How fast the answer that begins now is taken."""
        return Pace(self._loop.time(), taken_bytes, self._stall_s, self._least_bytes_s)

    async def _read(self, pace: Pace, read: Callable[..., _Read], *args: Any) -> _Read:
        """Have a thread read from the disk; the reader is not to blame for a slow one."""
        began = self._loop.time()
        found = await self._loop.run_in_executor(_disk, read, *args)
        pace.excuse(self._loop.time() - began)
        return found

    def _require_pace(self, pace: Pace, taken_bytes: int) -> None:
        self.fault = pace.fault(self._loop.time(), taken_bytes)
        if self.fault is not None:
            raise LineEnded(f"the reader is {self.fault}")

    async def _require(self, file: FilePart, pace: Pace) -> None:
        """Go on only if the file may be sent; where nobody can say, wait for who can."""
        began = self._loop.time()
        until = began + self._stall_s
        while True:
            try:
                if await file.may_go_on():
                    pace.excuse(self._loop.time() - began)
                    return
            except Unavailable as error:
                if self._loop.time() >= until:
                    raise LineEnded("nobody can say whether it may be sent") from error
                await asyncio.sleep(min(RECHECK_S, self._stall_s))
                continue
            raise LineEnded("the right to it has ended")


class Turns:
    """All that ask in one turn of the loop are decided on together in the next, then sent to, then done with.

    `sendfile` of a MiB leaves nothing of Python in the processor's cache, and what follows it costs twice:
    between two of them stands nothing but the next call.
    """

    def __init__(self, app: Application) -> None:
        self.app = app
        self._asking: list[PlainLine] = []

    def join(self, line: PlainLine) -> None:
        """Have the request of a line answered."""
        if not self._asking:
            asyncio.get_running_loop().call_soon(self._take)
        self._asking.append(line)

    def _take(self) -> None:
        asking, self._asking = self._asking, []
        self._each(asking, partial(PlainLine.decide, answer=self.app.at_once()))
        self._each(asking, PlainLine.send_head)
        for line in asking:
            ready = line.ready
            if ready is not None:
                try:
                    line.went = sendfile(*ready)
                except OSError:
                    line.went = 0  # Not now, or never: the task will see.
        self._each(asking, PlainLine.go_on)

    def _each(self, lines: list[PlainLine], step: Callable[[PlainLine], None]) -> None:
        for line in lines:
            try:
                step(line)
            except Exception as error:
                # Whatever it was: it ends this line, and the others of the round go on.
                line.fail(error)


class PlainLine(Line):
    """A bare socket, which must not block."""

    def __init__(
        self,
        line: socket.socket,
        turns: Turns,
        patience: tuple[float, float],
        turned: Callable[[Line], None],
        gone: Callable[[Line], None],
    ) -> None:
        super().__init__(turns.app, patience, turned, gone)
        self._turns, self._line, self._number = turns, line, line.fileno()
        self._asked: Request | None = None
        self._begun: Begun | None = None
        self.ready: tuple[int, int, int, int] | None = None
        """What `sendfile` is called with in this turn; None where it is not called."""
        self.went = 0
        """Bytes of the file that it sent."""
        self._loop.add_reader(self._number, self._readable)

    def close(self) -> None:
        if self._number >= 0:
            # Before the number can become another line's.
            self._loop.remove_reader(self._number)
            self._loop.remove_writer(self._number)
            self._number = -1
            self._line.close()
            if self._begun is not None and self._begun.reply.file is not None:
                self._begun.reply.file.close()
            self._asked = self._begun = None
            super().close()

    def fail(self, error: Exception) -> None:
        """Whatever it was, a line that nobody works on would be held for ever."""
        _note(error)
        _reset(self._line)
        self.close()

    def _readable(self) -> None:
        if self.idle_since is None:
            # One after the other: the rest of what was sent ahead waits in the kernel.
            return
        try:
            data = self._line.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        status = self._incoming.read(data)
        if status is not None:
            self._incoming.waiting.clear()
            self._take_time(self._last_words(self._app.refuse(status)))
            return
        self._answer()

    def _answer(self) -> None:
        """Decide on the next that waits, if that can be done at once; a task does what takes time."""
        waiting = self._incoming.waiting
        if not waiting:
            self.idle_since = self._loop.time()
            self._turned(self)
            return
        request = waiting.popleft()
        self.idle_since = None
        if request.is_last:
            self._take_time(self._slowly(request))
        else:
            self._asked = request
            self._turns.join(self)

    def decide(self, answer: Callable[[Request], Reply | None]) -> None:
        """Find out what is sent at once; a task does what takes time."""
        request, self._asked = self._asked, None
        if request is None:
            return  # Closed since.
        reply = answer(request)
        if reply is None:
            self._take_time(self._slowly(request))
            return
        count = 0
        if reply.file is not None:
            count = min(reply.file.left, PIECE_BYTES)
            if not reply.file.is_cached(count):
                count = 0
        self._begun = Begun(reply, reply.head(is_last=False), count)

    def send_head(self) -> None:
        """Send the head, as far as the kernel takes it; it holds it back until the file follows."""
        begun = self._begun
        if begun is None:
            return
        file = begun.reply.file
        try:
            begun.sent = self._line.send(begun.head, 0 if file is None else socket.MSG_MORE)
        except OSError:
            return  # Not now, or never: the task will see.
        if file is not None and begun.at_once and begun.sent == len(begun.head):
            self.ready = (self._number, file.descriptor, file.at, begun.at_once)

    def go_on(self) -> None:
        """Have a task send the rest; without one, turn to the next request."""
        begun, self._begun = self._begun, None
        went, self.ready, self.went = self.went, None, 0
        if begun is None:
            return
        file, rest = begun.reply.file, memoryview(begun.head)[begun.sent :]
        if file is not None:
            file.moved(went)
        if rest or (file is not None and file.left):
            self._take_time(self._finish(begun.reply, rest))
            return
        if file is not None:
            file.close()
        self._answer()

    def _take_time(self, answering: Coroutine[Any, Any, None]) -> None:
        """Do the rest in a task; nothing is read meanwhile."""
        self._loop.remove_reader(self._number)
        self._task = self._loop.create_task(self._until_done(answering))

    async def _until_done(self, answering: Coroutine[Any, Any, None]) -> None:
        try:
            await answering
        except Exception as error:
            # A task nobody awaits: what it does not tell its line is told to nobody.
            self._task = None
            self.fail(error)
            return
        self._task = None
        if self._number >= 0:
            self._loop.add_reader(self._number, self._readable)
            self._answer()

    async def _slowly(self, request: Request) -> None:
        reply = await self._app(request)
        if request.is_last:
            await self._last_words(reply)
        else:
            await self._finish(reply, memoryview(reply.head(is_last=False)))

    async def _last_words(self, reply: Reply) -> None:
        """Answer and close so that it is heard, though more of the reader's may still come."""
        await self._finish(reply, memoryview(reply.head(is_last=True)))
        self._line.shutdown(socket.SHUT_WR)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while await self._loop.sock_recv(self._line, READ_BYTES):
                    pass
        self._task = None
        self.close()

    async def _finish(self, reply: Reply, head: memoryview) -> None:
        """Send the rest of a reply, as fast as the reader takes it."""
        file, pace = reply.file, self._pace(-_unsent(self._number))
        whole = len(head)
        try:
            while head:
                try:
                    head = head[self._line.send(head, socket.MSG_MORE if file is not None else 0) :]
                except BlockingIOError:
                    await self._until_writable(None, pace, whole - len(head))
            if file is not None:
                await self._send_file(file, pace, whole - file.at)
        finally:
            if file is not None:
                file.close()

    async def _send_file(self, file: FilePart, pace: Pace, ahead: int) -> None:
        """Send the file; `ahead` makes of a place in it what was given to the kernel until there."""
        checked = turned = self._loop.time()
        while file.left:
            now = self._loop.time()
            if now - checked > RECHECK_S:
                await self._require(file, pace)
                checked = now
            if now - turned > TURN_S:
                await asyncio.sleep(0)
                turned = now
            count = min(file.left, PIECE_BYTES)
            if not file.is_cached(count):
                await self._read(pace, file.fetch, count)
            try:
                sent = os.sendfile(self._number, file.descriptor, file.at, count)
            except BlockingIOError:
                await self._until_writable(file, pace, ahead + file.at)
                checked = turned = self._loop.time()
                continue
            if sent == 0:
                raise OSError(errno.EIO, "the file is shorter than it was")
            file.moved(sent)

    async def _until_writable(self, file: FilePart | None, pace: Pace, sent: int) -> None:
        """Wait for the reader, asking again meanwhile whether it may have more.

        Args:
            sent: How much the kernel was given since `pace` began.
        """
        while True:
            waiting: asyncio.Future[bool] = self._loop.create_future()
            self._loop.add_writer(self._number, _tell, waiting, True)
            timer = self._loop.call_later(min(RECHECK_S, self._stall_s), _tell, waiting, False)
            try:
                is_writable = await waiting
            finally:
                timer.cancel()
                if self._number >= 0:
                    self._loop.remove_writer(self._number)
            self._require_pace(pace, sent - _unsent(self._number))
            if is_writable:
                return
            if file is not None:
                await self._require(file, pace)


class TlsLine(Line):
    """A socket under TLS: pieces are read, encrypted and written one at a time."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        app: Application,
        patience: tuple[float, float],
        turned: Callable[[Line], None],
        gone: Callable[[Line], None],
    ) -> None:
        super().__init__(app, patience, turned, gone)
        self._reader, self._writer = reader, writer
        self._task = self._loop.create_task(self._talk())

    async def _talk(self) -> None:
        try:
            while (request := await self._next()) is not None:
                self.idle_since = None
                self._turned(self)
                await self._send(await self._app(request), is_last=request.is_last)
                if request.is_last:
                    break
                self.idle_since = self._loop.time()
                self._turned(self)
            self._writer.close()
            async with asyncio.timeout(LINGER_S):
                await self._writer.wait_closed()
        except Exception as error:
            # As above; the line is over in any case.
            _note(error)
            _reset(self._writer.get_extra_info("socket"))
        finally:
            self._writer.transport.abort()
            self._gone(self)

    async def _next(self) -> Request | None:
        while not self._incoming.waiting:
            data = await self._reader.read(READ_BYTES)
            if not data:
                return None
            status = self._incoming.read(data)
            if status is not None:
                await self._send(self._app.refuse(status), is_last=True)
                return None
        return self._incoming.waiting.popleft()

    async def _send(self, reply: Reply, *, is_last: bool) -> None:
        file, pace, sent = reply.file, self._pace(0), 0
        try:
            self._writer.write(reply.head(is_last=is_last))
            await self._drained(file, pace, sent)
            checked = self._loop.time()
            while file is not None and file.left:
                count = min(file.left, TLS_PIECE_BYTES)
                piece = await self._read(pace, os.pread, file.descriptor, count, file.at)
                if not piece:
                    raise OSError(errno.EIO, "the file is shorter than it was")
                file.moved(len(piece))
                self._writer.write(piece)
                sent += len(piece)
                await self._drained(file, pace, sent)
                if self._loop.time() - checked > RECHECK_S:
                    await self._require(file, pace)
                    checked = self._loop.time()
        finally:
            if file is not None:
                file.close()

    async def _drained(self, file: FilePart | None, pace: Pace, sent: int) -> None:
        draining = asyncio.ensure_future(self._writer.drain())
        try:
            while not (await asyncio.wait({draining}, timeout=min(RECHECK_S, self._stall_s)))[0]:
                self._require_pace(pace, sent - self._queued())
                if file is not None:
                    await self._require(file, pace)
            draining.result()
            self._require_pace(pace, sent - self._queued())
        finally:
            draining.cancel()

    def _queued(self) -> int:
        """Bytes the reader has not acknowledged; TLS makes a few more of what was written."""
        line = self._writer.get_extra_info("socket")
        if line is None or line.fileno() < 0:
            return 0  # It was closed before us.
        return self._writer.transport.get_write_buffer_size() + _unsent(line.fileno())


def _reset(line: Any) -> None:
    """Let closing throw away what the kernel holds for the reader, instead of keeping it for minutes."""
    if line is None:
        return  # It was closed before us.
    with contextlib.suppress(OSError):
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _note(error: Exception) -> None:
    """Say what was wrong on our side; readers that go are no news, and are not told anything."""
    if not isinstance(error, OSError | LineEnded):
        log.error("line_crashed", exc_info=error)
    elif isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError | ssl.SSLError):
        log.warning("line_failed", reason=error.strerror or str(error))


def _tell(waiting: asyncio.Future[bool], is_writable: bool) -> None:
    if not waiting.done():
        waiting.set_result(is_writable)


def _unsent(line: int) -> int:
    """Bytes in the kernel that the reader has not acknowledged."""
    count = array.array("i", [0])
    fcntl.ioctl(line, termios.TIOCOUTQ, count)
    return count[0]
