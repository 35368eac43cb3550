"""The peers of `stream_peers.py`: what is at the other end of each line, and how it is begun."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from media.footage import make_clip
from media.run import packaged_ffmpeg
from tests.support.cluster import free_port, wait_for

FPS, CLIP_S = 25, 60
PASSPHRASE, KEY = "0123456789abc", "k3y-of-room"
SOUNDS = {
    "aac": ("-c:a", "aac"),
    "pcm_alaw": ("-c:a", "pcm_alaw", "-ar", "8000"),
    "pcm_mulaw": ("-c:a", "pcm_mulaw", "-ar", "8000"),
    "opus": ("-c:a", "libopus", "-b:a", "48k"),
    "mp2": ("-c:a", "mp2"),
}
# Mount point, launch line for each: an RTSP server in another Python, whose bindings are Debian's.
GSTREAMER = """
import sys
import gi
gi.require_version('Gst', '1.0')
gi.require_version('GstRtsp', '1.0')
gi.require_version('GstRtspServer', '1.0')
from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer
port, guard, pem, *mounts = sys.argv[1:]
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address('127.0.0.1')
server.set_service(port)
for mount, launch in zip(mounts[::2], mounts[1::2]):
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(launch)
    if guard != 'none':
        factory.add_role_from_structure(Gst.Structure.from_string(
            'room,media.factory.access=(boolean)true,media.factory.construct=(boolean)true')[0])
    server.get_mount_points().add_factory(mount, factory)
auth = GstRtspServer.RTSPAuth()
token = GstRtspServer.RTSPToken()
token.set_string('media.factory.role', 'room')
if guard == 'basic':
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC)
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic('recorder', 'p@ss:word/1'), token)
    server.set_auth(auth)
if guard == 'digest':
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    auth.add_digest('recorder', 'p@ss:word/1', token)
    server.set_auth(auth)
if guard == 'tls':
    auth.set_default_token(token)
    auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(pem))
    server.set_auth(auth)
server.attach(None)
GLib.MainLoop().run()
"""
PAYLOADS = {
    "h264": "h264parse ! rtph264pay config-interval=1",
    "hevc": "h265parse ! rtph265pay config-interval=1",
    "mjpeg": "jpegparse ! rtpjpegpay",
    "aac": "aacparse ! rtpmp4gpay",
    "pcm_alaw": "rtppcmapay",
    "pcm_mulaw": "rtppcmupay",
    "opus": "opusparse ! rtpopuspay",
    "mp2": "mpegaudioparse ! rtpmpapay",
}


@dataclass
class Line:
    """One peer at the other end of one room's stream."""

    name: str
    """The peer in front of the colon."""
    url: str
    picture: str
    sound: str
    program: str
    """What must be on this machine."""
    send: Callable[[Bench, Line], None] | None = None
    """Starts the peer of this line alone; None: it runs from the beginning."""
    is_called: bool = False
    """The peer comes to us, so it starts once we wait for it."""
    is_whole: bool = False
    """The first picture it has must come."""
    more: dict[str, Any] = field(default_factory=dict)
    """Of the stream's settings."""
    room: str = ""

    @property
    def codecs(self) -> tuple[str, str]:
        return self.picture, self.sound


