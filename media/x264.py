"""Whether coded pictures are as x264 writes them when told as a ladder tells it, proven bit by bit.

Who keeps coded pictures must know what they hold: all that is said of them here is read from the bytes, and
anything that is said otherwise than by x264 at these settings is *unlike*, whatever a decoder makes of it.

1. Parameter sets say what x264 says, no more: progressive, 8 bit, 4:2:0, pictures shown in the order in which
   they are stored, nothing cropped but what fills up the last macroblocks. They end with their last field.
2. A picture is one coded slice; beside it there may be messages (SEI), which `coded_slice` leaves out.
3. A group of pictures begins with an IDR picture; all others are predicted from the one before, none from
   a later one or from another group, and none is missing.

Source: ITU-T H.264 clauses 7.3.2.1, 7.3.2.2, 7.3.3 and E.1.1.
"""

from __future__ import annotations

from dataclasses import dataclass

from evidence.errors import MediaError
from media import avc

IDR, SLICE, MESSAGE = avc.IDR, 1, 6
# Constraint flags that x264 sets with each profile: Baseline, Main, High.
PROFILES = {66: 0xC0, 77: 0x40, 100: 0}
SLICE_TYPE = {IDR: 7, SLICE: 5}
"""All slices of the picture are I; all are P."""
NEUTRAL_QP = 26
MACROBLOCK_PX, CROP_UNIT_PX = 16, 2
EXTENDED_ASPECT = 255
# No slice header is longer up to the fields that are read.
HEAD_BYTES = 24
LENGTH_BYTES = 4


class Unlike(Exception):
    """It is not as x264 writes it; the text says what, in a word or two."""


@dataclass(frozen=True)
class SequenceSet:
    """What differs between sequence parameter sets of x264 that are like in all else."""

    number: int
    frame_number_bits: int
    width_px: int
    height_px: int
    """Of what is shown."""


@dataclass(frozen=True)
class PictureSet:
    """What differs between picture parameter sets of x264."""

    number: int
    sequence_number: int
    qp: int
    """The rate factor it was told, where that is what it keeps to."""


def read_sequence_set(unit: bytes) -> SequenceSet:
    """Read a sequence parameter set to its last bit.

    Raises:
        Unlike: x264 does not write such a one.
    """
    try:
        return _sequence_set(unit)
    except MediaError as error:
        raise Unlike("a sequence parameter set that is cut off") from error


def read_picture_set(unit: bytes) -> PictureSet:
    """Read a picture parameter set to its last bit.

    Raises:
        Unlike: x264 does not write such a one.
    """
    try:
        return _picture_set(unit)
    except MediaError as error:
        raise Unlike("a picture parameter set that is cut off") from error


def require_clean(configuration: avc.Configuration) -> dict[int, tuple[bytes, bytes]]:
    """Parameter sets that are all as x264 writes them, in an ``avcC`` that holds nothing else.

    Returns:
        Each picture parameter set with the sequence parameter set that it names, by its own number.

    Raises:
        Unlike: Something is otherwise.
    """
    sequence = {read_sequence_set(unit).number: unit for unit in configuration.sequence_sets}
    pictures = {}
    for unit in configuration.picture_sets:
        found = read_picture_set(unit)
        _must(found.sequence_number in sequence, "a picture parameter set without its sequence's")
        pictures[found.number] = (unit, sequence[found.sequence_number])
    many = len(configuration.sequence_sets), len(configuration.picture_sets)
    _must((len(sequence), len(pictures)) == many and 0 not in many, "the numbers of the parameter sets")
    _must(configuration.length_bytes == LENGTH_BYTES, "the lengths of units")
    _must(configuration.tail == (avc.PLAIN_TAIL if configuration.profile in avc.HIGH else b""), "the avcC")
    return pictures


def slice_set(unit: bytes) -> int:
    """The number of the picture parameter set that a coded slice is coded by.

    Raises:
        MediaError: ``fragments_unreadable``.
    """
    bits = avc.Bits(unit[:HEAD_BYTES])
    bits.skip(8)
    bits.number()
    bits.number()
    return bits.number()


