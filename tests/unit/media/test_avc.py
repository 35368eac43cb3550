"""Parameter sets are read, numbered and put side by side without altering any."""

from __future__ import annotations

import pytest
from av.codec.context import CodecContext, Flags

from evidence.errors import MediaError
from media.avc import (
    PLAIN_TAIL,
    Configuration,
    kind_of,
    picture_number,
    sequence_number,
    shape_of,
    together,
    units,
)
from media.encode import PARAMETER_SET_UNITS, _units
from media.mux import avcc_from
from media.x264 import Unlike, read_picture_set, read_sequence_set, require_clean


def sets(profile: str, number: int, **options: str) -> list[bytes]:
    """What libx264 writes for 320x180."""
    encoder = CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 320, 180, "yuv420p"
    encoder.flags |= Flags.global_header
    given = ":".join([f"sps-id={number}", *(f"{name}={value}" for name, value in options.items())])
    encoder.options = {"profile": profile, "x264-params": given}
    encoder.open()
    return [unit for unit in _units(encoder.extradata or b"") if unit[0] & 0x1F in PARAMETER_SET_UNITS]


@pytest.mark.parametrize(("profile", "number"), [("baseline", 0), ("main", 1), ("high", 30)])
def test_sets_are_read_and_written_again(profile: str, number: int) -> None:
    given = sets(profile, number)
    avcc = avcc_from(given)
    found = Configuration.from_bytes(avcc)
    assert found.to_bytes() == avcc
    assert [kind_of(unit) for unit in (*found.sequence_sets, *found.picture_sets)] == [7, 8]
    assert (sequence_number(given[0]), picture_number(given[1])) == (number, number)
    shape = shape_of(given[0])
    assert (shape.is_plain, shape.is_progressive, shape.width_mbs, shape.height_mbs) == (True, True, 20, 12)
    assert found.free_number() == 31


def test_interlaced_coding_is_seen() -> None:
    assert not shape_of(sets("high", 0, interlaced="1")[0]).is_progressive


def test_two_encoders_stand_side_by_side() -> None:
    one, two = (Configuration.from_bytes(avcc_from(sets("high", number))) for number in (0, 31))
    both = Configuration.from_bytes(one.beside(two).to_bytes())
    assert both.sequence_sets == one.sequence_sets + two.sequence_sets
    assert both.picture_sets == one.picture_sets + two.picture_sets
    assert both.tail == one.tail
    assert both.free_number() == 30


def test_what_stands_together_says_the_highest_profile_whichever_comes_first() -> None:
    one, two = (
        Configuration.from_bytes(avcc_from(sets(profile, number, bframes="0")))
        for profile, number in (("baseline", 0), ("high", 31))
    )
    for both in (together([one, two]), together([two, one])):
        assert (both.profile, both.tail) == (two.profile, PLAIN_TAIL)
        assert set(both.picture_sets) == {*one.picture_sets, *two.picture_sets}
        assert set(require_clean(both)) == {0, 31}


def test_what_x264_writes_is_read_to_the_last_bit_at_every_profile() -> None:
    for profile in ("baseline", "main", "high"):
        sequence, picture = sets(profile, 3, bframes="0", crf="24")
        found = read_sequence_set(sequence)
        assert (found.number, found.width_px, found.height_px) == (3, 320, 180)
        assert (read_picture_set(picture).number, read_picture_set(picture).qp) == (3, 24)
        for unit, read in ((sequence, read_sequence_set), (picture, read_picture_set)):
            for altered in (unit[:-1], unit + b"\x80", unit + b"\0"):
                with pytest.raises(Unlike):
                    read(altered)


def test_units_are_those_of_the_sample_and_no_more() -> None:
    assert list(units(b"\0\0\0\2ab\0\0\0\1c", 4)) == [b"ab", b"c"]
    for damaged in (b"\0\0\0\3ab", b"\0\0\0\0", b"\0\0"):
        with pytest.raises(MediaError):
            list(units(damaged, 4))
    avcc = avcc_from(sets("high", 0))
    for length in range(len(avcc) - 4):
        with pytest.raises(MediaError):
            Configuration.from_bytes(avcc[:length])
    sequence = sets("high", 0)[0]
    for length in (1, 2, 5):
        with pytest.raises(MediaError):
            shape_of(sequence[:length])
