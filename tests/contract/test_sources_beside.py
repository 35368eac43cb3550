"""What lies beside a recording when its copy at the place goes: nothing that was said goes unread."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

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


@pytest.mark.parametrize("ending", ["json", "sha256"])
@pytest.mark.parametrize("is_late", [False, True], ids=["read and of no use", "late"])
def test_what_cannot_be_used_stays_and_is_no_recording_and_told_of_once(
    desk: Desk, ending: str, is_late: bool
) -> None:
    odd = {ending: b"[1"}
    taken(desk, **({} if is_late else odd))
    if is_late:
        desk.place.put(f"a.mp4.{ending}", odd[ending])
    receipt(desk)
    with capture_logs() as logs:
        for _ in range(3):
            desk.look()
        desk.restart(frees=True)
        for _ in range(3):
            desk.look()
    assert names(desk) == [f"a.mp4.{ending}"]
    assert [entry["name"] for entry in logs if entry["log_level"] == "warning"] == [f"a.mp4.{ending}"]
    assert (len(desk.accepted), len(desk.left)) == (1, 1), "the item says so"


def test_what_was_left_speaks_of_no_later_recording_until_it_is_written_anew(desk: Desk) -> None:
    taken(desk, json=b"[1")
    receipt(desk)
    for _ in range(2):
        desk.look()
    desk.place.put("a.mp4", b"another")
    desk.look()
    assert desk.accepted[1].findings == ()
    desk.receipts.add(hashlib.sha256(b"another").digest())
    for _ in range(2):
        desk.look()
    assert names(desk) == ["a.mp4.json"]
    desk.place.put("a.mp4", b"a third")
    desk.place.put("a.mp4.json", PLACE)
    desk.look()
    assert said(desk)[2] == {"place": "A"}


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
