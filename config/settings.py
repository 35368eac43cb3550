"""Every setting: its type, unit, default and what it is for. No secret has a default.

Settings come from `config.load`; use cases receive the group they need and never look in the
environment. docs/ref/settings.md lists them and a test keeps it complete.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from config.group import Group
from config.releases import ReleaseSettings
from config.rooms import RecorderSettings

Port = Annotated[int, Field(ge=0, le=65535)]
Origin = Annotated[str, Field(pattern=r"^https?://[^/\s*]+$")]
"""Scheme, host and port as a browser sends them: no path, and no wildcard."""
MIB = 1 << 20
GIB = 1 << 30


class DataSettings(Group):
    """Where bytes and rows live."""

    dir: Path = Field(Path("./data"), description="Data folder of this host")
    free_floor_bytes: int = Field(
        2 * GIB, ge=0, description="Free space that uploads and renditions never use up"
    )


class DatabaseSettings(Group):
    """The database of record."""

    url: str | None = Field(
        None, description="SQLAlchemy URL; empty means SQLite in the data folder (liuhen.db)"
    )
    lock_wait_s: float = Field(30.0, gt=0, description="How long a write waits for another")


class BrokerSettings(Group):
    """What carries `look at job N` to workers."""

    url: str | None = Field(
        None, description="redis:// URL; empty means the embedded Valkey on a private socket (`liuhen up`)"
    )


class DockKey(Group):
    """A public key that may push for a dock, instead of an upload token."""

    dock_no: str = Field(description="Number of the dock: the user name")
    file: Path = Field(description="Public keys, one a line, as OpenSSH writes them")
    agency: str | None = Field(None, description="Code of the agency; empty means the first one")
    device_no: str | None = Field(None, description="Device the files are from, when names do not say")


class PushSettings(Group):
    """What the listeners for pushing docks have in common."""

    enabled: bool = Field(False, description="Whether to listen")
    host: str = Field("127.0.0.1", description="Address to listen on")
    max_connections: int = Field(128, gt=0, description="Connections at once")
    max_connections_per_dock: int = Field(16, gt=0, description="Connections of one dock at once")
    max_open_files: int = Field(64, gt=0, description="Files a connection may have open")
    idle_s: float = Field(120.0, gt=0, description="A connection that is silent this long is closed")
    failed_logins: int = Field(10, gt=0, description="Wrong passwords an address may give in 15 minutes")
    unproven_after_s: float | None = Field(
        None,
        gt=0,
        description="Also take, with a flag, files closed in order that no rename, size or digest proves "
        "whole, after this rest; empty means never",
    )


class SftpSettings(PushSettings):
    """SFTP for docks that can only push; off unless enabled."""

    port: Port = Field(8622, description="Port of the SFTP listener")
    host_key: Path | None = Field(
        None, description="Private host key (OpenSSH); empty: made in the data folder, on loopback alone"
    )
    keys: list[DockKey] = Field(default_factory=list, description="Public keys of docks")


class FtpSettings(PushSettings):
    """FTP over TLS for docks that can only push; off unless enabled."""

    port: Port = Field(8621, description="Port of the FTP listener")
    tls: Literal["explicit", "implicit"] = Field("explicit", description="How TLS begins")
    tls_cert: Path | None = Field(None, description="Certificate chain (PEM)")
    tls_key: Path | None = Field(None, description="Private key (PEM)")
    allow_plain: bool = Field(
        False, description="Also let docks in that cannot speak TLS; seen by all on the line"
    )
    passive_from: Port = Field(0, description="First port of data connections; 0: any")
    passive_to: Port = Field(0, description="Last port of data connections; 0: any")
    public_ip: str | None = Field(None, description="IPv4 address told to docks for data, behind NAT")


class IngestSettings(Group):
    """The upload listener and watched folders."""

    host_id: str | None = Field(
        None,
        pattern=r"^[a-z0-9]{1,16}$",
        description="Short name of this ingest host, its own where several share a data folder",
    )
    host: str = Field("127.0.0.1", description="Address of the upload listener")
    port: Port = Field(8601, description="Port of the upload listener")
    public_url: str | None = Field(None, description="Base URL docks reach this host under")
    behind_proxy: bool = Field(False, description="A trusted proxy ends TLS in front of the listener")
    tls_cert: Path | None = Field(None, description="Certificate chain (PEM)")
    tls_key: Path | None = Field(None, description="Private key (PEM)")
    max_upload_bytes: int = Field(64 * GIB, gt=0, description="Largest single file")
    max_open_uploads: int = Field(64, gt=0, description="Open uploads one token or one device may hold")
    max_open_bytes: int = Field(256 * GIB, gt=0, description="Bytes that these may come to in all")
    max_pushed_bytes_per_dock: int = Field(
        256 * GIB,
        gt=0,
        description="Bytes of one dock that may lie pushed over SFTP or FTP and not yet freed",
    )
    expiry_s: int = Field(7 * 86400, gt=0, description="An open upload nobody touches is dropped after this")
    read_deadline_s: float = Field(30.0, gt=0, description="A connection that brings no byte is closed")
    min_rate_bytes_s: int = Field(
        1024, ge=0, description="A connection slower than this over a minute is closed; 0 lets any be"
    )
    cors_origins: list[Origin] = Field(
        default_factory=list, description="Origins whose pages may upload (`https://host`); empty means none"
    )
    folders: list[FolderSettings] = Field(default_factory=list, description="Watched folders")
    sources: list[SourceSettings] = Field(
        default_factory=list, description="Docks and servers that files are fetched from (SFTP, FTP, HTTP)"
    )
    sftp: SftpSettings = Field(default_factory=SftpSettings, description="SFTP for docks that can only push")
    ftp: FtpSettings = Field(default_factory=FtpSettings, description="FTP(S) for docks that can only push")
    name_profiles: Path | None = Field(
        None, description="TOML with the agency's own file-name profiles, tried before the shipped ones"
    )
    sidecar_fields: Path | None = Field(
        None, description="TOML with the names the agency's sidecars use, tried before the shipped ones"
    )
    recording_gap_s: float = Field(
        2.0,
        ge=0,
        le=60,
        description="Files of one device at most this far apart are of one press of the button (D4: 0.04 s)",
    )


class FolderSettings(Group):
    """One watched folder or card mount."""

    path: Path = Field(description="Folder to watch")
    agency: str | None = Field(None, description="Code of the agency; empty means the first one")
    device_no: str | None = Field(None, description="Device the files are from, when names do not say")
    dock_no: str | None = Field(None, description="Dock the folder belongs to")
    settle_s: float = Field(10.0, ge=0, description="Size and time must rest this long")
    scan_every_s: float = Field(5.0, gt=0, description="Pause between two scans")
    marker_suffix: str | None = Field(None, description="Only take files that have a marker beside them")
    after_take: Literal["leave", "move"] = Field("leave", description="`move` renames into `done/`")


class SourceSettings(Group):
    """One dock or server that files are fetched from. Secrets stand in files or the environment."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$", description="Short name, its own on this host")
    kind: Literal["sftp", "ftp", "ftps", "http"] = Field(description="How it is spoken to")
    host: str | None = Field(None, description="Address of the dock (not for http)")
    port: Port | None = Field(None, description="Port; empty means that of the kind (22, 21, 990)")
    url: str | None = Field(None, description="Address of the manifest (http alone)")
    folder: str = Field("/", description="Folder on the dock")
    username: str | None = Field(None, description="Account on the dock")
    password_file: Path | None = Field(None, description="File with the password or bearer token")
    password_env: str | None = Field(None, description="Variable with the password or bearer token")
    key_file: Path | None = Field(None, description="Private key without passphrase (sftp)")
    host_key_sha256: list[str] = Field(default_factory=list, description="Host keys, as SHA256:… (sftp)")
    known_hosts: Path | None = Field(None, description="OpenSSH file of host keys (sftp)")
    tls: Literal["explicit", "implicit"] = Field("explicit", description="How TLS begins (ftps)")
    tls_ca: Path | None = Field(None, description="Certificates to trust (PEM); empty means the system's")
    allow_plain: bool = Field(False, description="Let password and footage pass in the clear (ftp, http)")
    agency: str | None = Field(None, description="Code of the agency; empty means the first one")
    device_no: str | None = Field(None, description="Device the files are from, when names do not say")
    dock_no: str | None = Field(None, description="Dock they come from")
    settle_s: float = Field(30.0, ge=0, description="Size and time must rest this long over two listings")
    scan_every_s: float = Field(15.0, gt=0, description="Pause between two listings")
    marker_suffix: str | None = Field(None, description="Only take files that have a marker beside them")
    after_take: Literal["leave", "delete"] = Field(
        "leave", description="`delete` removes a file from the dock once we have signed its receipt"
    )
    max_file_bytes: int = Field(64 * GIB, gt=0, description="Larger files are reported, not fetched")
    io_timeout_s: float = Field(30.0, gt=0, description="A dock that is silent this long is left")

    @field_validator("url")
    @classmethod
    def _names_no_account(cls, url: str | None) -> str | None:
        if url and "@" in urlsplit(url).netloc:
            # It would stand in the log and in custody with the address.
            raise ValueError("expected no account in it, found one; use password_file or password_env")
        return url

    @model_validator(mode="after")
    def _require_what_the_kind_needs(self) -> SourceSettings:
        if self.kind == "http" and not self.url:
            raise ValueError("expected url for an http source, found none")
        if self.kind != "http" and not (self.host and self.username):
            raise ValueError("expected host and username, found none")
        if self.kind == "sftp" and not (self.host_key_sha256 or self.known_hosts):
            raise ValueError("expected host_key_sha256 or known_hosts for an sftp source, found neither")
        if self.kind == "ftp" and not self.allow_plain:
            raise ValueError("expected allow_plain for plain ftp, found none; use ftps where the dock can")
        if self.kind == "http" and self.url and not self.url.startswith("https://") and not self.allow_plain:
            raise ValueError("expected https, or allow_plain for a manifest in the clear")
        if self.kind == "http" and self.after_take == "delete":
            raise ValueError("expected after_take leave for http, found delete: a manifest cannot be deleted")
        return self


