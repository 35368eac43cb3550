"""A playlist read by the letter: a line that is no tag of ours in its place, or says too much, fails.

Source: RFC 8216bis, sections 4.2 (attribute lists) and 4.4 (tags). Only what we write is known, so that a tag
that creeps in is found too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"\r\n]*"|[^",\s]+)(?:,|$)')
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
FORMS = {
    "quoted": re.compile(r'"[^"]+"'),
    "word": re.compile(r"[A-Z-]+"),
    "decimal": re.compile(r"[0-9]{1,20}"),
    "resolution": re.compile(r"[0-9]+x[0-9]+"),
}
MAP = {"URI": "quoted", "BYTERANGE": "quoted"}
MEDIA = {
    "TYPE": "word",
    "GROUP-ID": "quoted",
    "NAME": "quoted",
    "DEFAULT": "word",
    "AUTOSELECT": "word",
    "FORCED": "word",
    "URI": "quoted",
}
STREAM = {
    "BANDWIDTH": "decimal",
    "AVERAGE-BANDWIDTH": "decimal",
    "CODECS": "quoted",
    "RESOLUTION": "resolution",
    "SUBTITLES": "quoted",
}


@dataclass(frozen=True)
class Piece:
    """One media segment as a player has it."""

    url: str
    duration_us: int
    first: int = 0
    size: int = 0
    head: tuple[str, int] | None = None
    """Address and size of its initialisation section."""
    is_discontinuous: bool = False
    dated_at: datetime | None = None
    """Of the tag that stands before it; None where there is none."""


@dataclass
class MediaPlaylist:
    """A media playlist."""

    target_s: int
    kind: str
    is_of_keyframes: bool
    is_ended: bool
    is_independent: bool = False
    pieces: list[Piece] = field(default_factory=list)
    skipped: int = 0
    """Of an update: how many pieces at its beginning are left out."""

    @property
    def length_us(self) -> int:
        return sum(piece.duration_us for piece in self.pieces)


@dataclass(frozen=True)
class VariantStream:
    """One line of a multivariant playlist."""

    url: str
    attributes: dict[str, str]
    is_of_keyframes: bool
    captions: str | None = None
    """The list of what is read beside it."""


def attributes_of(text: str, known: dict[str, str]) -> dict[str, str]:
    """An attribute list; every name known, once, in its form."""
    found = ATTRIBUTE.findall(text)
    assert ",".join(f"{name}={value}" for name, value in found) == text, text
    assert len({name for name, _ in found}) == len(found), text
    for name, value in found:
        assert FORMS[known[name]].fullmatch(value), (name, value)
    return {name: value.strip('"') for name, value in found}


def read_media(text: str, *, of_captions: bool = False) -> MediaPlaylist:
    """A media playlist; one of captions has whole small files."""
    assert text.endswith("\n")
    lines = text.removesuffix("\n").split("\n")
    assert lines[0] == "#EXTM3U"
    (version,) = re.fullmatch(r"#EXT-X-VERSION:(\d+)", lines[1]).groups()  # type: ignore[union-attr]
    assert int(version) >= 6, "EXT-X-MAP without I-FRAMES-ONLY"
    control = [line for line in lines if line.startswith("#EXT-X-SERVER-CONTROL:")]
    if control:
        assert control == [lines[5]] == [f"#EXT-X-SERVER-CONTROL:CAN-SKIP-UNTIL={6 * _target(lines[2])}"]
    left_out = [line for line in lines if line.startswith("#EXT-X-SKIP:")]
    if left_out:
        assert control and left_out == [lines[6]] and int(version) >= 9
    (target,) = re.fullmatch(r"#EXT-X-TARGETDURATION:([1-9]\d*)", lines[2]).groups()  # type: ignore[union-attr]
    assert lines[3] == "#EXT-X-MEDIA-SEQUENCE:0"
    (kind,) = re.fullmatch(r"#EXT-X-PLAYLIST-TYPE:(VOD|EVENT)", lines[4]).groups()  # type: ignore[union-attr]
    rest = lines[5 + len(control) + len(left_out) :]
    is_of_keyframes = rest[:1] == ["#EXT-X-I-FRAMES-ONLY"]
    rest = rest[1:] if is_of_keyframes else rest
    is_independent = rest[:1] == ["#EXT-X-INDEPENDENT-SEGMENTS"]
    rest = rest[1:] if is_independent else rest
    is_ended = rest[-1:] == ["#EXT-X-ENDLIST"]
    assert is_ended or kind == "EVENT"
    rest = rest[:-1] if is_ended else rest
    found = MediaPlaylist(int(target), kind, is_of_keyframes, is_ended, is_independent)
    for line in left_out:
        found.skipped = int(re.fullmatch(r"#EXT-X-SKIP:SKIPPED-SEGMENTS=([1-9]\d*)", line)[1])  # type: ignore[index]
    _read_segments(rest, found, of_captions=of_captions)
    return found


def _target(line: str) -> int:
    return int(line.removeprefix("#EXT-X-TARGETDURATION:"))


def _read_segments(lines: list[str], found: MediaPlaylist, *, of_captions: bool) -> None:
    head: tuple[str, int] | None = None
    at = 0

    def taken(pattern: str) -> re.Match[str] | None:
        nonlocal at
        match = re.fullmatch(pattern, lines[at]) if at < len(lines) else None
        at += match is not None
        return match

    while at < len(lines):
        is_discontinuous = taken("#EXT-X-DISCONTINUITY") is not None
        assert not is_discontinuous or found.pieces or found.skipped, "nothing comes before it"
        mapped = taken("#EXT-X-MAP:(.*)")
        if mapped is not None:
            said = attributes_of(mapped[1], MAP)
            if "BYTERANGE" in said:
                size, offset = said["BYTERANGE"].split("@")
                uri = said["URI"]
            else:
                uri, offset, size = sliced(said["URI"])
            assert offset == "0"
            head = (uri, int(size))
        dated = taken("#EXT-X-PROGRAM-DATE-TIME:(.*)")
        assert dated is None or DATE.fullmatch(dated[1])
        timed = taken(r"#EXTINF:(\d+)\.(\d{6}),")
        assert timed, lines[at]
        duration_us = int(timed[1]) * 1_000_000 + int(timed[2])
        # Rounded to the nearest second it is no longer than the target (section 4.4.3.1).
        assert (duration_us + 500_000) // 1_000_000 <= found.target_s, lines[at]
        if of_captions:
            assert lines[at].endswith(".vtt")
            found.pieces.append(Piece(lines[at], duration_us, is_discontinuous=is_discontinuous))
            at += 1
            continue
        ranged = taken(r"#EXT-X-BYTERANGE:([1-9]\d*)@(\d+)")
        assert head is not None, "no EXT-X-MAP in force"
        url = lines[at]
        assert url
        assert not url.startswith("#")
        if ranged is not None:
            size, first = ranged.groups()
        else:
            url, first, size = sliced(url)
        assert head[0] == url, "an initialisation section of another file"
        at += 1
        date = datetime.fromisoformat(dated[1]) if dated else None
        found.pieces.append(Piece(url, duration_us, int(first), int(size), head, is_discontinuous, date))


def sliced(url: str) -> tuple[str, str, str]:
    """Address, first byte and size, from the address of a slice."""
    match = re.fullmatch(r"(.+\.mp4)/(\d+)-(\d+)\.mp4", url)
    assert match, f"neither a range nor a slice: {url}"
    return match[1], match[2], str(int(match[3]) - int(match[2]) + 1)


def goes_on(told: str, text: str, *, of_captions: bool = False) -> MediaPlaylist:
    """A media playlist that was read before and may only have grown since (RFC 8216 section 6.2.1)."""
    found = read_media(text, of_captions=of_captions)
    assert text.startswith(told), f"what was told has changed:\n{told}\n{text}"
    assert text == told or not told.endswith("#EXT-X-ENDLIST\n"), "more came after its end"
    return found


def read_multivariant(text: str) -> list[VariantStream]:
    """A multivariant playlist."""
    assert text.endswith("\n")
    lines = text.removesuffix("\n").split("\n")
    assert lines[0] == "#EXTM3U"
    assert re.fullmatch(r"#EXT-X-VERSION:\d+", lines[1])
    is_independent = lines[2] == "#EXT-X-INDEPENDENT-SEGMENTS"
    found, rest = [], iter(lines[2 + is_independent :])
    captions: dict[str, str] = {}
    for line in rest:
        name, _, said = line.partition(":")
        if name == "#EXT-X-MEDIA":
            assert not found, "what is read beside the streams comes before them"
            attributes = attributes_of(said, MEDIA)
            assert (attributes["TYPE"], attributes["GROUP-ID"] in captions) == ("SUBTITLES", False)
            captions[attributes["GROUP-ID"]] = attributes["URI"]
            continue
        if name == "#EXT-X-STREAM-INF":
            url = next(rest)
            assert not url.startswith("#")
            attributes = attributes_of(said, STREAM)
            group = attributes.get("SUBTITLES")
            found.append(VariantStream(url, attributes, False, None if group is None else captions[group]))
            continue
        assert name == "#EXT-X-I-FRAME-STREAM-INF", line
        attributes = attributes_of(said, STREAM | {"URI": "quoted"})
        found.append(VariantStream(attributes.pop("URI"), attributes, True))
    assert any(not each.is_of_keyframes for each in found)
    assert all({"BANDWIDTH", "CODECS"} <= each.attributes.keys() for each in found)
    return found