class Bench:
    """Clips, and the processes of the peers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # VLC refuses to be root, and must read what it sends.
        folder.chmod(0o755)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._clips: dict[tuple[str, str, str], Path] = {}
        self._making = threading.Lock()

    def clip(self, picture: str, sound: str, suffix: str = "mkv") -> Path:
        """Pictures with numbers, and sound, in a container."""
        with self._making:
            known = self._clips.get((picture, sound, suffix))
            return known or self._made(picture, sound, suffix)

    def _made(self, picture: str, sound: str, suffix: str) -> Path:
        path = self.folder / f"{picture}-{sound}.{suffix}"
        plain = self.folder / f"{picture}.mkv"
        if not plain.exists():
            make_clip(plain, seconds=CLIP_S, width_px=320, height_px=180, device_no="R", officer_no="1",
                      started_at=datetime(2026, 3, 4, 2, tzinfo=UTC), codec=picture.partition("+")[0],
                      b_frames=picture.endswith("+b"), keyframe_every=FPS)  # fmt: skip
        command = [packaged_ffmpeg(), "-v", "error", "-nostdin", "-y", "-i", str(plain), "-c:v", "copy"]
        subprocess.run([*command, *SOUNDS[sound], str(path)], check=True)
        path.chmod(0o644)
        self._clips[(picture, sound, suffix)] = path
        return path

    def run(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        """A peer, until the end."""
        name = f"{len(self._processes):03d}-{Path(command[0]).name}.log"
        with (self.folder / name).open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options, start_new_session=True
            )
        self._processes.append(process)
        return process

    def close(self) -> None:
        """End them, with what they started."""
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, 9)
            process.wait()


@contextmanager
def bench_in(folder: Path) -> Iterator[Bench]:
    """Peers that end with the block."""
    bench = Bench(folder)
    try:
        yield bench
    finally:
        bench.close()


def by_ffmpeg(bench: Bench, line: Line, form: str, url: str, *more: str) -> None:
    """FFmpeg's own publisher, at the pace of the clip."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-re", "-i", str(bench.clip(*line.codecs)), "-c", "copy"]
    bench.run([*command, *more, "-f", form, url])


def by_gstreamer(bench: Bench, line: Line, sink: str, muxer: str) -> None:
    """A pipeline of GStreamer's that publishes."""
    parse = {"h264": "h264parse", "hevc": "h265parse"}[line.picture]
    pipeline = (
        f"filesrc location={bench.clip(*line.codecs)} ! matroskademux name=d "
        f"d.video_0 ! queue ! {parse} config-interval=1 ! m. d.audio_0 ! queue ! aacparse ! m. "
        f"{muxer} name=m ! {sink}"
    )
    bench.run(["gst-launch-1.0", "-q", *shlex.split(pipeline)])


def by_srt_live_transmit(bench: Bench, line: Line, url: str) -> None:
    """Haivision's own program, fed by a pipe."""
    feed = ["ffmpeg", "-v", "error", "-nostdin", "-re", "-i", str(bench.clip(*line.codecs)), "-c", "copy"]
    words = shlex.join([*feed, "-f", "mpegts", "-flush_packets", "1", "pipe:1"])
    bench.run(["sh", "-c", f"{words} | srt-live-transmit -q {shlex.quote('file://con')} {shlex.quote(url)}"])


def by_vlc(bench: Bench, line: Line, port: int) -> None:
    """VLC's RTSP server; it refuses to run as root."""
    user = "nobody" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    home = bench.folder / f"vlc-{port}"
    home.mkdir()
    if os.getuid() == 0:
        shutil.chown(home, user)
    sout = f"#rtp{{sdp=rtsp://127.0.0.1:{port}/room}}"
    bench.run(
        ["cvlc", "-q", str(bench.clip(*line.codecs, "ts")), "--sout", sout, "--sout-keep", "--sout-all"],
        user=user, env={**os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(home)},
    )  # fmt: skip


def by_hls(bench: Bench, line: Line, name: str, kind: str) -> None:
    """A live list as FFmpeg writes it, from a plain web server."""
    into = bench.folder / "hls" / name
    into.mkdir(parents=True, exist_ok=True)
    by_ffmpeg(bench, line, "hls", str(into / "live.m3u8"), "-hls_time", "1", "-hls_segment_type", kind,
              "-hls_flags", "delete_segments", "-hls_list_size", "6")  # fmt: skip
    wait_for(lambda: len(list(into.glob("live*.*"))) > 3, 30, f"{name} is served")