class ApiSettings(Group):
    """The HTTP API."""

    host: str = Field("127.0.0.1", description="Address of the API")
    port: Port = Field(8600, description="Port of the API")
    behind_proxy: bool = Field(False, description="A trusted proxy ends TLS in front of the API")
    tls_cert: Path | None = Field(None, description="Certificate chain (PEM)")
    tls_key: Path | None = Field(None, description="Private key (PEM)")
    session_s: int = Field(12 * 3600, gt=0, description="Life of a sign-in")
    cvat_body_bytes: int = Field(
        128 * MIB, ge=MIB, le=GIB, description="Largest CVAT document that is taken back for a plan"
    )
    login_attempts: int = Field(10, gt=0, description="Wrong passwords an account may give in 15 minutes")


class MediaSettings(Group):
    """The media listener, FFmpeg and the limits of children that parse footage."""

    host: str = Field("127.0.0.1", description="Address of the media listener")
    port: Port = Field(8602, description="Port of the media listener")
    behind_proxy: bool = Field(False, description="A trusted proxy ends TLS in front of the listener")
    public_url: str | None = Field(None, description="Base URL players reach the listener under")
    tls_cert: Path | None = Field(None, description="Certificate chain (PEM)")
    tls_key: Path | None = Field(None, description="Private key (PEM)")
    grant_s: int = Field(4 * 3600, gt=0, description="Life of a viewing grant")
    live_encodes: int = Field(
        2, ge=0, le=64, description="Streams a host encodes at once for live view in browsers; 0: none"
    )
    unmarked_clips: bool = Field(
        False, description="Legal review and the archive may take clips away without a mark, for a reason"
    )
    stall_s: float = Field(60.0, gt=0, description="A reader that takes no byte for this long is let go")
    least_bytes_s: float = Field(
        4096, ge=0, description="A reader that takes fewer a second over stall_s is let go; 0: no bound"
    )
    max_lines_per_grant: int = Field(
        32, gt=0, description="Answers that may be under way at once under one grant; more are told to wait"
    )
    accel_location: str | None = Field(
        None,
        pattern=r"^/[A-Za-z0-9._/-]*$",
        description="Internal location of a trusted nginx in front that serves the object store and sends "
        "for us (X-Accel-Redirect); empty sends every byte from here",
    )
    ffmpeg: Path | None = Field(None, description="FFmpeg 7.1 or newer; empty: that of imageio-ffmpeg")
    child_memory_bytes: int = Field(4 * GIB, gt=0, description="Memory a child may use")
    child_cpu_s: int = Field(
        6 * 3600, gt=0, description="CPU time a child may use for each half hour of footage"
    )
    child_wall_s: float = Field(
        12 * 3600.0, gt=0, description="Time a child may take for each half hour of footage"
    )
    child_stall_s: float = Field(120.0, gt=0, description="A child without progress is killed")
    child_file_bytes: int = Field(64 * GIB, gt=0, description="Largest file a child may write, likewise")

    @model_validator(mode="after")
    def _require_the_proxy(self) -> MediaSettings:
        if self.accel_location is not None and not self.behind_proxy:
            # Whoever else got the answer would read a path instead of footage.
            raise ValueError("expected behind_proxy where accel_location is set, found none")
        return self


