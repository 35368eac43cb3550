"""Settings of rooms and of what records them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from config.group import Group

MIB = 1 << 20


class StreamSettings(Group):
    """One stream of a room. Secrets stand in files or the environment."""

    name: str = Field(pattern=r"^[a-z0-9-]{1,16}$", description="Short name, its own in the room")
    url: str | None = Field(None, description="Address of the stream, without account or key in it")
    url_file: Path | None = Field(None, description="File with the whole address, where that is a secret")
    username: str | None = Field(None, description="Account at the source")
    password_file: Path | None = Field(None, description="File with the password or passphrase")
    password_env: str | None = Field(None, description="Variable with the password or passphrase")
    transport: Literal["tcp", "udp"] = Field("tcp", description="How RTSP carries packets")
    options: dict[str, str] = Field(default_factory=dict, description="Further options of the demuxer")

    @field_validator("url")
    @classmethod
    def _names_no_account(cls, url: str | None) -> str | None:
        if url and "@" in urlsplit(url).netloc:
            raise ValueError(
                "expected no account in it, found one; use username and password_file, or url_file"
            )
        return url

    @model_validator(mode="after")
    def _require_one_address(self) -> StreamSettings:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("expected one of url and url_file, found both or neither")
        return self


class PointSettings(Group):
    """Something that must be said or seen in the recording of a session (R11)."""

    code: str = Field(pattern=r"^[a-z0-9_]{1,32}$", description="Short name, its own in the list")
    zh: str = Field(min_length=1, max_length=100, description="In Chinese")
    en: str = Field("", max_length=100, description="In English; empty: in Chinese alone")


def require_whole(folder: Path | None) -> Path | None:
    """A folder that is the same wherever a process was started."""
    if folder is not None and not folder.is_absolute():
        raise ValueError(f"expected a whole path, from / on, found {folder}")
    return folder


class RoomSettings(Group):
    """One interview or hearing room with a recorder of its own."""

    room_no: str = Field(pattern=r"^[A-Za-z0-9-]{1,32}$", description="Number of the room, its own here")
    name: str = Field(min_length=1, max_length=200, description="What people call it")
    place: str = Field("", max_length=500, description="Where it is, for the record (R6); empty: its name")
    device_no: str | None = Field(None, description="Device its files are from; empty: the room's number")
    agency: str | None = Field(None, description="Code of the agency; empty means the first one")
    pre_record_s: int = Field(
        0,
        ge=0,
        le=86400,
        description="How much is kept beforehand, for a start that was forgotten, save in a pause; 0: none",
    )
    file_s: float = Field(300.0, ge=10, le=3600, description="How long a file gets")
    session_kind: Literal["interview", "hearing"] = Field(
        "interview", description="What it is for; says which checklist its sessions have"
    )
    checklist: list[PointSettings] = Field(
        default_factory=list,
        max_length=40,
        description="What must be said and seen on record (R11); empty: the usual of its kind",
    )
    second_copy: Literal["off"] | Path | None = Field(
        None, description="Its second store, or `off`; empty: that of recorder.second_copy"
    )
    streams: list[StreamSettings] = Field(default_factory=list, description="Its streams, the main one first")

    @field_validator("checklist")
    @classmethod
    def _points_each_once(cls, checklist: list[PointSettings]) -> list[PointSettings]:
        codes = [point.code for point in checklist]
        if len(set(codes)) != len(codes):
            raise ValueError(f"expected a code for each point, found {codes}")
        return checklist

    @field_validator("streams")
    @classmethod
    def _names_each_once(cls, streams: list[StreamSettings]) -> list[StreamSettings]:
        names = [stream.name for stream in streams]
        if len(set(names)) != len(names):
            raise ValueError(f"expected a name for each stream, found {names}")
        return streams

    @field_validator("second_copy")
    @classmethod
    def _is_whole(cls, folder: Literal["off"] | Path | None) -> Literal["off"] | Path | None:
        return folder if folder == "off" else require_whole(folder)

    @property
    def recorded_as(self) -> str:
        """The device number its files carry."""
        return self.device_no or self.room_no


class RecorderSettings(Group):
    """Rooms that are recorded."""

    rooms: list[RoomSettings] = Field(
        default_factory=list, description="Interview rooms; the API of an installation needs them as well"
    )
    enabled: bool = Field(True, description="Whether this ingest host records rooms")
    stall_s: float = Field(10.0, gt=0, description="A source that is silent this long is connected to anew")
    sync_every_s: float = Field(1.0, gt=0, le=1.0, description="How often what came is brought to the disk")
    queue_bytes: int = Field(64 * MIB, gt=0, description="What of one stream may wait for a slow disk")
    second_copy: Path | None = Field(
        None, description="Folder of a second store on another disk, for what rooms record; empty: none"
    )
    second_copy_bytes_s: int = Field(
        32 * MIB, gt=0, description="How fast a second store is given what it lacks, bytes a second"
    )

    @field_validator("second_copy")
    @classmethod
    def _is_whole(cls, folder: Path | None) -> Path | None:
        return require_whole(folder)

    @field_validator("rooms")
    @classmethod
    def _numbers_each_once(cls, rooms: list[RoomSettings]) -> list[RoomSettings]:
        numbers = [(room.agency, room.room_no) for room in rooms]
        if len(set(numbers)) != len(numbers):
            raise ValueError(f"expected a number for each room, found {[number for _, number in numbers]}")
        return rooms

    def second_copy_of(self, room: RoomSettings) -> Path | None:
        """Where the second store of a room is; None: it has none."""
        if isinstance(room.second_copy, Path):
            return room.second_copy
        return None if room.second_copy == "off" else self.second_copy