class Stream:
    """A stream of coded pictures, looked at one after the other.

    Args:
        avcc: Its ``avcC``.

    Raises:
        Unlike: It is not one stream of x264.
    """

    def __init__(self, avcc: bytes) -> None:
        try:
            self.configuration = avc.Configuration.from_bytes(avcc)
        except MediaError as error:
            raise Unlike("the avcC") from error
        sets = require_clean(self.configuration)
        _must(len(sets) == 1 == len(self.configuration.sequence_sets), "more than one parameter set")
        ((picture, sequence),) = sets.values()
        self.sequence, self.picture = read_sequence_set(sequence), read_picture_set(picture)
        own = (self.configuration.profile, self.configuration.compatibility, self.configuration.level)
        _must(own == tuple(sequence[1:4]), "the avcC")
        self._frame_number: int | None = None

    def coded_slice(self, sample: bytes, *, key: bool) -> bytes:
        """The one coded slice of the next picture, without what stands beside it.

        Args:
            sample: Its units, behind lengths of four bytes.
            key: Whether the container says that a group of pictures begins with it.

        Raises:
            Unlike: The picture is not what x264 would write there.
        """
        try:
            found = [unit for unit in avc.units(sample, LENGTH_BYTES) if avc.kind_of(unit) != MESSAGE]
            _must(len(found) == 1, "another number of units in a picture")
            self._look_at(found[0], key=key)
        except MediaError as error:
            raise Unlike("a picture that is cut off") from error
        return found[0]

    def _look_at(self, unit: bytes, *, key: bool) -> None:
        kind = avc.kind_of(unit)
        _must(kind == (IDR if key else SLICE), "the kind of a picture")
        # Neither a forbidden bit nor a picture that no other refers to.
        _must(unit[0] & 0x80 == 0 != unit[0] & 0x60, "a picture that is not referred to")
        bits = avc.Bits(unit[:HEAD_BYTES])
        bits.skip(8)
        _must(bits.number() == 0, "a slice that begins within its picture")
        _must(bits.number() == SLICE_TYPE[kind], "the type of a slice")
        _must(bits.number() == self.picture.number, "the parameter set of a slice")
        number = bits.take(self.sequence.frame_number_bits)
        follows = 0 if self._frame_number is None else self._frame_number + 1
        expected = 0 if key else follows % (1 << self.sequence.frame_number_bits)
        _must((number == expected) and (key or self._frame_number is not None), "the numbering of pictures")
        self._frame_number = number


def _must(holds: bool, what: str) -> None:
    if not holds:
        raise Unlike(what)


def _sequence_set(unit: bytes) -> SequenceSet:
    bits = avc.Bits(unit)
    _must(bits.take(8) == 0x67, "a sequence parameter set of another kind")
    profile, constraints = bits.take(8), bits.take(8)
    _must(PROFILES.get(profile) == constraints, "the profile")
    bits.skip(8)
    number = bits.number()
    if profile == 100:
        _must((bits.number(), bits.number(), bits.number()) == (1, 0, 0), "the sampling")
        _must(bits.take(2) == 0, "the scaling")
    frame_number_bits = bits.number() + 4
    _must(bits.number() == 2, "the order of pictures")
    _must(1 <= bits.number() <= 16, "the pictures referred to")
    _must(bits.take(1) == 0, "gaps between pictures")
    width_px, height_px = (MACROBLOCK_PX * (bits.number() + 1) for _ in range(2))
    _must(bits.take(1) == 1, "interlaced pictures")
    bits.skip(1)
    if bits.take(1):
        left, right, top, bottom = (CROP_UNIT_PX * bits.number() for _ in range(4))
        _must(left == top == 0 and max(right, bottom) < MACROBLOCK_PX, "the cropping")
        width_px, height_px = width_px - right, height_px - bottom
    _must(bits.take(1) == 1, "no word of its use")
    _usability(bits)
    _must(bits.ends(), "bytes behind a sequence parameter set")
    return SequenceSet(number, frame_number_bits, width_px, height_px)


def _usability(bits: avc.Bits) -> None:
    if bits.take(1) and bits.take(8) == EXTENDED_ASPECT:
        bits.skip(32)
    if bits.take(1):
        bits.skip(1)
    if bits.take(1):
        bits.skip(4)
        if bits.take(1):
            bits.skip(24)
    if bits.take(1):
        bits.number()
        bits.number()
    if bits.take(1):
        bits.skip(65)
    _must(bits.take(3) == 0, "a reference decoder or the structure of pictures")
    _must(bits.take(1) == 1, "no word of reordering")
    bits.skip(1)
    _must((bits.number(), bits.number()) == (0, 0), "the limits of pictures")
    bits.number()
    bits.number()
    _must(bits.number() == 0, "reordered pictures")
    bits.number()


def _picture_set(unit: bytes) -> PictureSet:
    bits = avc.Bits(unit)
    _must(bits.take(8) == 0x68, "a picture parameter set of another kind")
    number, sequence_number = bits.number(), bits.number()
    bits.skip(1)
    _must(bits.take(1) == 0 and bits.number() == 0, "groups of slices")
    bits.number()
    _must(bits.number() == 0, "the pictures referred to")
    bits.skip(3)
    qp = NEUTRAL_QP + bits.signed()
    _must(bits.signed() == 0, "the quantiser")
    bits.signed()
    bits.skip(1)
    _must(bits.take(2) == 0, "redundant pictures")
    if not bits.ends():
        bits.skip(1)
        _must(bits.take(1) == 0, "the scaling")
        bits.signed()
        _must(bits.ends(), "bytes behind a picture parameter set")
    return PictureSet(number, sequence_number, qp)
