"""What can be seen of a file's structure without a demuxer: boxes of an MP4, lengths of others."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from evidence.errors import MediaError
from evidence.kinds import MediaKind
from media import boxes

NEEDED_BOXES = {"moov", "moof", "mdat"}


@dataclass
class Structure:
    """What the boxes of an MP4 say by themselves."""

    is_mp4: bool = False
    has_moov: bool = False
    is_cut: bool = False
    container: str = ""
    kind: MediaKind = MediaKind.VIDEO
    entries: dict[int, boxes.SampleEntry] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, head: bytes, size: int) -> Structure:
        structure = cls(is_mp4=head[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"})
        if structure.is_mp4:
            structure.container = "mp4"
            structure.kind = MediaKind.AUDIO if head[8:11] == b"M4A" else MediaKind.VIDEO
            # Bytes behind the last box that are no box are common, and harm nothing.
            with suppress(MediaError):
                structure._walk(path, size)
        elif head[:4] == b"RIFF":
            structure.is_cut = int.from_bytes(head[4:8], "little") + 8 > size + 1
        elif head[:1] == b"\x47" and head[188:189] == b"\x47":
            structure.is_cut = size % 188 != 0
        return structure

    def _walk(self, path: Path, size: int) -> None:
        with path.open("rb") as file:
            for box in boxes.top_level(file, size):
                self.is_cut = self.is_cut or (box.kind in NEEDED_BOXES and not box.is_whole)
                if box.kind == "moov" and box.is_whole:
                    self.has_moov = True
                    entries = boxes.sample_entries(boxes.held(file, box))
                    self.entries = {entry.track_id: entry for entry in reversed(entries)}