def rtsp_lines() -> list[Line]:
    """GStreamer's RTSP server: each codec by TCP, some by UDP, and three that guard themselves."""
    pairs = [("h264", "aac"), ("h264+b", "pcm_alaw"), ("hevc", "aac"), ("hevc", "pcm_mulaw"),
             ("mjpeg", "pcm_alaw"), ("h264", "opus"), ("h264", "mp2")]  # fmt: skip
    lines = []
    ports = {guard: free_port() for guard in ("none", "basic", "digest", "tls")}

    def serve(bench: Bench, guard: str) -> None:
        mounts = []
        for picture, sound in pairs:
            parts = [f"filesrc location={bench.clip(picture, sound)} ! matroskademux name=d"]
            for at, codec in enumerate((picture.partition("+")[0], sound)):
                kind = ("video", "audio")[at]
                parts.append(f"d.{kind}_0 ! queue ! {PAYLOADS[codec]} name=pay{at} pt={96 + at}")
            mounts += [f"/{picture}-{sound}", f"( {' '.join(parts)} )"]
        pem = certificate(bench.folder) if guard == "tls" else Path()
        bench.run(["/usr/bin/python3", "-c", GSTREAMER, str(ports[guard]), guard, str(pem), *mounts])

    started: set[str] = set()
    lock = threading.Lock()

    def once(guard: str, bench: Bench, _: Line) -> None:
        with lock:
            if guard not in started:
                started.add(guard)
                serve(bench, guard)
                wait_for(lambda: accepts(ports[guard]), 30, f"the RTSP server {guard}")

    def add(how: str, guard: str, picture: str, sound: str, scheme: str = "rtsp", **more: Any) -> None:
        url = f"{scheme}://127.0.0.1:{ports[guard]}/{picture}-{sound}"
        lines.append(Line(f"gstreamer: rtsp {how}, {picture} {sound}", url, picture, sound, "gst-launch-1.0",
                          partial(once, guard), is_whole=True, more=more))  # fmt: skip

    for picture, sound in pairs:
        add("tcp", "none", picture, sound)
    for picture, sound in pairs[:3]:
        add("udp", "none", picture, sound, transport="udp")
    account = {"username": "recorder", "password_env": "PEER_PASSWORD"}
    add("basic", "basic", "h264", "aac", **account)
    add("digest", "digest", "h264", "aac", **account)
    add("tls", "tls", "h264", "aac", "rtsps")
    return lines


def other_lines(bench: Bench) -> list[Line]:
    """RTMP, SRT, ZeroMQ, MPEG-TS, HLS, and VLC's RTSP."""
    h264 = ("h264", "aac")
    lines = []
    port = free_port()
    lines.append(Line("vlc: rtsp udp, h264 aac", f"rtsp://127.0.0.1:{port}/room", *h264, "cvlc",
                      partial(by_vlc, port=port), more={"transport": "udp"}))  # fmt: skip
    lines += rtmp_lines()
    for way, theirs in (("caller", "listener"), ("listener", "caller")):
        for peer in ("srt-live-transmit", "gstreamer", "ffmpeg"):
            port, secret = free_port(), f"&passphrase={PASSPHRASE}"
            url = f"srt://127.0.0.1:{port}?mode={theirs}"
            send: Callable[[Bench, Line], None] = {
                "srt-live-transmit": partial(by_srt_live_transmit, url=url + secret),
                "gstreamer": partial(by_gstreamer, muxer="mpegtsmux alignment=7",
                                     sink=f"srtsink uri={url} passphrase={PASSPHRASE} sync=true"),
                "ffmpeg": partial(by_ffmpeg, form="mpegts", url=url + secret),
            }[peer]  # fmt: skip
            ours = f"srt://127.0.0.1:{port}?mode={way}{secret}"
            program = {"gstreamer": "gst-launch-1.0"}.get(peer, peer)
            lines.append(Line(f"{peer}: srt, we are the {way}, h264 aac", ours, *h264, program, send,
                              is_called=way == "listener"))  # fmt: skip
    port = free_port()
    lines.append(Line("ffmpeg: zmq, h264 aac", f"zmq://127.0.0.1:{port}", *h264, "ffmpeg",
                      partial(by_ffmpeg, form="mpegts", url=f"zmq:tcp://127.0.0.1:{port}")))  # fmt: skip
    for codecs in (h264, ("hevc", "mp2")):
        port = free_port()
        name = f"ffmpeg: mpeg-ts udp, {' '.join(codecs)}"
        lines.append(Line(name, f"udp://127.0.0.1:{port}", *codecs, "ffmpeg",
                          partial(by_ffmpeg, form="mpegts", url=f"udp://127.0.0.1:{port}?pkt_size=1316"),
                          is_called=True, is_whole=True))  # fmt: skip
    port = free_port()
    lines.append(Line("gstreamer: mpeg-ts udp, h264 aac", f"udp://127.0.0.1:{port}", *h264, "gst-launch-1.0",
                      partial(by_gstreamer, muxer="mpegtsmux alignment=7",
                              sink=f"udpsink host=127.0.0.1 port={port} sync=true"),
                      is_called=True, is_whole=True))  # fmt: skip
    port = free_port()
    lines.append(Line("ffmpeg: mpeg-ts tcp, h264 aac", f"tcp://127.0.0.1:{port}", *h264, "ffmpeg",
                      partial(by_ffmpeg, form="mpegts", url=f"tcp://127.0.0.1:{port}?listen=1"),
                      is_whole=True))  # fmt: skip
    port = free_port()
    lines.append(Line("gstreamer: mpeg-ts tcp, hevc aac", f"tcp://127.0.0.1:{port}", "hevc", "aac",
                      "gst-launch-1.0",
                      partial(by_gstreamer, muxer="mpegtsmux alignment=7",
                              sink=f"tcpserversink host=127.0.0.1 port={port} sync=true")))  # fmt: skip
    web = served(bench)
    for kind in ("mpegts", "fmp4"):
        lines.append(Line(f"ffmpeg: hls {kind}, h264 aac", f"{web}/{kind}/live.m3u8", *h264, "ffmpeg",
                          partial(by_hls, name=kind, kind=kind)))  # fmt: skip
    return lines


