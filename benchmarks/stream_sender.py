"""A recorder played on loopback: sends one MPEG-TS file to each who connects, at the rate it was made for."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

TURN_S = 0.04


async def serve(data: bytes, seconds: float) -> None:
    """Listen on a free port, print it, and send until the end of standard input."""

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun, sent = time.monotonic(), 0
        try:
            while sent < len(data):
                due = min(
                    len(data), int((time.monotonic() - begun + TURN_S) / seconds * len(data)) // 188 * 188
                )
                writer.write(data[sent:due])
                await writer.drain()
                sent = due
                await asyncio.sleep(TURN_S)
            writer.close()
        except ConnectionError:
            # Whoever is measured may go before the end.
            return

    server = await asyncio.start_server(send, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]).read_bytes(), float(sys.argv[2])))
