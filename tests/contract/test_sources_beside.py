"""What lies beside a recording when its copy at the place goes: nothing that was said goes unread."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fetching import SETTLE_S, Desk, Died, desk_at, sha
from tests.support.places import FtpPlace, SftpPlace

PLACE = b'{"place": "A"}'


@pytest.fixture(params=[SftpPlace, FtpPlace], ids=lambda kind: kind.kind)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    for desk in desk_at(request.param, tmp_path):
        desk.restart(frees=True)
        yield desk


def taken(desk: Desk, **beside: bytes) -> None:
    """A recording in custody, with what lay beside it by then."""
    desk.place.put("a.mp4", b"footage")
    for ending, content in beside.items():
        desk.place.put(f"a.mp4.{ending}", content)
    while not desk.accepted:
        desk.look()
    assert desk.digests() == [sha(b"footage")]


def receipt(desk: Desk) -> None:
    desk.receipts.add(hashlib.sha256(b"footage").digest())


def names(desk: Desk) -> list[str]:
    return sorted(path.name for path in desk.place.folder.iterdir())


def said(desk: Desk) -> list[dict[str, str]]:
    """What each arrival claimed."""
    return [{claim.field: claim.value for claim in staged.claims} for staged in desk.accepted]


@pytest.mark.parametrize("restarts", [False, True])
def test_what_was_read_goes_with_its_recording_and_is_handed_in_once(desk: Desk, restarts: bool) -> None:
    taken(desk, json=PLACE, sha256=sha(b"footage").encode())
    receipt(desk)
    if restarts:
        desk.restart(frees=True)
    assert desk.source.scan_once().freed == ["a.mp4"]
    assert (names(desk), said(desk)) == ([], [{"place": "A"}])


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("before", [{}, {"json": b'{"place": "B"}'}], ids=["late", "written anew"])
def test_sidecar_that_nobody_read_is_waited_for_read_and_handed_in_before_it_goes(
    desk: Desk, before: dict[str, bytes], restarts: bool
) -> None:
    taken(desk, **before)
    desk.place.put("a.mp4.json", PLACE)
    receipt(desk)
    if restarts:
        desk.restart(frees=True)
    assert desk.source.scan_once().freed == []
    assert "a.mp4.json" in names(desk), "it may not be all there yet"
    for _ in range(2):
        desk.look()
    assert names(desk) == []
    assert said(desk)[-1] == {"place": "A"}
    assert [staged.sha256.hex() for staged in desk.accepted] == [sha(b"footage")] * 2
    assert len({staged.reception_key for staged in desk.accepted}) == 2
    assert "said_late" in {code for code, _ in desk.accepted[1].findings}


def test_late_digest_is_handed_in_whatever_it_says(desk: Desk) -> None:
    taken(desk)
    desk.place.put("a.mp4.sha256", sha(b"another").encode())
    receipt(desk)
    for _ in range(2):
        desk.look()
    assert names(desk) == []
    assert desk.accepted[1].declared_sha256 == hashlib.sha256(b"another").digest(), "intake flags the item"


@pytest.mark.parametrize(
    ("ending", "word"), [("json", "sidecar_unread_base64"), ("sha256", "digest_unread_base64")]
)
@pytest.mark.parametrize("is_late", [False, True], ids=["in time", "late"])
def test_what_nobody_understands_is_in_custody_byte_for_byte_before_it_goes(
    desk: Desk, ending: str, word: str, is_late: bool
) -> None:
    odd = b"\xff\0[1"
    taken(desk, **({} if is_late else {ending: odd}))
    if is_late:
        desk.place.put(f"a.mp4.{ending}", odd)
    receipt(desk)
    for _ in range(2):
        desk.look()
    assert names(desk) == []
    assert [code for code, _ in desk.accepted[-1].findings if code.endswith("_unreadable")]
    assert base64.b64decode(desk.accepted[-1].metadata[word]) == odd
    assert len(desk.accepted) == 1 + is_late


def test_what_is_longer_than_it_was_listed_does_not_go_and_nor_does_its_recording(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.sources.companions.MAX_SIDECAR_BYTES", 2)
    taken(desk, json=b"[12")
    receipt(desk)
    for _ in range(2):
        result = desk.look()
    assert (result.freed, result.failed) == ([], {"a.mp4": "source_changed"})
    assert "a.mp4.json" in names(desk)
    assert len(names(desk)) == 2


def test_good_sidecar_of_the_name_size_and_time_of_an_unreadable_one_that_went_is_read(desk: Desk) -> None:
    for footage, sidecar in ((b"footage", b'["place": "A"}'), (b"another", PLACE)):
        for name, content in (("a.mp4", footage), ("a.mp4.json", sidecar)):
            desk.place.put(name, content)
            os.utime(desk.place.folder / name, (1_700_000_000, 1_700_000_000))
        desk.receipts.add(hashlib.sha256(footage).digest())
        for _ in range(4):
            desk.look()
        assert names(desk) == []
    assert said(desk) == [{}, {"place": "A"}]


def test_fields_that_no_claim_is_made_of_are_kept_and_their_sidecar_goes(desk: Desk) -> None:
    taken(desk, json=b'{"place": "A", "vendor": {"x": [1]}}')
    receipt(desk)
    desk.source.scan_once()
    assert names(desk) == []
    assert desk.accepted[0].metadata["vendor"] == '{"x": [1]}'


def test_marker_that_comes_late_goes_too(desk: Desk) -> None:
    desk.restart(frees=True, marker_suffix=".ok")
    taken(desk, sha256=sha(b"footage").encode())
    desk.place.put("a.mp4.ok", b"")
    receipt(desk)
    desk.look()
    assert names(desk) == [], "left behind, it would call the next recording whole"


def test_sidecar_shared_by_stem_stays_for_a_picture_that_is_still_coming(desk: Desk) -> None:
    desk.place.put("a.json", PLACE)
    desk.place.put("a.jpg.part", b"pict")
    taken(desk)
    receipt(desk)
    desk.look()
    assert names(desk) == ["a.jpg.part", "a.json"]


@pytest.mark.parametrize(
    "death", [("before", "rename"), ("before", "remove"), ("after", "remove")], ids=" ".join
)
def test_death_while_late_words_are_heard_loses_none_of_them(desk: Desk, death: tuple[str, str]) -> None:
    taken(desk)
    desk.place.put("a.mp4.json", PLACE)
    receipt(desk)
    desk.source.scan_once()
    desk.now_s += SETTLE_S
    assert desk.remote is not None
    desk.remote.dies = death
    with pytest.raises(Died):
        desk.source.scan_once()
    desk.restart(frees=True)
    for _ in range(4):
        desk.look()
    assert names(desk) == []
    assert {"place": "A"} in said(desk)
    assert {staged.sha256.hex() for staged in desk.accepted} == {sha(b"footage")}
