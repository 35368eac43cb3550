"""What may be opened, what a browser plays, and what bytes are by their content.

Names and extensions are claims; nothing here looks at them to decide.
"""

from __future__ import annotations

from typing import NamedTuple

from evidence.kinds import MediaKind

# Demuxers that read one file and nothing else. Left out on purpose: playlists and scripts that open
# other files or addresses (hls, dash, concat, imf, sdp, rtsp, avisynth, libopenmpt …), image
# sequences, devices, text subtitles, and everything no recorder or phone writes.
DEMUXERS = (
    "3g2", "3gp", "aac", "ac3", "aiff", "amr", "amrnb", "amrwb", "asf", "au", "avi", "caf", "dhav", "dss",
    "dv", "eac3", "flac", "flv", "h263", "h264", "hevc", "hxvs", "ivf", "live_flv", "luodat", "m4a", "m4v",
    "matroska", "mj2", "mjpeg", "mov", "mp3", "mp4", "mpeg", "mpegts", "mpegvideo", "mxf", "obu", "ogg",
    "rm", "w64", "wav", "webm", "wtv", "wv",
)  # fmt: skip
PROTOCOLS = ("file", "pipe")

MAX_SIDE_PX = 8192
MAX_PICTURE_PX = 64_000_000

BROWSER_VIDEO_PROFILES = ("Baseline", "Constrained Baseline", "Main", "High")
BROWSER_PIXEL_FORMATS = ("yuv420p", "yuvj420p")

# Enough for every mark below; a moov behind gigabytes of mdat is found by walking boxes instead.
HEAD_BYTES = 1 << 16

PHOTO_MARKS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"GIF87a", "gif"),
    (0, b"GIF89a", "gif"),
    (0, b"II*\x00", "tiff"),
    (0, b"MM\x00*", "tiff"),
    (8, b"WEBP", "webp"),
)
HEIF_BRANDS = (b"heic", b"heix", b"mif1", b"avif", b"heim", b"heis")
DOCUMENT_MARKS = (
    (b"%PDF-", "pdf"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
    (b"{\\rtf", "rtf"),
)
# First entries of the packages that office programs write, OFD being the national fixed layout format.
OFFICE_ENTRIES = (b"[Content_Types].xml", b"OFD.xml", b"mimetypeapplication/vnd.oasis", b"_rels/.rels")
ARCHIVE_MARKS = (b"PK\x03\x04", b"PK\x05\x06", b"Rar!", b"7z\xbc\xaf\x27\x1c", b"\x1f\x8b", b"BZh",
                 b"\xfd7zXZ")  # fmt: skip
PLAYLIST_MARKS = (b"#EXTM3U", b"ffconcat version", b"<MPD", b"[playlist]", b"<smil", b"v=0\r\no=", b"v=0\no=")
MEDIA_EXTENSIONS = frozenset({
    "3gp", "aac", "amr", "asf", "avi", "dav", "flac", "flv", "h264", "h265", "heic", "jpeg", "jpg", "m4a",
    "m4v", "mkv", "mov", "mp3", "mp4", "mpeg", "mpg", "mts", "ogg", "png", "ts", "wav", "webm", "wma", "wmv",
})  # fmt: skip


class Sniffed(NamedTuple):
    """What the first bytes say."""

    kind: MediaKind | None
    """None: only a demuxer can tell."""
    container: str
    reason_code: str | None = None
    """Why nothing will be rendered, when that is plain already."""


def sniff(head: bytes) -> Sniffed:
    """Judge content by its first bytes.

    Args:
        head: The first `HEAD_BYTES` of the file, or all of it when it is shorter.
    """
    if not head:
        return Sniffed(MediaKind.UNKNOWN, "empty", "empty")
    if photo := _photo(head):
        return Sniffed(MediaKind.PHOTO, photo)
    for mark, container in DOCUMENT_MARKS:
        if head.startswith(mark):
            return Sniffed(MediaKind.DOCUMENT, container, "document")
    if head.startswith(ARCHIVE_MARKS):
        if head.startswith(b"PK") and any(entry in head for entry in OFFICE_ENTRIES):
            return Sniffed(MediaKind.DOCUMENT, "office", "document")
        return Sniffed(MediaKind.UNKNOWN, "archive", "archive")
    if _is_text(head):
        if any(mark in head[:4096] for mark in PLAYLIST_MARKS) or head.lstrip().startswith(b"file "):
            return Sniffed(MediaKind.UNKNOWN, "playlist", "playlist")
        return Sniffed(MediaKind.DOCUMENT, "text", "document")
    return Sniffed(None, "")


def _photo(head: bytes) -> str | None:
    for offset, mark, container in PHOTO_MARKS:
        if head[offset : offset + len(mark)] == mark:
            # Pictures one behind another without the marks of a multi-picture photo are raw Motion JPEG.
            motion = container == "jpeg" and b"\xff\xd9\xff\xd8\xff" in head and b"MPF\x00" not in head
            return None if motion else container
    if head[:2] == b"BM" and len(head) > 30 and head[6:10] == b"\0\0\0\0":
        return "bmp"
    if head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS:
        return "heif"
    return None


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    sample = head[:4096]
    controls = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in sample)
    if controls:
        return False
    # The sample may end inside a character, which has at most four bytes.
    return any(
        _decodes(sample[: len(sample) - cut], encoding)
        for encoding in ("utf-8", "gb18030")
        for cut in range(4)
    )


def _decodes(sample: bytes, encoding: str) -> bool:
    try:
        sample.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def name_promises_media(name: str) -> bool:
    """Whether a file name says that its content is footage. Only good for pointing out a contradiction."""
    return "." in name and name.rsplit(".", 1)[1].lower() in MEDIA_EXTENSIONS


def is_huge(width_px: int, height_px: int) -> bool:
    """Whether a picture is larger than anything this system decodes."""
    return max(width_px, height_px) > MAX_SIDE_PX or width_px * height_px > MAX_PICTURE_PX


def whitelist_options() -> dict[str, str]:
    """Options for every open, PyAV or command line: one local file, known demuxers, nothing else."""
    return {"protocol_whitelist": ",".join(PROTOCOLS), "format_whitelist": ",".join(DEMUXERS)}
