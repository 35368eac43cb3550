"""What a live mask leaves: deny unless certain, whatever is set, lifted and set back."""

from __future__ import annotations

import random

import pytest

from evidence.errors import InvalidInput
from evidence.live_masks import (
    MOST_AREAS,
    Cover,
    LiveMask,
    LiveRules,
    areas_of,
    check,
    is_open,
    open_since_us,
)
from evidence.masks import MARGIN_US, Hides, Mask, Reason

S = 1_000_000
FACE = Cover(640, 360, ((10, 10, 101, 103),))
DOOR = Cover(640, 360, ((300, 0, 640, 360),), is_heard=True)


def rules(
    *states: tuple[float, Cover | None], hidden: tuple[Mask, ...] = (), slack_s: float = 0
) -> LiveRules:
    masks = [LiveMask(int(at * S), {} if cover is None else {"main": cover}) for at, cover in states]
    return LiveRules.of(masks, hidden, "main", boot="b", read_ns=1, slack_us=int(slack_s * S))


def test_a_mask_opens_nothing_that_was_recorded_before_it() -> None:
    found = rules((10, FACE))
    assert found.at(10 * S) == () and found.at(10 * S + MARGIN_US - 1) == ()
    assert found.at(10 * S + MARGIN_US) == (FACE,)
    # Where the clock was set, by as much later.
    assert rules((10, FACE), slack_s=60).at(70 * S) == ()
    assert rules((10, FACE), slack_s=60).at(71 * S) == (FACE,)
    assert rules().at(10 * S) == ()


def test_lifting_covers_whatever_is_not_made_yet() -> None:
    found = rules((10, FACE), (20, None))
    assert found.at(15 * S) == () and found.at(30 * S) == ()
    again = rules((10, FACE), (20, None), (30, DOOR))
    assert again.at(25 * S) == () and again.at(30 * S + MARGIN_US) == ()
    assert again.at(30 * S + MARGIN_US + 1) == (DOOR,)


def test_a_moment_is_covered_by_all_masks_that_may_have_been_in_force() -> None:
    found = rules((10, FACE), (20, DOOR))
    assert (
        found.at(15 * S) == (FACE, DOOR) and found.at(21 * S) == (FACE, DOOR) and found.at(22 * S) == (DOOR,)
    )
    assert areas_of(found.at(15 * S), 320, 180) == [(5, 5, 51, 52), (150, 0, 320, 180)]


def test_what_is_hidden_of_the_session_is_covered_altogether() -> None:
    def hidden(from_s: int, to_s: int | None) -> tuple[Mask, ...]:
        ends_us = None if to_s is None else to_s * S
        return (Mask("m", from_s * S, ends_us, Hides.SOUND, Reason.PRIVACY, "x"),)

    assert rules((10, FACE), hidden=hidden(20, 30)).at(25 * S) == ()
    assert rules((10, FACE), hidden=hidden(20, 30)).at(32 * S) == ()
    assert rules((10, FACE), hidden=hidden(20, 30)).at(33 * S) == (FACE,)
    assert rules((10, FACE), hidden=hidden(20, None)).at(100 * S) == ()


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_shown_that_any_mask_in_force_would_have_covered(seed: int) -> None:
    """Against the rule taken literally, moment by moment, in tenths of a second."""
    chance = random.Random(seed)
    for _ in range(200):
        moments = sorted(chance.sample(range(100), chance.randint(1, 6)))
        states = [(at / 10, chance.choice([None, FACE, DOOR])) for at in moments]
        at = chance.randint(0, 120)
        in_force = [
            next((cover for when, cover in reversed(states) if when * 10 <= moment), None)
            for moment in range(at - 10, 121)
        ]
        shown = rules(*states).at(at * S // 10)
        if None in in_force:
            assert shown == ()
        elif at - 10 not in moments:
            # To the microsecond at which one takes the other's place, both count.
            assert set(shown) == set(in_force)


def test_lists_have_nothing_from_before_the_last_lifting() -> None:
    first, other = LiveMask(10 * S, {"main": FACE}), LiveMask(20 * S, {"room": FACE})
    lifted = LiveMask(30 * S, {})
    assert open_since_us([], "main") is None and not is_open([])
    assert open_since_us([first], "main") == 11 * S and open_since_us([first], "room") is None
    assert open_since_us([first, LiveMask(20 * S, {"main": DOOR})], "main") == 11 * S
    assert open_since_us([first, other], "main") is None and is_open([first, other])
    assert open_since_us([first, lifted], "main") is None and not is_open([first, lifted])
    assert open_since_us([first, lifted, LiveMask(40 * S, {"main": FACE})], "main") == 41 * S


def test_areas_are_of_a_picture_of_a_shape() -> None:
    assert Cover(1920, 1080, ((1, 1, 2, 2),)).areas_in(1280, 720) == [(0, 0, 2, 2)]
    # 1088 lines are 1080 to a coder.
    assert Cover(1920, 1080, ((0, 0, 1920, 1080),)).areas_in(1920, 1088) == [(0, 0, 1920, 1088)]
    assert FACE.areas_in(360, 640) is None and areas_of((FACE, DOOR), 640, 480) is None
    assert areas_of((), 640, 360) is None


@pytest.mark.parametrize(
    "cover",
    [
        Cover(640, 360, ()),
        Cover(640, 360, ((0, 0, 2, 2),) * (MOST_AREAS + 1)),
        Cover(640, 360, ((0, 0, 641, 2),)),
        Cover(640, 360, ((5, 5, 5, 9),)),
        Cover(640, 360, ((-1, 0, 5, 9),)),
        Cover(8, 8, ((0, 0, 8, 8),)),
    ],
)
def test_a_cover_that_is_none_is_refused(cover: Cover) -> None:
    with pytest.raises(InvalidInput, match="live mask") as refused:
        check({"main": cover}, ["main"])
    assert refused.value.code == "live_mask_invalid"


def test_a_mask_names_streams_of_its_session() -> None:
    check({"main": FACE}, ["main", "room"])
    for given in ({}, {"roof": FACE}):
        with pytest.raises(InvalidInput, match="streams"):
            check(given, ["main", "room"])


def test_rules_come_back_from_json_as_they_were() -> None:
    hidden = (Mask("m", S, None, Hides.BOTH, Reason.OTHER, "x"),)
    found = rules((10, FACE), (20, None), (30, DOOR), hidden=hidden, slack_s=2)
    assert LiveRules.from_json(found.to_json()) == found
