"""Take over a fragmented MP4 from the encoder that writes it, fragment by fragment.

FFmpeg keeps what comes before the first frame (a sound that starts late, the priming of AAC, the
reordering of B-frames) in edit lists. Players that are fed by fragments ignore parts of those, and
picture and sound would be shown apart by as much. So the edit lists are resolved here: each fragment's
decoding time (``tfdt``) is moved to where the edit list would have put it, and the lists are taken
out of use. Of reordered pictures `media.reordering` then tells anew when each is decoded. No byte changes
its place, so a fragment can be served as soon as this has passed over it: where pictures are reordered,
when the one behind it is there.

Source: ISO/IEC 14496-12, clauses 8.6.6 (edit list) and 8.8.12 (``tfdt``).
"""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import BinaryIO

from media import boxes
from media.errors import media_error
from media.fmp4 import FragmentIndex, index_fragments
from media.mux import unwritable
from media.reordering import settle_decoding
from media.standing import sounding_on, standing

EMPTY_EDIT = -1


class GrowingRendition:
    """The index of a rendition while it is written. Not for files that somebody else has settled.

    Args:
        path: Where it is written.
        is_reordered: Its pictures are marked for `media.reordering`.
    """

    def __init__(self, path: Path, *, is_reordered: bool = False) -> None:
        self.path = path
        self._is_reordered = is_reordered
        self._pictures: int | None = None
        """Id of the track whose decoding times are told anew."""
        self._wait: int | None = None
        """How many of its ticks it is to go back by, as its first fragment says."""
        self.index: FragmentIndex | None = None
        self.stood = Fraction(0)
        """By how many seconds its last picture stands longer than it did in what was written."""
        self._shifts: dict[int, int] | None = None
        self._settled_to = 0
        self._seen_bytes = 0

    def advance(self, *, has_ended: bool = False) -> bool:
        """Settle and index what has become whole since the last call; says whether anything has.

        Args:
            has_ended: Nothing will follow what is there.

        Raises:
            MediaError: ``fragments_unreadable``: this is not what an encoder writes.
        """
        if not self.path.exists():
            return False
        size = self.path.stat().st_size
        if size == self._seen_bytes and not has_ended:
            return False
        self._seen_bytes = size
        with self.path.open("r+b") as file:
            if self._shifts is None and not self._settle_init(file, size):
                return False
            end = self._settle_fragments(file, size, has_ended=has_ended)
        before = len(self.index.fragments) if self.index else 0
        self.index = index_fragments(self.path, self.index, limit_bytes=end)
        if self.index is not None and not has_ended:
            # Its last fragment may be written anew: nobody has seen it then.
            self.index = replace(self.index, fragments=self.index.fragments[: sounding_on(self.index)])
        return self.index is not None and len(self.index.fragments) > before

    def finish(self) -> FragmentIndex:
        """The whole index, after the encoder has ended.

        Raises:
            MediaError: It wrote no fragment.
        """
        self.advance(has_ended=True)
        if self.index is None or not self.index.fragments:
            raise media_error("fragments_unreadable", "expected at least one fragment, found none")
        number = sounding_on(self.index)
        if number is not None:
            self.index = self._let_stand(self.index, number)
        return self.index

    def _let_stand(self, index: FragmentIndex, number: int) -> FragmentIndex:
        """Write a fragment anew, and what lies behind it: its last picture stands until its sound ends."""
        known, fragment = replace(index, fragments=index.fragments[:number]), index.fragments[number]
        try:
            with self.path.open("r+b") as file:
                moof = next(boxes.top_level(file, fragment.end_bytes, fragment.offset_bytes))
                fragment_head = standing(boxes.held(file, moof), index.main, fragment.tail_pts)
                file.seek(moof.end)
                behind = file.read()
                file.seek(moof.offset)
                file.write(fragment_head + behind)
        except OSError as error:
            raise unwritable(self.path, error) from error
        self.stood = Fraction(fragment.tail_pts, index.timescale)
        found = index_fragments(self.path, known)
        assert found is not None  # noqa: S101 - it had its moov before
        return found

    def _settle_init(self, file: BinaryIO, size: int) -> bool:
        for box in boxes.top_level(file, size):
            if box.kind == "moov":
                if not box.is_whole:
                    return False
                moov = bytearray(boxes.held(file, box))
                self._shifts = _shifts(moov)
                if self._is_reordered:
                    tracks = boxes.sample_entries(moov)
                    self._pictures = next((each.track_id for each in tracks if each.handler == "vide"), None)
                file.seek(box.body_offset)
                file.write(moov)
                self._settled_to = box.end
                return True
        return False

    def _settle_fragments(self, file: BinaryIO, size: int, *, has_ended: bool) -> int:
        """Move the clocks of each whole fragment; returns where the last of them ends."""
        moof: boxes.Box | None = None
        waiting: tuple[boxes.Box, bytearray, int] | None = None
        for box in boxes.top_level(file, size, self._settled_to):
            if not box.is_whole:
                break
            if box.kind == "moof":
                moof = box
            elif box.kind == "mdat" and moof is not None:
                body = bytearray(boxes.held(file, moof))
                if waiting is not None:
                    self._write(file, waiting, body)
                waiting, moof = (moof, body, box.end), None
                # When its last pictures are decoded the next fragment says.
                if self._pictures is None:
                    self._write(file, waiting, None)
                    waiting = None
        if waiting is not None and has_ended:
            self._write(file, waiting, None)
        return self._settled_to

    def _write(
        self, file: BinaryIO, fragment: tuple[boxes.Box, bytearray, int], following: bytearray | None
    ) -> None:
        moof, body, end = fragment
        self._settle(body, following)
        file.seek(moof.body_offset)
        file.write(body)
        self._settled_to = end

    def _settle(self, moof: bytearray, following: bytearray | None) -> None:
        shifts = self._shifts or {}
        for kind, traf in boxes.children(moof):
            tfhd = boxes.find(traf, "tfhd") if kind == "traf" else None
            tfdt = boxes.find(traf, "tfdt") if kind == "traf" else None
            if tfhd is None or tfdt is None:
                continue
            (track_id,) = boxes.unpack(">I", tfhd, 4)
            shift = shifts.get(track_id, 0)
            if track_id == self._pictures:
                after = None if following is None else self._pictures_of(following)
                waits = settle_decoding(traf, after)
                self._wait = waits if self._wait is None else self._wait
                shift -= self._wait
            form = ">Q" if tfdt[0] == 1 else ">I"
            (clock,) = boxes.unpack(form, tfdt, 4)
            try:
                struct.pack_into(form, tfdt, 4, clock + shift)
            except struct.error as error:
                raise media_error(
                    "fragments_unreadable", "a fragment's clock does not fit its field"
                ) from error

    def _pictures_of(self, moof: bytearray) -> memoryview | None:
        for kind, traf in boxes.children(moof):
            tfhd = boxes.find(traf, "tfhd") if kind == "traf" else None
            if tfhd is not None and boxes.unpack(">I", tfhd, 4) == (self._pictures,):
                return traf
        return None