class RungSettings(Group):
    """One rung of the ladder that footage is encoded into."""

    height_px: int = Field(gt=0, le=4320, description="Short side of its picture; nothing is enlarged")
    crf: int = Field(23, ge=0, le=51, description="Quality that x264 keeps: lower is better and larger")
    max_kbps: int | None = Field(None, gt=0, description="Bitrate it never exceeds for long; empty: none")


class EncodingSettings(Group):
    """What footage is encoded into that browsers do not play as it is."""

    rungs: list[RungSettings] = Field(
        default_factory=lambda: [
            RungSettings(height_px=360, crf=26, max_kbps=1000),
            RungSettings(height_px=720, crf=24, max_kbps=4000),
            RungSettings(height_px=1080, crf=23, max_kbps=8000),
        ],
        min_length=1,
        max_length=8,
        description="The ladder, the smallest first; it ends with the first rung the source does not exceed",
    )
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium"] = Field(
        "veryfast", description="Preset of x264: processor time against bytes"
    )
    encoder: Literal["software", "auto", "nvenc", "qsv", "vaapi", "amf"] = Field(
        "software",
        description="What encodes the rungs above the smallest: x264, or the worker's graphics processor if "
        "a trial succeeds; `auto` tries each",
    )
    render_node: Path | None = Field(
        None, description="Graphics processor of `qsv` and `vaapi`: `/dev/dri/renderD129`; empty: the first"
    )
    small_beside_copy_above_kbps: int | None = Field(
        None, gt=0, description="A copy above this gets the smallest rung beside it; empty: never"
    )

    chunk_s: float = Field(
        120.0, ge=1, le=600, description="About how much footage one job encodes of a long recording"
    )
    chunk_above_s: float = Field(
        600.0, ge=1, description="A recording longer than this is encoded in chunks, by any worker"
    )

    @field_validator("rungs")
    @classmethod
    def _climbs(cls, rungs: list[RungSettings]) -> list[RungSettings]:
        heights = [rung.height_px for rung in rungs]
        if heights != sorted(set(heights)):
            raise ValueError(f"expected rungs from small to large, found {heights}")
        return rungs


