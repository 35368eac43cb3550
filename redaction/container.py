"""The boxes of a redacted rendition, compared with a list of those that may be there.

Shares nothing with `media.mux`, which writes them: what that module believes about its own output proves
nothing. Nothing may hide between samples either: the samples of each fragment fill its media data exactly,
and the units of each picture fill its sample.

Source: ISO/IEC 14496-12; ITU-T H.264, 7.4.1 for the kinds of units.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from media.boxes import children, held, top_level
from media.errors import media_error
from redaction.findings import Report

# Every box of a rendition, under the path of the boxes that hold it. Anything else is a finding.
BOXES = {
    "": {"ftyp", "moov", "moof", "mdat"},
    "moov": {"mvhd", "trak", "mvex"},
    "moov/trak": {"tkhd", "edts", "mdia"},
    "moov/trak/edts": {"elst"},
    "moov/trak/mdia": {"mdhd", "hdlr", "minf"},
    "moov/trak/mdia/minf": {"vmhd", "smhd", "dinf", "stbl"},
    "moov/trak/mdia/minf/dinf": {"dref"},
    "moov/trak/mdia/minf/stbl": {"stsd", "stts", "stsc", "stsz", "stco"},
    "moov/mvex": {"trex"},
    "moof": {"mfhd", "traf"},
    "moof/traf": {"tfhd", "tfdt", "trun"},
}
SAMPLE_ENTRIES = {"avc1": (78, {"avcC", "pasp"}), "mp4a": (28, {"esds"})}
COMPRESSOR_NAME = slice(42, 74)
SLICE_UNITS = {1, 5}


def check_container(output: Path, report: Report) -> None:
    """Walk a rendition box by box and sample by sample, and note everything that should not be there.

    Raises:
        MediaError: It cannot be walked to its end.
    """
    size_bytes = output.stat().st_size
    expected_end = 0
    sample_sizes: list[tuple[int, int]] = []
    videos: set[int] = set()
    with output.open("rb") as file:
        for box in top_level(file, size_bytes):
            expected_end = box.end
            if box.kind not in BOXES[""]:
                report.add("box_not_allowed", where=box.kind, offset=box.offset)
            elif box.kind == "mdat":
                _check_samples(held(file, box), sample_sizes, videos, report, box.offset)
            elif box.kind != "ftyp":
                body = held(file, box)
                _check_boxes(box.kind, body, report)
                if box.kind == "moov":
                    videos = set(_video_tracks(body))
                else:
                    sample_sizes = list(_samples_of(body))
    if expected_end != size_bytes:
        report.add("bytes_between_samples", expected=expected_end, found=size_bytes)


def _check_boxes(path: str, body: bytes | memoryview, report: Report) -> None:
    for kind, inner in children(body):
        here = f"{path}/{kind}"
        if kind not in BOXES[path]:
            report.add("box_not_allowed", where=here)
        elif here in BOXES:
            _check_boxes(here, inner, report)
        elif _says_more(kind, inner):
            report.add("name_in_container", where=here)
        elif kind == "stsd":
            _check_sample_entries(here, inner[8:], report)


def _says_more(kind: str, body: memoryview) -> bool:
    """Whether a handler has a name, or a header a time of making."""
    if kind == "hdlr":
        return bytes(body[24:]).strip(b"\0") != b""
    return kind in {"mvhd", "tkhd", "mdhd"} and any(body[4:12])


def _check_sample_entries(path: str, body: memoryview, report: Report) -> None:
    for kind, entry in children(body):
        if kind not in SAMPLE_ENTRIES:
            report.add("box_not_allowed", where=f"{path}/{kind}")
            continue
        fixed_bytes, allowed = SAMPLE_ENTRIES[kind]
        if kind == "avc1" and any(entry[COMPRESSOR_NAME]):
            report.add("name_in_container", where=f"{path}/{kind}")
        for inner, _ in children(entry[fixed_bytes:]):
            if inner not in allowed:
                report.add("box_not_allowed", where=f"{path}/{kind}/{inner}")


def _video_tracks(moov: bytes) -> Iterator[int]:
    for kind, trak in children(moov):
        parts = dict(children(trak)) if kind == "trak" else {}
        if "mdia" in parts and bytes(dict(children(parts["mdia"]))["hdlr"][8:12]) == b"vide":
            yield int.from_bytes(parts["tkhd"][12:16], "big")


def _samples_of(moof: bytes) -> Iterator[tuple[int, int]]:
    """Track and size of every sample of a fragment, in the order of its runs."""
    for kind, traf in children(moof):
        if kind != "traf":
            continue
        parts = dict(children(traf))
        track = int.from_bytes(parts["tfhd"][4:8], "big")
        flags = int.from_bytes(parts["trun"][1:4], "big")
        # The allow-list ends here too: a run of any other form than the writer's is not understood.
        if flags != 0xF01:
            raise media_error(
                "fragments_unreadable", f"a run of samples with fields {flags:#x}, expected 0xf01"
            )
        rows = np.frombuffer(parts["trun"][12:], ">u4").reshape(-1, 4)
        yield from ((track, int(size)) for size in rows[:, 1])


def _check_samples(
    data: bytes, samples: list[tuple[int, int]], videos: set[int], report: Report, offset: int
) -> None:
    at = 0
    for track, size in samples:
        if track in videos:
            kinds = set(_unit_kinds(memoryview(data)[at : at + size]))
            if kinds - SLICE_UNITS:
                report.add("unit_not_allowed", offset=offset + at, found=sorted(kinds - SLICE_UNITS))
        at += size
    if at != len(data):
        report.add("bytes_between_samples", offset=offset, expected=at, found=len(data))


def _unit_kinds(sample: memoryview) -> Iterator[int]:
    at = 0
    while at + 5 <= len(sample):
        size = int.from_bytes(sample[at : at + 4], "big")
        yield sample[at + 4] & 0x1F
        at += 4 + size
    if at != len(sample):
        # A length that does not add up hides bytes; 31 is no kind of unit.
        yield 31
