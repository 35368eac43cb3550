"""Which groups of pictures of a rendition are kept as they are coded, and which are encoded again.

A group begins with an IDR picture and ends before the next; nothing in it is predicted from outside. Where
a rendition is one that we encoded, groups in which nothing is hidden are kept: their coded slices go into the
masked rendition byte for byte, and what stands beside the slices does not. All other groups are encoded from
their first picture to their last.

That a rendition is ours is proven, never assumed, and in any doubt all of it is encoded again:

1. What was recorded when it was made says that x264 encoded it, in closed groups, without reordering.
2. The file is that very file: its digest is the recorded one.
3. Its bytes say the same (`media.x264`): parameter sets and the head of every picture are as x264 writes them
   at the recorded size and rate factor, no group is longer than we make them, and times ascend.

A camera's own stream that was copied into a rendition fails the first: nobody knows what it carries.

Sound is kept, packet by packet, where the first two hold of it: between the elements that are heard a packet
of AAC has room for others (fill, data stream), of which no decoder says anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from evidence.errors import MediaError
from evidence.fixity import hash_file
from media.avc import Configuration
from media.decode import CodedPicture, CodedReader, DecodedFrame
from media.errors import media_error
from media.x264 import Stream, Unlike

# What our encoder is told, as it stands among the recorded arguments.
TOLD = (
    ("-c:v", "libx264"),
    ("-bf", "0"),
    ("-x264-params", "open-gop=0:scenecut=0"),
    ("-force_key_frames", "expr:gte(t,n_forced*2)"),
)
SOUND_TOLD = ("-c:a", "aac")
GROUP_MAX_S = 2


@dataclass(frozen=True)
class Group:
    """One group of pictures."""

    times: tuple[int, ...]
    """When each is shown, in units of the stream's time base, ascending."""


class KeptPicture(NamedTuple):
    """One picture that is kept as it is coded."""

    pts: int
    duration: int
    key: bool
    coded_slice: bytes
    """Its one unit."""


@dataclass(frozen=True)
class Keeping:
    """What is kept of one rendition."""

    why_whole: str | None
    """Why all of it is encoded again; None where groups may be kept."""
    kept: frozenset[int] = frozenset()
    """Times of the first pictures of the groups that are kept."""
    encodes: bool = True
    """Whether any group is encoded."""
    configuration: Configuration | None = None
    """How the kept pictures are coded; None where none are."""

    def pictures(self, source: Path, *, threads: int = 0) -> Iterator[DecodedFrame | KeptPicture]:
        """Every picture of the rendition, in order: kept ones as they are coded, all others decoded.

        Raises:
            MediaError: ``media_unreadable``: the file is another one by now.
        """
        with CodedReader(source, threads=threads) as reader:
            try:
                stream = Stream(reader.configuration())
                for is_kept, run in groupby(self._told_apart(reader), key=itemgetter(0)):
                    if not is_kept:
                        yield from reader.decode(picture for _, picture in run)
                        continue
                    for _, each in run:
                        unit = stream.coded_slice(each.data, key=each.key)
                        yield KeptPicture(each.pts, each.duration, each.key, unit)
            except Unlike as found:
                raise media_error(
                    "media_unreadable", f"expected the rendition just read, found {found}"
                ) from found

    def _told_apart(self, reader: CodedReader) -> Iterator[tuple[bool, CodedPicture]]:
        is_kept = False
        for picture in reader.pictures():
            if picture.key:
                is_kept = picture.pts in self.kept
            yield is_kept, picture


