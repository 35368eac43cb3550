"""TLS of the daemon's listeners, against senders that only write."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading

from evidence.listening import Listener
from messaging.tls import tls_of
from tests.support.places import certificate


def test_sender_that_never_reads_loses_nothing_by_closing() -> None:
    # As lftp ends a data connection under TLS 1.3: no word of goodbye, nothing read, the socket closed.
    content, senders = bytes(200_000), 20
    came: list[int] = []
    cert, key = certificate()

    async def taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        size = 0
        try:
            while data := await reader.read(65536):
                size += len(data)
        except OSError:
            size = -1
        came.append(size)
        writer.close()

    def send(port: int) -> None:
        trust = ssl.create_default_context(cafile=str(cert))
        plain = socket.create_connection(("127.0.0.1", port), timeout=10)
        line = trust.wrap_socket(plain, server_hostname="127.0.0.1")
        line.sendall(content)
        line.close()

    async def main() -> None:
        tls = tls_of(Listener("test", "127.0.0.1", 0, cert, key))
        server = await asyncio.start_server(taken, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        threads = [threading.Thread(target=send, args=(port,)) for _ in range(senders)]
        for thread in threads:
            thread.start()
        while len(came) < senders:
            await asyncio.sleep(0.01)
        for thread in threads:
            thread.join()
        server.close()

    asyncio.run(asyncio.wait_for(main(), 60))
    assert came == [len(content)] * senders
