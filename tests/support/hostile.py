"""Recordings that say in every place of a container what nobody may learn, and the words to look for.

Each place has a needle of its own. What FFmpeg writes itself it writes; the rest is laid into boxes, units
and packets by hand, as firmware of many makers does.

Source: ISO/IEC 14496-12 and 14496-3 (4.4.2.1: fill and data stream elements); ITU-T H.264, D.1.6 and D.1.7;
ATSC A/53 part 4 for captions; 3GPP TS 26.244, 8.10 for ``loci``; XMP part 3.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import av
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.support.boxes import box, full_box
from tests.support.media import ffmpeg, make_plain
from tests.support.samples import sample
from tests.support.telemetry import Step, add_track, gps5

XMP_ID = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")
SEI_ID = bytes(range(0x41, 0x51))
LATITUDE, LONGITUDE = 29.5630, 106.5516
PLACE = b"+29.5630+106.5516/"
PACKET_NEEDLES = ("aac_data_stream", "aac_fill")
"""Planted inside packets of sound; the second lies across bytes."""


def needle(place: str) -> bytes:
    """A word that stands nowhere else."""
    return b"NEEDLE_" + place.upper().encode("ascii") + b"_Q7ZK"


@dataclass(frozen=True)
class Hostile:
    """A recording and what was planted in it."""

    path: Path
    needles: Mapping[str, bytes] = field(default_factory=dict)


def holds(content: bytes, wanted: bytes) -> bool:
    """Whether bytes lie anywhere in others, also across the borders of bytes."""
    return any(each in content for each in _shifted(wanted))


def _shifted(wanted: bytes) -> list[bytes]:
    number, size = int.from_bytes(wanted, "big"), len(wanted)
    # Without the byte at either end, of which only some bits are the needle's.
    slid = [(number << shift).to_bytes(size + 1, "big")[1:-1] for shift in range(1, 8)]
    return [wanted, *slid]


def hostile_files(folder: Path) -> dict[str, Hostile]:
    """One of each kind: MP4, transport stream, Matroska and AVI, of the same second with a face."""
    plain, talking = folder / "plain.mp4", folder / "talking.mp4"
    make_plain(plain, seconds=1, fps=5, face=sample("astronaut.png"))
    _talk(plain, talking)
    return {
        "mp4": _mp4(talking, folder),
        "ts": _transport_stream(talking, folder),
        "mkv": _matroska(talking, folder),
        "avi": _avi(plain, folder),
    }


def _talk(source: Path, destination: Path) -> None:
    """Copy footage and lay units and elements that nobody sees or hears into each of its packets."""
    with av.open(str(source)) as given, av.open(str(destination), "w", format="mp4") as made:
        shown, heard = given.streams.video[0], given.streams.audio[0]
        streams = {each.index: made.add_stream_from_template(each) for each in (shown, heard)}
        for packet in given.demux(shown, heard):
            if packet.dts is None:
                continue
            kind = packet.stream.type
            data = bytes(packet)
            changed = av.Packet(_units() + data if kind == "video" else _elements(data))
            changed.pts, changed.dts, changed.duration = packet.pts, packet.dts, packet.duration
            changed.time_base, changed.is_keyframe = packet.time_base, packet.is_keyframe
            changed.stream = streams[packet.stream.index]
            made.mux(changed)


def _units() -> bytes:
    """Two units of supplemental information, each behind its length."""
    said = needle("sei_user_data")
    captions = b"\xb5\x00\x31GA94\x03" + bytes([0x40 | len(_pairs()) // 3, 0xFF]) + _pairs() + b"\xff"
    return _sei(5, SEI_ID + said) + _sei(4, captions)


def _pairs() -> bytes:
    text = needle("cc")[: 2 * 8]
    return b"".join(b"\xfc" + text[at : at + 2] for at in range(0, len(text), 2))


def _sei(kind: int, payload: bytes) -> bytes:
    unit = bytes([6, kind, len(payload)]) + payload + b"\x80"
    return struct.pack(">I", len(unit)) + unit


def _elements(packet: bytes) -> bytes:
    """A data stream element, a fill element, and the packet, which then begins in the middle of a byte."""
    stream, fill = needle("aac_data_stream"), needle("aac_fill")
    aligned = bytes([0b100_0000_1, len(stream)]) + stream
    # Identifier, four bits of count, and eight more that say by how many more than fourteen.
    head = (0b110_1111 << 8 | len(fill) - 14) << 8 * len(fill) | int.from_bytes(fill, "big")
    whole = (head << 8 * len(packet) | int.from_bytes(packet, "big")) << 1
    return aligned + whole.to_bytes(2 + len(fill) + len(packet), "big")


SPOKEN = {name: needle(name) for name in (*PACKET_NEEDLES, "sei_user_data")} | {"captions": _pairs()}


def _mp4(source: Path, folder: Path) -> Hostile:
    cover, chapters, words = folder / "cover.png", folder / "chapters.txt", folder / "words.srt"
    text = PngInfo()
    text.add_text("Comment", needle("cover").decode())
    Image.new("RGB", (64, 64), (10, 200, 30)).save(cover, pnginfo=text)
    name = needle("chapter").decode()
    chapters.write_text(f";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=900\ntitle={name}\n")
    words.write_text(f"1\n00:00:00,000 --> 00:00:00,900\n{needle('subtitle').decode()}\n")
    path = folder / f"{needle('file_name').decode()}.mp4"
    ffmpeg(
        "-i", source, "-i", cover, "-f", "lavfi", "-i", "testsrc2=s=64x48:r=5:d=1",
        "-i", chapters, "-i", words,
        "-map", "0", "-map", "2", "-map", "1", "-map", "4", "-map_chapters", "3", "-c", "copy",
        "-c:v:1", "mpeg4", "-metadata:s:v:1", f"handler_name={needle('second_video').decode()}",
        "-c:s", "mov_text", "-disposition:v:2", "attached_pic", "-timecode", "01:02:03:04",
        "-metadata", "creation_time=2026-03-01T08:00:00Z",
        "-metadata", f"title={needle('title').decode()}", path,
    )  # fmt: skip
    content = path.read_bytes()
    at = content.rindex(b"moov") - 4
    moov = content[at:]
    assert len(moov) == int.from_bytes(moov[:4], "big"), "the box of the movie is the last"
    moov += box("udta", _said(), _loci()) + _apple()
    content = content[:at] + struct.pack(">I", len(moov)) + moov[4:]
    xmp = f"<x:xmpmeta><exif:GPSLatitude>{needle('xmp').decode()}</exif:GPSLatitude></x:xmpmeta>".encode()
    path.write_bytes(content)
    add_track(path, [gps5([Step(LATITUDE, LONGITUDE)], datetime(2026, 3, 1, tzinfo=UTC))])
    loose = box("uuid", XMP_ID, xmp) + box("free", needle("free_box")) + box("gps ", needle("gps_box"))
    path.write_bytes(path.read_bytes() + loose)
    planted = ("title", "chapter", "subtitle", "second_video", "xmp", "free_box", "gps_box", "model", "cover")
    walked = struct.pack(">2i", round(LATITUDE * 1e7), round(LONGITUDE * 1e7))
    places = {"udta": PLACE, "loci": _at(), "gpmf": walked, "timecode": b"tmcd"}
    return Hostile(path, {**SPOKEN, **places, **{name: needle(name) for name in planted}})


def _said() -> bytes:
    return box("\xa9xyz", struct.pack(">HH", len(PLACE), 0x15C7), PLACE)


def _at() -> bytes:
    return struct.pack(">ii", round(LONGITUDE * 65536), round(LATITUDE * 65536))


def _loci() -> bytes:
    return full_box("loci", struct.pack(">H", 0x15C7), b"NEEDLE_LOCI\0", b"\0", _at(), bytes(4), b"earth\0\0")


def _apple() -> bytes:
    """Keys and values as telephones write them."""
    keys = [b"com.apple.quicktime.location.ISO6709", b"com.apple.quicktime.model"]
    values = [PLACE, needle("model")]
    listed = b"".join(box("mdta", key) for key in keys)
    items = b"".join(
        struct.pack(">II", 8 + 16 + len(value), number) + box("data", struct.pack(">II", 1, 0), value)
        for number, value in enumerate(values, start=1)
    )
    handler = full_box("hdlr", bytes(4), b"mdta", bytes(13))
    return box("meta", handler, full_box("keys", struct.pack(">I", len(keys)), listed), box("ilst", items))


def _transport_stream(source: Path, folder: Path) -> Hostile:
    timed, path = folder / "timed.bin", folder / "recorder.ts"
    text = b"\3" + needle("id3")
    frame = b"TIT2" + struct.pack(">IH", len(text), 0) + text
    timed.write_bytes(b"ID3\4\0\0" + struct.pack(">I", len(frame)) + frame)
    ffmpeg(
        "-i", source, "-f", "data", "-i", timed, "-map", "0", "-map", "1", "-c", "copy",
        "-metadata", f"service_name={needle('service').decode()}",
        "-metadata", f"service_provider={needle('provider').decode()}", "-f", "mpegts", path,
    )  # fmt: skip
    return Hostile(path, {**SPOKEN, **{name: needle(name) for name in ("id3", "service", "provider")}})


def _matroska(source: Path, folder: Path) -> Hostile:
    note, path = folder / "note.txt", folder / "recorder.mkv"
    note.write_bytes(needle("attachment"))
    ffmpeg(
        "-i", source, "-map", "0", "-c", "copy", "-attach", note, "-metadata:s:t", "mimetype=text/plain",
        "-metadata:s:t", f"filename={needle('attached_name').decode()}",
        "-metadata", f"LOCATION={needle('tag').decode()}",
        "-metadata:s:v", f"title={needle('track_name').decode()}", path,
    )  # fmt: skip
    planted = ("attachment", "attached_name", "tag", "track_name")
    return Hostile(path, {**SPOKEN, **{name: needle(name) for name in planted}})


def _avi(source: Path, folder: Path) -> Hostile:
    path = folder / "recorder.avi"
    ffmpeg(
        "-i", source, "-c:v", "mpeg4", "-c:a", "pcm_s16le", "-metadata", f"title={needle('info').decode()}",
        "-metadata", f"comment={needle('remark').decode()}", path,
    )  # fmt: skip
    content = bytearray(path.read_bytes())
    at = content.index(b"JUNK") + 8
    assert int.from_bytes(content[at - 4 : at], "little") > 64
    content[at : at + len(needle("junk"))] = needle("junk")
    path.write_bytes(content)
    return Hostile(path, {name: needle(name) for name in ("info", "remark", "junk")})
