"""Kinds of live sources, each with a real sender on loopback: every frame comes out, in order."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import zmq

from cli.main import main
from evidence.errors import InvalidInput, NotPermitted
from ingest.recorder.process import Started, is_recording, start
from media.live.journal import read
from media.live.opening import Address, scrubbed
from media.live.pushing import HEAD, MAGIC, Pulled, new_key, push, read_key
from media.live.recording import Bounds
from media.run import packaged_ffmpeg
from tests.support.media import frame_numbers, make_plain


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sent") / "sent.mp4"
    make_plain(path, seconds=4)
    return path


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


def wait_until_taken(port: int, patience_s: float = 15) -> None:
    """Until somebody on this host listens on a port, by TCP or UDP."""
    until = time.monotonic() + patience_s
    while not any(_has(table, port, state) for table, state in (("tcp", "0A"), ("udp", "07"))):
        assert time.monotonic() < until, f"nobody listens on {port}"
        time.sleep(0.02)


def _has(table: str, port: int, state: str) -> bool:
    rows = [line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] == state for row in rows)


class Peers:
    """Senders and recorders of one test."""

    def __init__(self, folder: Path, footage: Path) -> None:
        self.folder, self.footage = folder, footage
        self.processes: list[subprocess.Popen[bytes]] = []

    def record(self, url: str, **options: Any) -> Started:
        started = start(
            self.folder, Address(url, **options), Bounds(floor_bytes=1, stall_s=1.5), packaged_ffmpeg()
        )
        self.processes.append(started.process)
        return started

    def send(self, form: str, url: str, *more: str) -> subprocess.Popen[bytes]:
        command = [
            packaged_ffmpeg(),
            "-v",
            "error",
            "-nostdin",
            "-readrate",
            "3",
            *more,
            "-i",
            str(self.footage),
        ]
        sender = subprocess.Popen([*command, "-c", "copy", "-f", form, url])
        self.processes.append(sender)
        return sender

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def peers(tmp_path: Path, footage: Path) -> Iterator[Peers]:
    made = Peers(tmp_path / "stream", footage)
    yield made
    made.close()


def said(run: Started, kind: str) -> list[dict[str, Any]]:
    return [line for line in read(run.folder)[0] if line["kind"] == kind]


def wait_for(run: Started, kind: str, patience_s: float = 15) -> dict[str, Any]:
    until = time.monotonic() + patience_s
    while not (found := said(run, kind)):
        assert time.monotonic() < until, (kind, read(run.folder)[0])
        time.sleep(0.05)
    return found[0]


def recorded(run: Started) -> list[int | None]:
    run.process.wait(30)
    assert not is_recording(run.folder)
    assert said(run, "unwritten") == []
    return [number for line in said(run, "closed") for number in frame_numbers(run.folder / line["name"])]


def is_run_of(numbers: list[int | None], sent: list[int | None], at_least: int) -> bool:
    """Whether they were sent in this order, with nothing missing between the first and the last.

    MPEG-TS tells a picture's end by the beginning of the next: of a sender that falls silent the last ones
    never come out.
    """
    return len(numbers) >= at_least and any(
        numbers == sent[at : at + len(numbers)] for at in range(len(sent) - len(numbers) + 1)
    )


def test_an_rtmp_publisher_with_the_key_is_recorded_whole(peers: Peers, footage: Path) -> None:
    port = free_port()
    run = peers.record(f"rtmp-listen://127.0.0.1:{port}/live/k3y-of-room-1")
    wait_for(run, "begun")
    wait_until_taken(port)
    wrong = peers.send("flv", f"rtmp://127.0.0.1:{port}/live/another")
    assert wrong.wait(10) != 0
    player = subprocess.run(
        [
            packaged_ffmpeg(),
            "-v",
            "error",
            "-i",
            f"rtmp://127.0.0.1:{port}/live/k3y-of-room-1",
            "-f",
            "null",
            "-",
        ],
        check=False,
        timeout=10,
        capture_output=True,
    )
    assert player.returncode != 0
    peers.send("flv", f"rtmp://127.0.0.1:{port}/live/k3y-of-room-1")
    wait_for(run, "file")
    second = peers.send("flv", f"rtmp://127.0.0.1:{port}/live/k3y-of-room-1")
    assert second.wait(10) != 0
    assert recorded(run) == frame_numbers(footage)
    refused = [line["why"] for line in said(run, "refused")]
    assert [why.rpartition(": ")[2] for why in refused] == [
        "expected the key of this room, found another",
        "expected a publisher, found a player",
        "expected one publisher, found a second",
    ]
    assert b"k3y" not in b"".join(path.read_bytes() for path in run.folder.iterdir())


def test_what_is_no_rtmp_and_what_says_nothing_harm_nobody(peers: Peers, footage: Path) -> None:
    port = free_port()
    run = peers.record(f"rtmp-listen://127.0.0.1:{port}/live/key")
    wait_for(run, "begun")
    wait_until_taken(port)
    callers = [socket.create_connection(("127.0.0.1", port)) for _ in range(6)]
    callers[0].sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(4000))
    callers[1].sendall(b"\x03" + bytes(1536) + bytes(1536) + b"\xff" * 5000)
    callers[2].sendall(b"\x03")
    callers[3].close()
    peers.send("flv", f"rtmp://127.0.0.1:{port}/live/key")
    assert recorded(run) == frame_numbers(footage)
    for caller in callers:
        caller.close()


@pytest.mark.parametrize("passphrase", ["", "&passphrase=0123456789abc"])
def test_srt_is_called_and_waited_for(peers: Peers, footage: Path, passphrase: str) -> None:
    port = free_port()
    run = peers.record(f"srt://127.0.0.1:{port}?mode=listener{passphrase}")
    wait_for(run, "begun")
    wait_until_taken(port)
    peers.send("mpegts", f"srt://127.0.0.1:{port}?mode=caller{passphrase}")
    # Whoever closes, of SRT, gives up what the other still holds back: 0.12 s, at three times the pace.
    numbers = recorded(run)
    assert is_run_of(numbers, frame_numbers(footage), 85) and numbers[0] == 0
    other = free_port()
    peers.send("mpegts", f"srt://127.0.0.1:{other}?mode=listener{passphrase}")
    wait_until_taken(other)
    called = peers.record(f"srt://127.0.0.1:{other}?mode=caller{passphrase}")
    # It joins what is under way.
    assert is_run_of(recorded(called), frame_numbers(footage), 40)


def test_zeromq_as_ffmpeg_publishes_it_is_recorded(peers: Peers, footage: Path) -> None:
    port = free_port()
    run = peers.record(f"zmq://127.0.0.1:{port}")
    wait_for(run, "begun")
    time.sleep(0.5)
    peers.send("mpegts", f"zmq:tcp://127.0.0.1:{port}", "-stream_loop", "1")
    assert is_run_of(recorded(run), frame_numbers(footage) * 2, 100)
    assert said(run, "ended")[0]["why"] == "source_stalled"


def test_our_own_sender_is_recorded_whole_and_nobody_without_its_key(
    peers: Peers, footage: Path, tmp_path: Path
) -> None:
    ours, theirs, others = (new_key(tmp_path / name) for name in ("ours", "theirs", "others"))
    port, clip = free_port(), tmp_path / "sent.ts"
    subprocess.run(
        [packaged_ffmpeg(), "-v", "error", "-i", str(footage), "-c", "copy", str(clip)], check=True
    )
    keys = f"key_file={ours.with_suffix('')}&allow_file={theirs}"
    run = peers.record(f"zmq-listen://127.0.0.1:{port}?{keys}")
    wait_until_taken(port)
    for mine, server in ((others, ours), (theirs, others)):
        with pytest.raises(NotPermitted, match="expected each end to know the other's key"):
            push(iter([]), f"tcp://127.0.0.1:{port}", read_key(mine.with_suffix("")), read_key(server))
    sent = main(["send", f"127.0.0.1:{port}", str(clip), "--key", str(theirs.with_suffix("")),
                 "--server-key", str(ours)])  # fmt: skip
    assert sent == 0
    assert recorded(run) == frame_numbers(footage)
    assert [line["why"] for line in said(run, "ended")] == ["source_ended"]
    why = {line["why"] for line in said(run, "refused")}
    assert why == {"sender refused: expected a key that is listed, found another"}


def test_messages_that_were_lost_are_told_and_repeats_are_passed_over(tmp_path: Path) -> None:
    ours, theirs = new_key(tmp_path / "ours"), new_key(tmp_path / "theirs")
    short = tmp_path / "short"
    short.write_text("none")
    told: list[str] = []
    port = free_port()
    keys = f"key_file={ours.with_suffix('')}&allow_file={theirs}"
    source = Pulled.of(f"zmq-listen://127.0.0.1:{port}?{keys}", told.append)
    with zmq.Context() as context, context.socket(zmq.PUSH) as sender:
        private = read_key(theirs.with_suffix(""))
        sender.curve_secretkey, sender.curve_publickey = private, zmq.curve_public(private)
        sender.curve_serverkey = read_key(ours)
        sender.connect(f"tcp://127.0.0.1:{port}")
        packets = [bytes([0x47, number]) + bytes(186) for number in range(8)]
        for run, number, part in (
            (b"runn-one", 5, packets[0]), (b"runn-one", 6, packets[1]), (b"runn-one", 6, packets[1]),
            (b"runn-one", 9, packets[2]), (b"runn-one", 10, b"no packet"), (b"runn-one", 10, b"none"),
            (b"runn-two", 0, packets[3]),
        ):  # fmt: skip
            sender.send_multipart([HEAD.pack(MAGIC, run, number, number), part])
        heard = [source.read(188) for _ in range(4)]
    source.close()
    assert heard == [*packets[:3], b""]
    # What is refused again within a minute is counted, and told with the next.
    assert told == [
        "joined at message 5: those before were not heard here",
        "expected message 7, found 9: 2 were lost",
        "message refused: expected a head and packets of MPEG-TS, found others",
        "sender_replaced: message 0 of the new one was not recorded",
    ]
    with pytest.raises(InvalidInput, match="expected zmq-listen"):
        Pulled.of("zmq-listen://127.0.0.1:5700", told.append)
    with pytest.raises(InvalidInput, match="expected a key of 40 characters, found 4"):
        read_key(short)


def test_what_was_made_while_nobody_recorded_is_counted_and_never_comes_later(tmp_path: Path) -> None:
    ours, theirs = new_key(tmp_path / "ours"), new_key(tmp_path / "theirs")
    told: list[str] = []
    port = free_port()
    url = f"zmq-listen://127.0.0.1:{port}?key_file={ours.with_suffix('')}&allow_file={theirs}"
    goes_on, was_enough = threading.Event(), threading.Event()
    made = 0

    def making() -> Iterator[bytes]:
        nonlocal made
        while not was_enough.is_set():
            if made == 2:
                assert goes_on.wait(10)
            yield b"\x47" + made.to_bytes(2) + bytes(185)
            made += 1
            time.sleep(0.01)

    def heard(source: Pulled) -> int:
        return int.from_bytes(source.read(188)[1:3])

    first = Pulled.of(url, told.append)
    with ThreadPoolExecutor(1) as pool:
        keys = read_key(theirs.with_suffix("")), read_key(ours)
        sent = pool.submit(push, making(), f"tcp://127.0.0.1:{port}", *keys)
        assert [heard(first) for _ in range(2)] == [0, 1]
        told += [first.left() or ""]
        first.close()
        # A pause: nobody listens, and what is made in it goes by.
        time.sleep(0.1)
        goes_on.set()
        until = time.monotonic() + 10
        while made < 6:
            assert time.monotonic() < until
            time.sleep(0.01)
        second = Pulled.of(url, told.append)
        joined = heard(second)
        assert [heard(second) for _ in range(3)] == [joined + 1, joined + 2, joined + 3]
        was_enough.set()
        while second.read(188):
            pass
        second.close()
        done = sent.result(10)
    # One may have gone with the line, before the sender knew.
    assert (done.messages, done.is_through) == (made, True)
    assert joined >= 6 and 0 < done.unheard <= joined - 2
    assert told == [
        "left at message 2: from there on it was not heard here",
        f"joined at message {joined}: those before were not heard here",
    ]


def test_what_waited_on_its_way_is_of_when_it_was_sent_and_what_waited_too_long_of_no_time(
    tmp_path: Path,
) -> None:
    ours, theirs = new_key(tmp_path / "ours"), new_key(tmp_path / "theirs")
    told: list[str] = []
    port = free_port()
    source = Pulled.of(
        f"zmq-listen://127.0.0.1:{port}?key_file={ours.with_suffix('')}&allow_file={theirs}", told.append
    )
    packet = bytes([0x47]) + bytes(187)
    begun_us = time.monotonic_ns() // 1000
    with zmq.Context() as context, context.socket(zmq.PUSH) as sender:
        private = read_key(theirs.with_suffix(""))
        sender.curve_secretkey, sender.curve_publickey = private, zmq.curve_public(private)
        sender.curve_serverkey = read_key(ours)
        sender.connect(f"tcp://127.0.0.1:{port}")
        # By a clock of its own. All come at once: the third with what it waited, half a minute.
        sent_us = [7_000_000_000, 7_000_000_100, 6_970_000_000, 6_930_000_000]
        for number, at_us in enumerate(sent_us):
            sender.send_multipart([HEAD.pack(MAGIC, b"runn-one", number, at_us), packet])
        heard = []
        for _ in sent_us:
            heard.append((source.read(188), (source.sent_us() - begun_us) / 1e6))
    source.close()
    assert [each for each, _ in heard] == [packet, packet, packet, b""]
    assert [round(at_s, -1) for _, at_s in heard[:3]] == [0, 0, -30]
    assert told == ["late: message 3 took 70 s longer than others; not recorded"]


def test_mpeg_ts_over_tcp_and_udp(peers: Peers, footage: Path) -> None:
    port = free_port()
    run = peers.record(f"udp://127.0.0.1:{port}")
    wait_for(run, "begun")
    wait_until_taken(port)
    peers.send("mpegts", f"udp://127.0.0.1:{port}?pkt_size=1316")
    numbers = recorded(run)
    assert is_run_of(numbers, frame_numbers(footage), 95) and numbers[0] == 0
    port = free_port()
    peers.send("mpegts", f"tcp://127.0.0.1:{port}?listen=1")
    wait_until_taken(port)
    assert recorded(peers.record(f"tcp://127.0.0.1:{port}")) == frame_numbers(footage)


def test_an_address_that_nobody_knows_is_refused_and_secrets_are_not_shown() -> None:
    with pytest.raises(InvalidInput, match=r"expected one of .*rtsp.*found 'gopher'"):
        Address("gopher://x/y")
    assert scrubbed("rtsp://a:b@host/x?password=1&n=2 then srt://h:1?passphrase=xyz") == (
        "rtsp://…@host/x?password=…&n=2 then srt://h:1?passphrase=…"
    )