def decide(
    source: Path,
    made: Mapping[str, Any] | None,
    size: tuple[int, int],
    is_touched: Callable[[int], bool],
    alive: Callable[[], None],
) -> Keeping:
    """Which groups of a rendition are kept.

    Args:
        source: The rendition.
        made: What was recorded of its making: its ``sha256`` in hex, and ``params`` with the ``rung`` and
            FFmpeg's ``arguments``. None where nothing was.
        size: Width and height of its pictures in pixels, as decoded.
        is_touched: Whether anything is hidden, or was decided by a person, in the picture shown at a time.
        alive: Called again and again: a long file takes minutes to read.
    """
    try:
        stream, groups = _proven(source, made, size, alive)
    except Unlike as found:
        return Keeping(str(found))
    except MediaError as error:
        # Whether it can be read at all, whoever decodes all of it finds out.
        return Keeping(error.code)
    kept = [group for group in groups if not any(is_touched(pts) for pts in group.times)]
    return Keeping(
        None,
        frozenset(group.times[0] for group in kept),
        encodes=len(kept) < len(groups),
        configuration=stream.configuration if kept else None,
    )


def is_sound_ours(source: Path, made: Mapping[str, Any] | None, alive: Callable[[], None]) -> bool:
    """Whether the sound of a rendition was coded by us, from samples; in any doubt it was not.

    Args:
        source, made, alive: As of `decide`.
    """
    if made is None or not {"rung", "arguments"} <= made["params"].keys():
        return False
    name, coder = SOUND_TOLD
    rung, arguments = made["params"]["rung"], made["params"]["arguments"]
    if rung.get("copies_audio") is not False or arguments.count(name) != 1:
        return False
    return _value(arguments, name) == coder and _is_recorded(source, made, alive)


def _proven(
    source: Path, made: Mapping[str, Any] | None, size: tuple[int, int], alive: Callable[[], None]
) -> tuple[Stream, Sequence[Group]]:
    if made is None:
        raise Unlike("no record of its making")
    rate_factor = _recorded(made["params"], size)
    if not _is_recorded(source, made, alive):
        raise Unlike("another file than the recorded one")
    with CodedReader(source) as reader:
        stream = Stream(reader.configuration())
        if (stream.sequence.width_px, stream.sequence.height_px) != size:
            raise Unlike("the size of the pictures")
        if stream.picture.qp != rate_factor:
            raise Unlike("the rate factor")
        return stream, list(_groups(reader, stream, alive))


def _is_recorded(source: Path, made: Mapping[str, Any], alive: Callable[[], None]) -> bool:
    return bool(hash_file(source, progress=lambda _: alive()).sha256.hex() == made["sha256"])


def _recorded(params: Mapping[str, Any], size: tuple[int, int]) -> int | None:
    """The rate factor with which it was recorded to be encoded by us."""
    if not {"rung", "arguments"} <= params.keys():
        raise Unlike("no record of its making")
    rung, arguments = params["rung"], params["arguments"]
    if rung.get("copies_video") is not False:
        raise Unlike("a picture that was copied")
    if any(arguments.count(name) != 1 or _value(arguments, name) != value for name, value in TOLD):
        raise Unlike("another encoder, or one that was told otherwise")
    if (rung.get("width_px"), rung.get("height_px")) != size:
        raise Unlike("the size of the pictures")
    crf = rung.get("crf")
    return crf if isinstance(crf, int) else None


def _value(arguments: Sequence[str], name: str) -> str:
    return "".join(arguments[arguments.index(name) + 1 :][:1])


def _groups(reader: CodedReader, stream: Stream, alive: Callable[[], None]) -> Iterator[Group]:
    times: list[int] = []
    delay: int | None = None
    last: int | None = None
    longest = GROUP_MAX_S / reader.time_base + 1
    for picture in reader.pictures():
        stream.coded_slice(picture.data, key=picture.key)
        if last is not None and picture.pts <= last:
            raise Unlike("the times of pictures")
        if picture.dts is None or (delay is not None and picture.pts - picture.dts != delay):
            raise Unlike("pictures that are decoded before others are shown")
        last, delay = picture.pts, picture.pts - picture.dts
        if picture.key and times:
            alive()
            yield Group(tuple(times))
            times = []
        times.append(picture.pts)
        if picture.pts - times[0] > longest:
            raise Unlike("a group that is longer than ours")
    if times:
        yield Group(tuple(times))