class WorkerSettings(Group):
    """Workers, leases and the relay."""

    processes: int = Field(2, ge=1, le=256, description="Worker processes on this host")
    lease_s: float = Field(30.0, gt=0, description="A job whose worker is silent this long is taken back")
    max_attempts: int = Field(3, ge=1, description="Failures after which a job is quarantined")
    max_deaths: int = Field(5, ge=1, description="Dead workers after which a job is quarantined")
    isolate_after_deaths: int = Field(3, ge=1, description="Dead workers after which a job runs alone")
    announce_again_s: float = Field(15.0, gt=0, description="A job nobody took is announced again")
    relay_every_s: float = Field(0.5, gt=0, description="Pause between two rounds of the relay")
    checkpoint_every_s: float = Field(
        5.0, gt=0, description="New custody leaves are placed and signed this soon, after a quiet time"
    )
    checkpoint_busy_every_s: float = Field(
        60.0, gt=0, description="Pause between two custody checkpoints that a busy log's grows to"
    )
    reread_days: float = Field(90.0, gt=0, description="Every original is read back again within this")


class OwnModelSettings(Group):
    """Weights of an agency's own, of a network built like one of ours."""

    path: Path = Field(description="The ONNX file (TensorFlow Lite for blazeface)")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Of the file; other bytes are never loaded")
    finds: Literal["face", "plate", "text", "person", "screen", "document"] = Field(
        description="Class of what it finds"
    )
    decoder: Literal["centerface", "blazeface", "plates", "text"] = Field(
        description="Which of our networks it is built like, so that its answers are read in the same way"
    )
    long_side_px: int = Field(640, ge=32, le=4096, description="Longer side of the pictures it is shown")
    every_frames: int = Field(
        6, ge=1, le=250, description="It looks at every this many frames, sooner where they are slow"
    )
    min_score: float = Field(0.5, gt=0, lt=1, description="Detections below this are ignored")