def _shifts(moov: bytearray) -> dict[int, int]:
    """How far each track's fragments have to move, in its timescale; edit lists become free space."""
    mvhd = boxes.find(moov, "mvhd")
    if mvhd is None:
        raise media_error("fragments_unreadable", "expected mvhd in moov, found none")
    (movie_timescale,) = boxes.unpack(">I", mvhd, 20 if mvhd[0] == 1 else 12)
    entries = boxes.sample_entries(moov)
    timescales = {entry.track_id: entry.timescale for entry in entries}
    starts: dict[int, Fraction] = dict.fromkeys(timescales, Fraction(0))
    for kind, trak in boxes.children(moov):
        tkhd, elst = (
            (boxes.find(trak, "tkhd"), boxes.find(trak, "edts", "elst")) if kind == "trak" else (None, None)
        )
        if tkhd is None or elst is None:
            continue
        (track_id,) = boxes.unpack(">I", tkhd, 20 if tkhd[0] == 1 else 12)
        if timescales.get(track_id) and movie_timescale:
            starts[track_id] = shown_at_zero(elst, movie_timescale, timescales[track_id])
        _retire(trak)
    # No decoding time may be negative. A whole number of picture ticks keeps the picture exact.
    tick = next((entry.timescale for entry in entries if entry.handler == "vide"), 0) or movie_timescale or 1
    lead = Fraction(ceil(max(Fraction(0), -min(starts.values(), default=Fraction(0))) * tick), tick)
    return {track_id: round((start + lead) * timescales[track_id]) for track_id, start in starts.items()}


def shown_at_zero(elst: memoryview, movie_timescale: int, timescale: int) -> Fraction:
    """Seconds at which the track's decoding time 0 is shown."""
    version, (count,) = elst[0], boxes.unpack(">I", elst, 4)
    form, step = (">Qq", 20) if version == 1 else (">Ii", 12)
    start = Fraction(0)
    for number in range(min(count, 16)):
        duration, media_time = boxes.unpack(form, elst, 8 + number * step)
        if media_time != EMPTY_EDIT:
            return start - Fraction(media_time, timescale)
        start += Fraction(duration, movie_timescale)
    return start


def _retire(trak: memoryview) -> None:
    at = 0
    for kind, body in boxes.children(trak):
        size = len(body) + 8
        if kind == "edts":
            struct.pack_into(">4s", trak, at + 4, b"free")
        at += size
