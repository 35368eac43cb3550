"""Every setting: its type, unit, default and what it is for. No secret has a default.

Settings come from `config.load`; use cases receive the group they need and never look in the
environment. docs/ref/settings.md lists them and a test keeps it complete.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Port = Annotated[int, Field(ge=0, le=65535)]
Origin = Annotated[str, Field(pattern=r"^https?://[^/\s*]+$")]
"""Scheme, host and port as a browser sends them: no path, and no wildcard."""
MIB = 1 << 20
GIB = 1 << 30


class Group(BaseModel):
    """A group of settings: frozen, and a name nobody knows is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
    expiry_s: int = Field(7 * 86400, gt=0, description="An open upload nobody touches is dropped after this")
    read_deadline_s: float = Field(30.0, gt=0, description="A connection that brings no byte is closed")
    min_rate_bytes_s: int = Field(
        1024, ge=0, description="A connection slower than this over a minute is closed; 0 lets any be"
    )
    cors_origins: list[Origin] = Field(
        default_factory=list, description="Origins whose pages may upload (`https://host`); empty means none"
    )
    folders: list[FolderSettings] = Field(default_factory=list, description="Watched folders")
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


class ApiSettings(Group):
    """The HTTP API."""

    host: str = Field("127.0.0.1", description="Address of the API")
    port: Port = Field(8600, description="Port of the API")
    behind_proxy: bool = Field(False, description="A trusted proxy ends TLS in front of the API")
    tls_cert: Path | None = Field(None, description="Certificate chain (PEM)")
    tls_key: Path | None = Field(None, description="Private key (PEM)")
    session_s: int = Field(12 * 3600, gt=0, description="Life of a sign-in")
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
    ffmpeg: Path | None = Field(None, description="FFmpeg binary; empty means the one of imageio-ffmpeg")
    child_memory_bytes: int = Field(4 * GIB, gt=0, description="Memory a child may use")
    child_cpu_s: int = Field(6 * 3600, gt=0, description="CPU time a child may use")
    child_wall_s: float = Field(12 * 3600.0, gt=0, description="Time a child may take")
    child_stall_s: float = Field(120.0, gt=0, description="A child without progress is killed")
    child_file_bytes: int = Field(64 * GIB, gt=0, description="Largest file a child may write")


class WorkerSettings(Group):
    """Workers, leases and the relay."""

    processes: int = Field(2, ge=1, le=256, description="Worker processes on this host")
    lease_s: float = Field(30.0, gt=0, description="A job whose worker is silent this long is taken back")
    max_attempts: int = Field(3, ge=1, description="Failures after which a job is quarantined")
    max_deaths: int = Field(5, ge=1, description="Dead workers after which a job is quarantined")
    isolate_after_deaths: int = Field(3, ge=1, description="Dead workers after which a job runs alone")
    announce_again_s: float = Field(15.0, gt=0, description="A job nobody took is announced again")
    relay_every_s: float = Field(0.5, gt=0, description="Pause between two rounds of the relay")
    checkpoint_every_s: float = Field(5.0, gt=0, description="Longest time between two custody checkpoints")
    reread_days: float = Field(90.0, gt=0, description="Every original is read back again within this")


class RedactionSettings(Group):
    """Finding and masking."""

    models_dir: Path = Field(Path(".cache/models"), description="Verified model weights")
    min_score: float = Field(0.2, gt=0, lt=1, description="Detections below this are ignored")
    gap_fill_ms: int = Field(2000, ge=0, description="A gap between two sightings is filled up to this")
    pad_ms: int = Field(500, ge=0, description="A mask starts earlier and ends later by this")
    margin_percent: int = Field(18, ge=0, le=200, description="A mask is larger than its detection by this")
    threads: int = Field(2, ge=1, description="Threads of the detector")


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
    api: ApiSettings = Field(default_factory=ApiSettings)
    media: MediaSettings = Field(default_factory=MediaSettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    redaction: RedactionSettings = Field(default_factory=RedactionSettings)
    events: EventsSettings = Field(default_factory=EventsSettings)

    @property
    def database_url(self) -> str:
        """The URL in force."""
        return self.database.url or f"sqlite:///{self.data.dir.resolve() / 'liuhen.db'}"

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
