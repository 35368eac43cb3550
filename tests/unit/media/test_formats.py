"""Content is judged by its bytes, never by its name."""

from __future__ import annotations

import pytest

from evidence.kinds import MediaKind
from media.formats import DEMUXERS, PROTOCOLS, is_huge, name_promises_media, sniff


@pytest.mark.parametrize(
    ("head", "kind", "reason"),
    [
        (b"", MediaKind.UNKNOWN, "empty"),
        (b"\xff\xd8\xff\xe0" + bytes(40), MediaKind.PHOTO, None),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), MediaKind.PHOTO, None),
        (b"\0\0\0\x18ftypheic" + bytes(40), MediaKind.PHOTO, None),
        (b"%PDF-1.7\n", MediaKind.DOCUMENT, "document"),
        (b"PK\x03\x04....OFD.xml", MediaKind.DOCUMENT, "document"),
        (b"PK\x03\x04....film.mp4", MediaKind.UNKNOWN, "archive"),
        (b"#EXTM3U\nfile:///etc/passwd\n", MediaKind.UNKNOWN, "playlist"),
        (b"ffconcat version 1.0\nfile 'a'\n", MediaKind.UNKNOWN, "playlist"),
        (b"file '/etc/passwd'\n", MediaKind.UNKNOWN, "playlist"),
        ("现场检查笔录".encode(), MediaKind.DOCUMENT, "document"),
        ("现场检查笔录".encode("gb18030"), MediaKind.DOCUMENT, "document"),
        (b"\0\0\0\x18ftypisom" + bytes(40), None, None),
        (b"RIFF\0\0\0\0AVI LIST" + bytes(40), None, None),
    ],
)
def test_first_bytes_decide(head: bytes, kind: MediaKind | None, reason: str | None) -> None:
    found = sniff(head)
    assert (found.kind, found.reason_code) == (kind, reason)


def test_text_cut_inside_a_character_is_text() -> None:
    head = ("证" * 4000).encode()[: 4096 * 2]
    assert sniff(head).kind is MediaKind.DOCUMENT


def test_pictures_in_a_row_are_motion_jpeg_and_not_a_photo() -> None:
    picture = b"\xff\xd8\xff\xe0" + bytes(100) + b"\xff\xd9"
    assert sniff(picture * 3).kind is None
    assert sniff(picture + b"MPF\0" + picture).kind is MediaKind.PHOTO


def test_nothing_that_opens_other_files_is_whitelisted() -> None:
    reaching_out = {
        "hls",
        "dash",
        "concat",
        "image2",
        "sdp",
        "rtsp",
        "rtp",
        "imf",
        "lavfi",
        "avisynth",
        "tee",
    }
    assert not reaching_out & set(DEMUXERS)
    assert set(PROTOCOLS) == {"file", "pipe"}


def test_limits_of_a_picture() -> None:
    assert not is_huge(3840, 2160)
    assert is_huge(8193, 2)
    assert is_huge(8192, 8192)


def test_names_only_make_promises() -> None:
    assert name_promises_media("执法.MP4")
    assert not name_promises_media("notes.txt")
    assert not name_promises_media("mp4")