class RedactionSettings(Group):
    """Finding and masking."""

    models_dir: Path = Field(Path(".cache/models"), description="Verified model weights")
    min_score: float = Field(0.2, gt=0, lt=1, description="Detections below this are ignored")
    gap_fill_ms: int = Field(2000, ge=0, description="A gap between two sightings is filled up to this")
    pad_ms: int = Field(500, ge=0, description="A mask starts earlier and ends later by this")
    margin_percent: int = Field(18, ge=0, le=200, description="A mask is larger than its detection by this")
    threads: int = Field(2, ge=1, description="Threads of the detector")
    fine_side_px: int = Field(
        1280,
        ge=640,
        le=4096,
        description="Longer side of the pictures at which small faces are looked for; twice costs four times",
    )
    fine_from_px: int = Field(
        1600, ge=32, description="Small faces are looked for in pictures with at least this longer side"
    )
    plates: bool = Field(True, description="Number plates are looked for and masked")
    plates_every_frames: int = Field(
        6,
        ge=1,
        le=250,
        description="Plates are looked for on every this many frames, sooner where they are slow",
    )
    text: bool = Field(False, description="Written words (signs, papers, screens, captions) are masked")
    text_every_frames: int = Field(
        12,
        ge=1,
        le=250,
        description="Words are looked for on every this many frames, sooner where they are slow",
    )
    turned: bool = Field(True, description="Where no face stands upright, faces are looked for turned")
    speech: bool = Field(False, description="Speech is found and muted in footage with a picture")
    own_models: list[OwnModelSettings] = Field(
        default_factory=list, description="More weights, of the agency's own"
    )
    check_score: float = Field(
        0.7, gt=0, le=1, description="A face left in a redacted rendition blocks it from this score on"
    )
    release: ReleaseSettings = Field(default_factory=ReleaseSettings, description="Release of renditions")

    def as_parameters(self) -> dict[str, int]:
        """What differs from the detector's and the tracker's own values, under their names."""
        parameters = {
            "strong_permille": round(self.min_score * 1000),
            "gap_us": self.gap_fill_ms * 1000,
            "pad_us": self.pad_ms * 1000,
            "margin_permille": self.margin_percent * 10,
            "fine_long_side_px": self.fine_side_px,
            "fine_from_px": self.fine_from_px,
            "plate_every": self.plates_every_frames if self.plates else 0,
            "text_every": self.text_every_frames if self.text else 0,
            "speech": int(self.speech),
        }
        return parameters if self.turned else {**parameters, "turned_every": 0}

    def models_in_use(self) -> list[str]:
        """Registered models that are wanted to look, and to listen."""
        wanted = {"centerface": True, "plates": self.plates, "text": self.text, "speech": self.speech}
        return [name for name, is_wanted in wanted.items() if is_wanted]

    def own_as_parameters(self) -> list[dict[str, object]]:
        """The agency's own models, as `redaction.detectors.own.OwnModel` has them."""
        return [
            {
                "path": str(model.path.resolve()),
                "sha256": model.sha256,
                "finds": model.finds,
                "decoder": model.decoder,
                "long_side_px": model.long_side_px,
                "every": model.every_frames,
                "score_permille": round(model.min_score * 1000),
            }
            for model in self.own_models
        ]


