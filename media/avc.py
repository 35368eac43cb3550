"""As much of H.264 as joining needs: parameter sets and their numbers, and the units of a sample.

A stream may hold several sequence and picture parameter sets side by side in one ``avcC``, each under a
number; a slice names the one it is coded by. So what another encoder made can follow copied pictures in one
track, where its sets have numbers of their own and nothing of the pictures' shape differs.

Source: ITU-T H.264 clauses 7.3.1, 7.3.2.1 and 9.1; ISO/IEC 14496-15 clause 5.3.3.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from media.errors import media_error

IDR, SEQUENCE_SET, PICTURE_SET = 5, 7, 8
MOST_SETS = 32
HIGH = frozenset({100, 110, 122, 144, 244})
"""Profiles whose sequence set says how colour is sampled."""
PLAIN_TAIL = b"\xfd\xf8\xf8\0"
"""What an ``avcC`` of such a profile ends with at 8 bits and 4:2:0."""


@dataclass(frozen=True)
class Configuration:
    """An ``avcC``."""

    profile: int
    compatibility: int
    level: int
    length_bytes: int
    """How many bytes say a unit's length."""
    sequence_sets: tuple[bytes, ...]
    picture_sets: tuple[bytes, ...]
    tail: bytes
    """What stands behind the sets: sampling and depth, from the high profiles on."""

    @classmethod
    def from_bytes(cls, avcc: bytes) -> Configuration:
        """Read one.

        Raises:
            MediaError: ``fragments_unreadable``.
        """
        if len(avcc) < 7 or avcc[0] != 1:
            raise media_error("fragments_unreadable", "expected an avcC, found other bytes")
        sequence, at = _read_sets(avcc, 6, avcc[5] & 0x1F)
        if at >= len(avcc):
            raise media_error("fragments_unreadable", "an avcC ends before its fields do")
        picture, at = _read_sets(avcc, at + 1, avcc[at])
        return cls(avcc[1], avcc[2], avcc[3], (avcc[4] & 3) + 1, sequence, picture, avcc[at:])

    def to_bytes(self) -> bytes:
        """Write it."""
        head = bytes([1, self.profile, self.compatibility, self.level, 0xFC | self.length_bytes - 1])
        sequence = bytes([0xE0 | len(self.sequence_sets)]) + _written(self.sequence_sets)
        return head + sequence + bytes([len(self.picture_sets)]) + _written(self.picture_sets) + self.tail

    def free_number(self) -> int | None:
        """A number that no parameter set has; None where all are taken."""
        taken = {sequence_number(unit) for unit in self.sequence_sets}
        taken |= {picture_number(unit) for unit in self.picture_sets}
        return next((number for number in range(MOST_SETS - 1, -1, -1) if number not in taken), None)

    def beside(self, other: Configuration) -> Configuration:
        """Both in one, for a stream of which parts are coded by either."""
        return Configuration(
            self.profile,
            self.compatibility,
            max(self.level, other.level),
            self.length_bytes,
            self.sequence_sets + other.sequence_sets,
            self.picture_sets + other.picture_sets,
            self.tail,
        )


def together(configurations: Sequence[Configuration]) -> Configuration:
    """All in one; it says the highest profile, as a decoder of that one reads all."""
    first, *others = sorted(configurations, key=lambda each: each.profile, reverse=True)
    for each in others:
        first = first.beside(each)
    return first


def _read_sets(avcc: bytes, at: int, count: int) -> tuple[tuple[bytes, ...], int]:
    sets = []
    for _ in range(count):
        size = int.from_bytes(avcc[at : at + 2], "big")
        unit = avcc[at + 2 : at + 2 + size]
        if size == 0 or len(unit) != size:
            raise media_error("fragments_unreadable", "an avcC ends before its fields do")
        sets.append(unit)
        at += 2 + size
    return tuple(sets), at


def _written(sets: tuple[bytes, ...]) -> bytes:
    return b"".join(len(unit).to_bytes(2, "big") + unit for unit in sets)


def units(sample: bytes, length_bytes: int) -> Iterator[bytes]:
    """The units of a sample that is stored with lengths.

    Raises:
        MediaError: ``fragments_unreadable``.
    """
    at = 0
    while at < len(sample):
        size = int.from_bytes(sample[at : at + length_bytes], "big")
        unit = sample[at + length_bytes : at + length_bytes + size]
        if size == 0 or len(unit) != size:
            raise media_error("fragments_unreadable", "a unit is longer than its sample")
        yield unit
        at += length_bytes + size


def kind_of(unit: bytes) -> int:
    """The type of a unit."""
    return unit[0] & 0x1F


@dataclass(frozen=True)
class SequenceShape:
    """What a sequence set says of its pictures."""

    profile: int
    is_plain: bool
    """8 bits, 4:2:0, without scaling matrices."""
    is_progressive: bool
    width_mbs: int
    height_mbs: int

    @property
    def size(self) -> tuple[int, int]:
        """In macroblocks, so that a stream's pictures can stand beside others."""
        return self.width_mbs, self.height_mbs


def shape_of(unit: bytes) -> SequenceShape:
    """Read a sequence parameter set as far as its pictures' shape.

    Raises:
        MediaError: ``fragments_unreadable``.
    """
    bits = Bits(unit)
    bits.skip(8)
    profile = bits.take(8)
    bits.skip(16)
    bits.number()
    is_plain = True
    if profile in HIGH:
        is_plain = bits.number() == 1
        is_plain &= bits.number() == 0
        is_plain &= bits.number() == 0
        bits.skip(1)
        if bits.take(1) or not is_plain:
            return SequenceShape(profile, False, False, 0, 0)
    bits.number()
    order = bits.number()
    if order == 0:
        bits.number()
    elif order == 1:
        bits.skip(1)
        bits.number()
        bits.number()
        for _ in range(bits.number()):
            bits.number()
    bits.number()
    bits.skip(1)
    width, height = bits.number() + 1, bits.number() + 1
    return SequenceShape(profile, is_plain, bool(bits.take(1)), width, height)


def sequence_number(unit: bytes) -> int:
    """The number of a sequence parameter set."""
    bits = Bits(unit)
    bits.skip(32)
    return bits.number()


def picture_number(unit: bytes) -> int:
    """The number of a picture parameter set."""
    bits = Bits(unit)
    bits.skip(8)
    return bits.number()


class Bits:
    """Bits of a unit, without the bytes that keep start codes from appearing in it."""

    def __init__(self, unit: bytes) -> None:
        bare = unit.replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(bare, "big")
        self._left = len(bare) * 8

    def skip(self, count: int) -> None:
        self.take(count)

    def take(self, count: int) -> int:
        if count > self._left:
            raise media_error("fragments_unreadable", "a parameter set ends before its fields do")
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def ends(self) -> bool:
        """Whether nothing is left but the one bit that closes a unit, and zeros up to the end of its byte."""
        left = self._left
        return 1 <= left <= 8 and self._value & (1 << left) - 1 == 1 << left - 1

    def number(self) -> int:
        """An unsigned Exp-Golomb number."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise media_error("fragments_unreadable", "a number of more than 32 bits")
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        """A signed Exp-Golomb number."""
        number = self.number()
        return (number + 1) // 2 if number % 2 else -(number // 2)