def rtmp_lines() -> list[Line]:
    """Publishers that push to us, and nginx-rtmp, which is fetched from and pushes on."""
    h264, lines = ("h264", "aac"), []
    for name, program, codecs, send in (
        ("ffmpeg", "ffmpeg", h264, partial(by_ffmpeg, form="flv")),
        ("gstreamer", "gst-launch-1.0", h264,
         lambda bench, line, url: by_gstreamer(bench, line, f"rtmp2sink location={url} sync=true",
                                               "flvmux streamable=true")),
        ("nginx-rtmp", "nginx", h264, by_nginx_push),
    ):  # fmt: skip
        port = free_port()
        send_to: Any = send
        address = f"127.0.0.1:{port}/live/{KEY}"
        lines.append(Line(f"{name}: rtmp push, {' '.join(codecs)}", f"rtmp-listen://{address}", *codecs,
                          program, partial(send_to, url=f"rtmp://{address}"), is_called=True,
                          is_whole=name != "nginx-rtmp"))  # fmt: skip
    port = free_port()
    lines.append(Line("nginx-rtmp: rtmp pull, h264 aac", f"rtmp://127.0.0.1:{port}/live/room", *h264, "nginx",
                      partial(by_nginx, port=port)))  # fmt: skip
    return lines


def by_nginx(bench: Bench, line: Line, port: int, push: str = "") -> None:
    """nginx with its RTMP module, and a publisher that it takes from."""
    folder = bench.folder / f"nginx-{port}"
    folder.mkdir()
    conf = folder / "nginx.conf"
    conf.write_text(
        f"load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\ndaemon off;\npid {folder}/pid;\n"
        f"error_log {folder}/error.log info;\nworker_processes 1;\nevents {{}}\n"
        f"rtmp {{ server {{ listen 127.0.0.1:{port}; application live {{ live on; {push} }} }} }}\n"
    )
    bench.run(["nginx", "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(conf)])
    wait_for(lambda: accepts(port), 30, "nginx")
    by_ffmpeg(bench, line, "flv", f"rtmp://127.0.0.1:{port}/live/room")


def by_nginx_push(bench: Bench, line: Line, url: str) -> None:
    """nginx, which pushes to us what it gets."""
    by_nginx(bench, line, free_port(), f"push {url};")


def certificate(folder: Path) -> Path:
    """A key and a certificate of its own, in one file."""
    pem, cert = folder / "peer.pem", folder / "peer.crt"
    openssl = shutil.which("openssl") or "openssl"
    subprocess.run([openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", pem, "-out", cert,
                    "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
                   check=True, capture_output=True)  # fmt: skip
    pem.write_bytes(pem.read_bytes() + cert.read_bytes())
    return pem


def served(bench: Bench) -> str:
    """The address of a web server over the folder of lists."""
    folder = bench.folder / "hls"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    return has("tcp", port, "0A")


def has(table: str, port: int, state: str) -> bool:
    """Whether a socket is at that port in that state, by the kernel's own table."""
    rows = [each.split() for each in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] == state for row in rows)