class ContinuitySettings(Group):
    """What a continuity report calls a fault of a recording."""

    sample_ms: int = Field(250, ge=20, le=5000, description="Pause between two pictures that are measured")
    gap_ms: int = Field(1000, gt=0, description="Missing picture or sound this long is a gap")
    dropped_step_percent: int = Field(
        180, gt=100, description="Dropped frames: a step this long, of the usual one around it"
    )
    black_ms: int = Field(2000, gt=0, description="A black picture is reported from this long on")
    black_luma: int = Field(38, ge=0, le=255, description="A pixel is black up to this luma, of 255")
    black_share_percent: int = Field(98, gt=0, le=100, description="Share of black pixels in a black picture")
    covered_ms: int = Field(3000, gt=0, description="A covered picture is reported from this long on")
    covered_contrast: float = Field(
        5.0, ge=0, description="A picture is covered up to this standard deviation of its luma, of 255"
    )
    frozen_ms: int = Field(5000, gt=0, description="A frozen picture is reported from this long on")
    frozen_difference: float = Field(
        0.25,
        ge=0,
        description="A picture is frozen while its luma differs by this at most on average, of 255",
    )
    # The report is for everybody who sees metadata: no pause of somebody who speaks may be told from it.
    silence_ms: int = Field(10_000, ge=10_000, description="Silence is reported from this long on")
    silence_dbfs: float = Field(-60.0, le=0, description="Sound below this level is silence, in dBFS")
    dead_ms: int = Field(10_000, ge=10_000, description="A dead microphone is reported from this long on")
    dead_dbfs: float = Field(-84.0, le=0, description="Sound below this level is no microphone's, in dBFS")
    scene_percent: int = Field(
        40, gt=0, le=100, description="A scene changes where this share of pixels changes its luma"
    )


class WayfindingSettings(Group):
    """Contact sheets and waveforms, for finding one's way in a long recording."""

    tile_side_px: int = Field(160, ge=32, le=640, description="Longest side of a picture on a contact sheet")
    most_tiles: int = Field(300, ge=10, le=5000, description="Pictures of a recording, on all its sheets")
    most_waveform_pixels: int = Field(
        100_000,
        ge=1800,
        le=2_000_000,
        description="Steps of a waveform; a fiftieth of a second each, or more",
    )


class EventsSettings(Group):
    """The ZeroMQ bus of live events: news, never footage."""

    publish_url: str | None = Field(
        None, description="Where senders connect; empty: a socket in the data folder"
    )
    subscribe_url: str | None = Field(
        None, description="Where readers connect; empty: a socket in the data folder"
    )


class Settings(Group):
    """All settings of one host."""

    data: DataSettings = Field(default_factory=DataSettings)
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    broker: BrokerSettings = Field(default_factory=BrokerSettings)
    ingest: IngestSettings = Field(default_factory=IngestSettings)
    recorder: RecorderSettings = Field(default_factory=RecorderSettings)
    api: ApiSettings = Field(default_factory=ApiSettings)
    media: MediaSettings = Field(default_factory=MediaSettings)
    encoding: EncodingSettings = Field(default_factory=EncodingSettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    redaction: RedactionSettings = Field(default_factory=RedactionSettings)
    continuity: ContinuitySettings = Field(default_factory=ContinuitySettings)
    wayfinding: WayfindingSettings = Field(default_factory=WayfindingSettings)
    events: EventsSettings = Field(default_factory=EventsSettings)

    @property
    def database_url(self) -> str:
        """The URL in force."""
        return self.database.url or f"sqlite:///{self.data.dir.resolve() / 'liuhen.db'}"

    @property
    def recorder_dir(self) -> Path:
        """Where this host's recorders write what is nobody's yet."""
        return self.data.dir / "recorder" / (self.ingest.host_id or "")

    @property
    def broker_url(self) -> str:
        """The URL in force; the embedded Valkey's socket when none is set."""
        return self.broker.url or f"redis+socket://{self.data.dir.resolve() / 'run' / 'valkey.sock'}"

    @property
    def events_publish_url(self) -> str:
        return self.events.publish_url or f"ipc://{self.data.dir.resolve() / 'run' / 'events-in'}"

    @property
    def events_subscribe_url(self) -> str:
        return self.events.subscribe_url or f"ipc://{self.data.dir.resolve() / 'run' / 'events-out'}"

    @property
    def api_url(self) -> str:
        scheme = "https" if self.api.tls_cert else "http"
        return f"{scheme}://{self.api.host}:{self.api.port}"

    @property
    def media_url(self) -> str:
        scheme = "https" if self.media.tls_cert else "http"
        return (self.media.public_url or f"{scheme}://{self.media.host}:{self.media.port}").rstrip("/")

    @property
    def ingest_url(self) -> str:
        scheme = "https" if self.ingest.tls_cert else "http"
        return (self.ingest.public_url or f"{scheme}://{self.ingest.host}:{self.ingest.port}").rstrip("/")


IngestSettings.model_rebuild()
Settings.model_rebuild()
