"""Grants, playlists, spans and clips: who sees what, from when until when, and what custody says of it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import av
import httpx
import pytest
from sqlalchemy import select

from evidence.custody import Action
from evidence.ids import new_id
from storage.db import clips, custody, items
from storage.db.clip_tables import Clip
from storage.db.custody import Happening
from storage.db.tables import Derivative, Item, Job
from tests.support import media as footage
from tests.support.growing import growing, settle
from tests.support.hls import VariantStream, goes_on, read_media, read_multivariant
from tests.support.placing import film, read_clock
from tests.support.scene import CAPTURED, CASE_A, Live, Recording, live_scene, reel
from tests.unit.transcode.reports import report
from transcode.playlist import SAFE_LIMIT_S


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("viewing"), request.param) as live:
        yield live


def get(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers=headers, trust_env=False, timeout=20)


def ranges(playlist: str) -> list[tuple[str, int, int]]:
    """Every (address, first, last) a player would fetch."""
    found = []
    start = re.search(r'#EXT-X-MAP:URI="([^"]+)",BYTERANGE="(\d+)@(\d+)"', playlist)
    assert start is not None
    found.append((start[1], int(start[3]), int(start[3]) + int(start[2]) - 1))
    for size, offset, url in re.findall(r"#EXT-X-BYTERANGE:(\d+)@(\d+)\n(\S+)", playlist):
        found.append((url, int(offset), int(offset) + int(size) - 1))
    return found


def played(live: Live, playlist_url: str, folder: Path) -> Path:
    """What a player puts together from a playlist: exactly the bytes it lists."""
    answer = live.anyone.get(playlist_url)
    assert answer.status_code == 200, answer.text
    path = folder / f"{new_id()}.mp4"
    with path.open("wb") as file:
        for url, first, last in ranges(answer.text):
            piece = get(url, Range=f"bytes={first}-{last}")
            assert piece.status_code == 206
            assert len(piece.content) == last - first + 1
            file.write(piece.content)
    return path


def test_a_reviewer_plays_the_masked_rendition_and_nothing_else(live: Live, tmp_path: Path) -> None:
    recording = live.scene.record(case=live.scene.case_a)
    grant = live.grant("reviewer", recording.item_id)
    assert grant["state"] == "ready"
    assert grant["coverage"]["en"] == "Faces treated; plates, text and voices untreated"
    numbers = footage.frame_numbers(played(live, grant["playlist_url"], tmp_path))
    assert numbers == [51_000 + number for number in range(150)]


def test_sound_alone_is_named_so_and_says_how_much_of_it_is_muted(live: Live) -> None:
    recording = live.scene.record(case=live.scene.case_a)
    with live.scene.storage.database.transaction() as session:
        session.scalars(select(Item).where(Item.id == recording.item_id)).one().media_kind = "audio"
        row = session.get_one(Derivative, recording.derivatives["redacted"].id)
        row.info = {**row.info, "coverage": {**row.info["coverage"], "sound_alone": "muted"}}
    grant = live.grant("reviewer", recording.item_id)
    assert grant["coverage"]["zh"] == "录音:整段静音"
    assert (grant["coverage"]["treated"], grant["coverage"]["untreated"]) == (["voices"], [])
    poster = live.as_("reviewer").get(grant["poster_url"])
    assert (poster.status_code, poster.headers["x-liuhen-state"]) == (200, "sound")
    assert "录音" in poster.text and "脱敏" not in poster.text


def test_the_whole_masked_file_can_be_had_by_its_address(live: Live) -> None:
    recording = live.scene.record(case=live.scene.case_a)
    answer = get(live.grant("reviewer", recording.item_id)["file_url"])
    assert answer.status_code == 200
    assert answer.content == reel(51).rendition


def test_a_holder_of_the_right_plays_the_original(live: Live, tmp_path: Path) -> None:
    recording = live.scene.record(case=live.scene.case_a)
    for name in ("handler", "officer", "legal_reviewer", "archivist"):
        grant = live.grant(name, recording.item_id, variant="original", reason="核对笔录")
        numbers = footage.frame_numbers(played(live, grant["playlist_url"], tmp_path))
        assert numbers == [1000 + number for number in range(150)]


def test_an_original_asks_for_a_reason(live: Live) -> None:
    recording = live.scene.record(case=live.scene.case_a)
    body = {"purpose": "legal_review", "variant": "original"}
    answer = live.as_("legal_reviewer").post(f"/api/v1/items/{recording.item_id}/grants", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "reason_missing")


def test_a_purpose_nobody_knows_is_refused(live: Live) -> None:
    recording = live.scene.record(case=live.scene.case_a)
    answer = live.as_("reviewer").post(
        f"/api/v1/items/{recording.item_id}/grants", json={"purpose": "curiosity"}
    )
    assert answer.status_code == 422


def test_custody_has_one_leaf_for_a_grant_a_playlist_and_an_original_and_none_for_ranges(live: Live) -> None:
    scene = live.scene
    recording = scene.record(case=scene.case_a)
    grant = live.grant("legal_reviewer", recording.item_id, variant="original", reason="核对")
    for _ in range(3):
        assert live.anyone.get(grant["playlist_url"]).status_code == 200
        assert get(grant["file_url"]).status_code == 200
        assert get(grant["file_url"], Range="bytes=0-9").status_code == 206
        assert get(grant["poster_url"]).status_code == 200
    for action in ("grant:issued", "playlist:issued", "original:issued", "still:issued"):
        (leaf,) = scene.leaves(recording.item_id, action)
        assert leaf["actor"] == f"account:{scene.accounts['legal_reviewer']}"
        assert leaf["facts"]["grant"] == grant["grant_id"]
        assert "核对" not in json.dumps(leaf)


def test_a_rendition_taken_without_its_playlist_leaves_one_leaf(live: Live) -> None:
    recording = live.scene.record(case=live.scene.case_a)
    masked = live.grant("reviewer", recording.item_id)
    whole = live.grant("legal_reviewer", recording.item_id, variant="original", reason="核对")
    guessed = urljoin(whole["file_url"], "rendition-copy.mp4")
    for url in (masked["file_url"], guessed):
        assert httpx.head(url, trust_env=False).status_code == 200
    assert live.scene.leaves(recording.item_id, "rendition:issued") == []
    for url, shown in ((masked["file_url"], "redacted"), (guessed, "rendition")):
        for _ in range(2):
            assert get(url, Range="bytes=0-9").status_code == 206
            assert get(url).status_code == 200
        leaf = live.scene.leaves(recording.item_id, "rendition:issued")[-1]
        assert leaf["facts"]["name"] == url.rpartition("/")[2]
        assert leaf["facts"]["sha256"] == recording.derivatives[shown].sha256.hex()
    assert len(live.scene.leaves(recording.item_id, "rendition:issued")) == 2


def test_the_seconds_of_another_case_cannot_be_read(live: Live, tmp_path: Path) -> None:
    """Invariant 7: two cases in one recording are two spans, for the playlist and for every byte."""
    scene = live.scene
    recording = scene.record(spans=[(scene.case_a, 0, 2_500_000), (scene.case_b, 2_500_000, 6_000_000)])
    film = reel(1)
    for name, numbers in (("handler", range(50)), ("handler2", range(75, 150))):
        grant = live.grant(name, recording.item_id, variant="original", reason="核对")
        assert grant["file_url"] is None
        shown = footage.frame_numbers(played(live, grant["playlist_url"], tmp_path))
        assert shown
        assert set(shown) <= {1000 + number for number in numbers}
        listed = ranges(live.anyone.get(grant["playlist_url"]).text)
        allowed = {byte for _, first, last in listed for byte in range(first, last + 1)}
        url = listed[0][0]
        for fragment in film.index.fragments:
            answer = get(url, Range=f"bytes={fragment.offset_bytes}-{fragment.end_bytes - 1}")
            inside = {fragment.offset_bytes, fragment.end_bytes - 1} <= allowed
            assert answer.status_code == (206 if inside else 403)
        last = len(film.rendition) - 1
        outside = last if last not in allowed else film.index.init_size_bytes
        for refused in (f"bytes=0-{last}", f"bytes={outside}-{outside}"):
            answer = get(url, Range=refused)
            assert (answer.status_code, answer.json()["code"]) == (403, "range_not_permitted")
        assert get(url).status_code == 403
        base = url.rsplit("/", 1)[0]
        for whole in ("original", "poster.jpg"):
            assert get(f"{base}/{whole}").status_code == 403


def test_a_span_outside_what_a_case_has_is_refused(live: Live) -> None:
    scene = live.scene
    recording = scene.record(spans=[(scene.case_a, 0, 2_500_000), (scene.case_b, 2_500_000, 6_000_000)])
    path = f"/api/v1/items/{recording.item_id}/grants"
    wanted = {"purpose": "case_handling", "variant": "original", "reason": "x"}
    span = {"span": {"from_us": 1_000_000, "to_us": 4_000_000}}
    answer = live.as_("handler").post(path, json={**wanted, **span})
    assert (answer.status_code, answer.json()["code"]) == (403, "span_not_permitted")
    masked = {"purpose": "case_handling", "case_id": str(scene.case_a.id), **span}
    assert live.as_("reviewer").post(path, json=masked).status_code == 403


def test_a_case_with_two_spans_asks_which(live: Live) -> None:
    scene = live.scene
    recording = scene.record(spans=[(scene.case_a, 0, 2_000_000), (scene.case_a, 4_000_000, 6_000_000)])
    path = f"/api/v1/items/{recording.item_id}/grants"
    wanted = {"purpose": "case_handling", "case_id": str(scene.case_a.id)}
    answer = live.as_("reviewer").post(path, json=wanted)
    assert (answer.status_code, answer.json()["code"]) == (422, "span_needed")
    assert len(answer.json()["spans"]) == 2
    second = {"span": {"from_us": 4_000_000, "to_us": 6_000_000}}
    assert live.as_("reviewer").post(path, json={**wanted, **second}).status_code == 201


def test_a_span_too_short_for_a_fragment_points_to_the_clip(live: Live) -> None:
    recording = live.scene.record(case=live.scene.case_a)
    grant = live.grant("reviewer", recording.item_id, span={"from_us": 100_000, "to_us": 200_000})
    answer = live.anyone.get(grant["playlist_url"])
    assert (answer.status_code, answer.json()["code"]) == (404, "span_without_segments")


def test_until_it_is_redacted_there_is_a_placeholder_and_a_state(live: Live) -> None:
    recording = live.scene.record(case=live.scene.case_a, redacted=False)
    grant = live.grant("reviewer", recording.item_id)
    assert (grant["state"], grant["playlist_url"], grant["file_url"]) == ("pending", None, None)
    assert "正在脱敏" in live.anyone.get(grant["placeholder_url"]).text
    poster = live.as_("reviewer").get(grant["poster_url"])
    assert poster.headers["x-liuhen-state"] == "pending"
    assert "正在脱敏" in poster.text
    clip = {"case_no": CASE_A, "item_id": str(recording.item_id), "form": "file"}
    answer = live.as_("reviewer").post("/api/v1/clips", json=clip)
    assert (answer.status_code, answer.json()["code"]) == (409, "redaction_pending")


def test_only_a_checked_newest_plan_is_approved(live: Live) -> None:
    recording = live.scene.record(case=live.scene.case_a)
    path = f"/api/v1/items/{recording.item_id}/redaction/approve"
    assert live.as_("handler").post(path, json={"number": 1}).status_code == 403
    assert live.as_("legal_reviewer").post(path, json={"number": 7}).status_code == 409
    answer = live.as_("legal_reviewer").post(path, json={"number": 1, "note": "可"})
    assert (answer.status_code, answer.json()["redaction"]) == (200, "approved")
    assert live.as_("legal_reviewer").post(path, json={"number": 1}).json()["code"] == "state_not_allowed"
    assert len(live.scene.leaves(recording.item_id, "redaction_plan:approved")) == 1


def test_a_rendition_plays_while_it_grows_for_holders_alone(live: Live, tmp_path: Path) -> None:
    recording = film(
        live.scene, "CAM-GROWS", CAPTURED, case=live.scene.case_a, redacted=False, rendered=False
    )
    scratch, index = growing(live.scene, recording)
    try:
        first = settle(scratch, index, 3)
        assert live.grant("reviewer", recording.item_id)["state"] == "pending"
        grant = live.grant("legal_reviewer", recording.item_id, variant="original", reason="急")
        assert grant["state"] == "growing"
        # More may come: the first answer names the rung, whose list is read again.
        assert [each.url for each in offered(live, grant)] == ["rung-copy.m3u8"]
        list_url = urljoin(grant["playlist_url"], "rung-copy.m3u8")
        text = live.anyone.get(list_url).text
        told = goes_on("", text)
        assert (told.kind, told.is_ended, told.target_s) == ("EVENT", False, SAFE_LIMIT_S)
        assert footage.frame_numbers(played(live, list_url, tmp_path)) == list(range(1000, 1050))
        url = ranges(text)[0][0]
        beyond = get(url, Range=f"bytes={first.size_bytes}-")
        assert beyond.status_code == 416
        partial = get(url, Range="bytes=0-9")
        assert partial.headers["content-range"] == "bytes 0-9/*"
        assert "etag" not in partial.headers
        settle(scratch, index, 5)
        more = live.anyone.get(list_url).text
        goes_on(text, more)
        assert len(footage.frame_numbers(played(live, list_url, tmp_path))) == 100
        # A worker died, and the next one begins anew: nothing is taken back meanwhile.
        settle(scratch, index, 2)
        assert live.anyone.get(list_url).json()["code"] == "rendition_settling"
    finally:
        shutil.rmtree(scratch)
    for moving in (get(url, Range="bytes=0-9"), live.anyone.get(list_url)):
        assert (moving.status_code, moving.json()["code"]) == (503, "rendition_settling")
    told_of = live.as_("legal_reviewer").get(f"/api/v1/grants/{grant['grant_id']}").json()
    assert told_of["state"] == "growing"
    read_clock(live.scene, "CAM-GROWS", CAPTURED + timedelta(hours=1), timedelta(seconds=7))
    _finish(live, recording)
    assert goes_on(more, live.anyone.get(list_url).text).is_ended
    assert [each.url for each in offered(live, grant)] == ["rung-copy.m3u8", "keyframes-copy.m3u8"]
    assert len(footage.frame_numbers(played(live, list_url, tmp_path))) == 150
    again = live.grant("legal_reviewer", recording.item_id, variant="original", reason="急")
    whole = read_media(live.anyone.get(again["playlist_url"]).text)
    assert (whole.kind, whole.is_ended, whole.target_s) == ("VOD", True, 2)
    assert whole.pieces[0].dated_at == CAPTURED + timedelta(seconds=7)
    fetched = [leaf["facts"]["grant"] for leaf in live.scene.leaves(recording.item_id, "playlist:issued")]
    assert fetched == [grant["grant_id"], again["grant_id"]]


def offered(live: Live, grant: dict[str, Any]) -> list[VariantStream]:
    return read_multivariant(live.anyone.get(grant["playlist_url"]).raise_for_status().text)


def _finish(live: Live, recording: Recording) -> None:
    scene, film = live.scene, reel(1)
    with scene.storage.database.transaction() as session:
        item = session.scalars(select(Item).where(Item.id == recording.item_id)).one()
        scene.derive(session, item, "rendition", film.rendition, film.info)
        job = session.scalars(select(Job).where(Job.subject_id == item.id, Job.kind == "rendition")).one()
        job.state = "done"
        item.media = "rendered"


def test_a_long_recording_is_previewed_by_holders_and_its_pieces_are_nobodys(
    live: Live, tmp_path: Path
) -> None:
    scene, film = live.scene, reel(4)
    recording = scene.record(case=scene.case_a, redacted=False, rendered=False)
    with scene.storage.database.transaction() as session:
        item = session.scalars(select(Item).where(Item.id == recording.item_id)).one()
        scene.derive(session, item, "chunk", film.rendition[:-1], {**film.info, "rung": "360p", "chunk": 0})
        begins = replace(film.index, fragments=film.index.fragments[:4])
        said = {**film.info, "rung": "preview", "index": begins.to_json(), "segment_limit_s": 4}
        scene.derive(session, item, "preview", film.rendition[: begins.size_bytes], said)
    assert live.grant("reviewer", recording.item_id)["state"] == "pending"
    grant = live.grant("legal_reviewer", recording.item_id, variant="original", reason="急")
    assert grant["state"] == "growing"
    list_url = urljoin(grant["playlist_url"], "rung-preview.m3u8")
    text = live.anyone.get(list_url).text
    assert not goes_on("", text).is_ended
    # As of all that grows, the last segment is held back.
    assert footage.frame_numbers(played(live, list_url, tmp_path)) == list(range(4000, 4050))
    assert "etag" not in get(ranges(text)[0][0], Range="bytes=0-9").headers
    shown = live.as_("legal_reviewer").get(f"/api/v1/items/{recording.item_id}").json()
    assert shown["derivatives"] == []
    # The chunks are joined: who watches goes on with the rung, everybody else has it from its beginning.
    scene.clock.advance(60)
    whole = reel(4)
    with scene.storage.database.transaction() as session:
        item = session.scalars(select(Item).where(Item.id == recording.item_id)).one()
        (preview,) = session.scalars(
            select(Derivative).where(Derivative.item_id == item.id, Derivative.kind == "preview")
        )
        preview.withdrawn_at = scene.clock.now()
        for name in ("360p", "720p"):
            made = {**whole.info, "rung": name, "segment_limit_s": 4}
            params = {"rung": {"name": name}}
            scene.derive(session, item, "rendition", whole.rendition + name.encode(), made, params=params)
    found = goes_on(text, live.anyone.get(list_url).text)
    assert found.is_ended
    files = [piece.url.rpartition("/")[2] for piece in found.pieces]
    assert files == ["rendition-preview.mp4"] * 2 + ["rendition-360p.mp4"]
    assert [piece.duration_us for piece in found.pieces] == [2_000_000] * 3
    for piece in found.pieces:
        assert get(piece.url, Range=f"bytes={piece.first}-{piece.first}").status_code == 206
    names = {each.url for each in offered(live, grant) if not each.is_of_keyframes}
    assert names == {"rung-preview.m3u8", "rung-360p.m3u8", "rung-720p.m3u8"}
    later = live.grant("legal_reviewer", recording.item_id, variant="original", reason="急")
    assert len([each for each in offered(live, later) if not each.is_of_keyframes]) == 2
    gone = urljoin(later["playlist_url"], "rung-preview.m3u8")
    assert live.anyone.get(gone).json()["code"] == "rendition_missing"
    token = urlsplit(later["file_url"]).path.split("/")[2]
    elsewhere = re.sub("/m/[^/]+/", f"/m/{token}/", found.pieces[0].url)
    assert get(elsewhere).status_code == 404


def test_more_than_one_rung_makes_a_multivariant_playlist(live: Live, tmp_path: Path) -> None:
    scene, film = live.scene, reel(2)
    recording = scene.record(case=scene.case_a)
    with scene.storage.database.transaction() as session:
        item = session.scalars(select(Item).where(Item.id == recording.item_id)).one()
        scene.derive(session, item, "rendition", film.rendition, {**film.info, "rung": "360p"})
    grant = live.grant("legal_reviewer", recording.item_id, variant="original", reason="核对")
    text = live.anyone.get(grant["playlist_url"]).text
    assert text.count("#EXT-X-STREAM-INF") == 2
    children = [line for line in text.splitlines() if line.endswith(".m3u8")]
    for child in children:
        url = urljoin(live.api_url + grant["playlist_url"], child)
        assert len(footage.frame_numbers(played(live, url, tmp_path))) == 150
    with av.open(str(played(live, url, tmp_path))) as container:
        assert container.streams.video[0].codec_context.name == "h264"
    # Damage to the sound leaves the copy, without which only the smallest rung would be left.
    with scene.storage.database.transaction() as session:
        item = session.scalars(select(Item).where(Item.id == recording.item_id)).one()
        items.flag(item, "corrupt", "")
        item.probe = report({"corrupt_count": 1}, {"decode_errors": 3}).to_json()
    anew = live.grant("legal_reviewer", recording.item_id, variant="original", reason="核对")
    assert {each.url for each in offered(live, anew)} >= {"rung-copy.m3u8", "rung-360p.m3u8"}
    # Of a picture that turns out to be damaged it is not offered: browsers give up on it.
    with scene.storage.database.transaction() as session:
        item = session.scalars(select(Item).where(Item.id == recording.item_id)).one()
        item.probe = report({"decode_errors": 1}, {}).to_json()
    anew = live.grant("legal_reviewer", recording.item_id, variant="original", reason="核对")
    assert [each.url for each in offered(live, anew)] == ["rung-360p.m3u8", "keyframes-360p.m3u8"]
    # Who was told of it goes on.
    assert live.anyone.get(urljoin(grant["playlist_url"], "rung-copy.m3u8")).status_code == 200


def test_a_clip_by_case_number_can_be_watched(live: Live, tmp_path: Path) -> None:
    scene = live.scene
    case = scene.open_case(f"示执罚〔2026〕{new_id().hex[-6:]}号", "handler")
    recording = scene.record(case=case)
    spelled = case.case_no.replace("〔", "[").replace("〕", "]")
    body = {"case_no": f" {spelled} ", "from_ms": 1000, "to_ms": 5000}
    answer = live.as_("reviewer").post("/api/v1/clips", json=body)
    assert answer.status_code == 201, answer.text
    shown = answer.json()
    assert (shown["item_id"], shown["state"]) == (str(recording.item_id), "ready")
    numbers = footage.frame_numbers(played(live, shown["grant"]["playlist_url"], tmp_path))
    assert numbers
    assert set(numbers) <= set(range(51_025, 51_125))


def test_a_clip_to_take_away_is_cut_by_a_worker_and_handed_to_its_asker_alone(live: Live) -> None:
    scene = live.scene
    recording = scene.record(case=scene.case_a)
    body = {"case_no": CASE_A, "item_id": str(recording.item_id), "form": "file", "from_ms": 0, "to_ms": 2000,
            "time_of_day": True}  # fmt: skip
    answer = live.as_("reviewer").post("/api/v1/clips", json=body)
    assert answer.status_code == 202
    clip_url = answer.headers["location"]
    assert answer.json()["state"] == "working"
    early = live.as_("reviewer").get(f"{clip_url}/sheet")
    assert (early.status_code, early.json()["code"]) == (404, "clip_not_ready")
    with scene.storage.database.read() as session:
        clip = session.scalars(select(Clip).where(Clip.item_id == recording.item_id)).one()
        job = session.scalars(select(Job).where(Job.subject_id == clip.id)).one()
        length = clips.length_of_subject(session, scene.agency.id, clip.id)
        item = session.scalars(select(Item).where(Item.id == recording.item_id)).one()
    assert length == (item.duration_us, item.frame_count or 0)
    assert (job.kind, job.queue, job.priority) == ("clip", "asked", 20)
    assert job.params["derivative"] == str(recording.derivatives["redacted"].id)
    assert job.input_digest == recording.derivatives["redacted"].sha256
    # 10:00 in Shanghai, as a clock there showed it.
    assert job.params["clock_us"] == int(datetime(2026, 3, 3, 10, tzinfo=UTC).timestamp()) * 1_000_000
    assert any(CASE_A in line["text"] for line in job.params["mark"])
    assert all(line["latin"].isascii() for line in job.params["mark"])
    with scene.storage.database.transaction() as session:
        item = session.scalars(select(Item).where(Item.id == recording.item_id)).one()
        source = recording.derivatives["redacted"].sha256.hex()
        cut = scene.derive(session, item, "clip", b"a clip that was cut", {"sm3": "ab" * 32}, masked=True,
                            params={"clip": str(clip.id), "source_sha256": source})  # fmt: skip
        happening = Happening(Action.CLIP_ISSUED, "item", str(item.id), "worker", {"clip": str(clip.id)})
        leaf_id = custody.record(session, scene.agency, happening, scene.clock.now())
        session.scalars(select(Clip).where(Clip.id == clip.id)).one().derivative_id = cut.id
    done = live.as_("reviewer").get(clip_url).json()
    assert (done["state"], done["sha256"]) == ("ready", cut.sha256.hex())
    file = get(done["file_url"])
    assert file.content == b"a clip that was cut"
    assert file.headers["content-disposition"].startswith("attachment")
    assert file.headers["repr-digest"].startswith("sha-256=:")
    assert live.as_("officer").get(clip_url).status_code == 403
    assert live.as_("officer").get(f"{clip_url}/sheet").status_code == 403
    sheet = live.as_("reviewer").get(f"{clip_url}/sheet").json()
    assert sheet["clip"] == {"sha256": cut.sha256.hex(), "sm3": "ab" * 32, "size_bytes": 19}
    assert sheet["original"]["size_bytes"] == len(reel(1).original) + 16
    assert (sheet["case_no"], sheet["span_us"], sheet["purpose"]) == (CASE_A, [0, 2_000_000], "case_handling")
    assert sheet["coverage"]["en"] == "Faces treated; plates, text and voices untreated"
    assert sheet["leaf"]["leaf_id"] == str(leaf_id)
    assert "reviewer" in sheet["taken_by"]
    page = live.as_("reviewer").get(f"{clip_url}/sheet", params={"form": "html"})
    assert page.headers["content-type"].startswith("text/html")
    for said in (sheet["clip"]["sha256"], sheet["original"]["sha256"], sheet["leaf"]["leaf_id"], CASE_A):
        assert said in page.text
    change = {"op": "mask_frames", "from_pts": 0, "to_pts": 9, "reason": "minor"}
    amend = {"base_number": 1, "changes": [change], "note": "x"}
    path = f"/api/v1/items/{recording.item_id}/redaction/plans"
    assert live.as_("handler").post(path, json=amend).status_code == 201
    assert get(done["file_url"]).status_code == 410
    assert live.as_("reviewer").get(clip_url).json()["state"] == "withdrawn"
    assert live.as_("reviewer").get(f"{clip_url}/sheet").status_code == 410


def test_nobody_takes_a_clip_without_a_mark_where_settings_do_not_say_so(live: Live) -> None:
    recording = live.scene.record(case=live.scene.case_a)
    body = {
        "case_no": CASE_A,
        "item_id": str(recording.item_id),
        "form": "file",
        "marked": False,
        "reason": "x",
    }
    answer = live.as_("legal_reviewer").post("/api/v1/clips", json=body)
    assert (answer.status_code, answer.json()["code"]) == (403, "unmarked_not_permitted")


def test_a_case_with_many_recordings_asks_which(live: Live) -> None:
    scene = live.scene
    case = scene.open_case(f"示执罚〔2026〕{new_id().hex[-6:]}号", "handler")
    empty = live.as_("reviewer").post("/api/v1/clips", json={"case_no": case.case_no})
    assert (empty.status_code, empty.json()["code"]) == (409, "nothing_reviewable")
    made = [scene.record(case=case), scene.record(seed=2, case=case)]
    answer = live.as_("reviewer").post("/api/v1/clips", json={"case_no": case.case_no})
    assert (answer.status_code, answer.json()["code"]) == (409, "item_ambiguous")
    assert set(answer.json()["candidates"]) == {str(each.item_id) for each in made}
    listed = live.as_("reviewer").get("/api/v1/clips", params={"case_no": case.case_no}).json()["items"]
    assert [entry["state"] for entry in listed] == ["ready", "ready"]
    first = live.as_("reviewer").get("/api/v1/clips", params={"case_no": case.case_no, "limit": 1}).json()
    assert len(first["items"]) == 1
    assert first["next_cursor"]


def test_a_clip_of_a_case_that_is_not_there(live: Live) -> None:
    answer = live.as_("reviewer").post("/api/v1/clips", json={"case_no": "没有这个案件"})
    assert (answer.status_code, answer.json()["code"]) == (404, "case_not_found")


def test_another_person_cannot_look_at_a_grant(live: Live) -> None:
    recording = live.scene.record(case=live.scene.case_a)
    grant = live.grant("reviewer", recording.item_id)
    path = f"/api/v1/grants/{grant['grant_id']}"
    assert live.as_("officer").get(path).status_code == 403
    assert live.as_("reviewer").get(path).json()["file_url"].split("/m/")[0] == live.media_url


REPORT = {
    "schema": "liuhen-continuity/1", "method": "liuhen-measures/1", "duration_us": 6_000_000,
    "frame_count": 150, "has_picture": True, "has_sound": True, "is_whole": True, "undecodable_count": 0,
    "thresholds": {"black_ms": 2000}, "counts": {"black": 1},
    "spans": [{"kind": "black", "from_us": 1_000_000, "to_us": 4_000_000, "measured": 100.0,
               "threshold": 98, "unit": "percent"}],
}  # fmt: skip


def test_a_continuity_report_says_when_and_takes_reasons_from_whoever_may_give_them(live: Live) -> None:
    scene = live.scene
    recording = scene.record(case=scene.case_a)
    path = f"/api/v1/items/{recording.item_id}/continuity"
    missing = live.as_("reviewer").get(path)
    assert (missing.status_code, missing.json()["code"]) == (404, "continuity_missing")
    with scene.storage.database.transaction() as session:
        item = session.scalars(select(Item).where(Item.id == recording.item_id)).one()
        scene.derive(session, item, "continuity", json.dumps(REPORT).encode(), {"span_count": 1})
    (span,) = live.as_("reviewer").get(path).json()["spans"]
    assert span["from_at"] == "2026-03-03T02:00:01Z"
    assert (span["zh"], span["reasons"]) == ("黑屏", [])
    body = {"kind": "black", "from_us": 1_000_000, "to_us": 4_000_000, "reason": "secret_or_privacy",
            "statement": "进入涉密场所"}  # fmt: skip
    for name, status in (("reviewer", 403), ("system_admin", 403), ("officer2", 403), ("officer", 201)):
        assert live.as_(name).post(f"{path}/reasons", json=body).status_code == status, name
    unknown = live.as_("archivist").post(f"{path}/reasons", json={**body, "to_us": 5})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "span_unknown")
    (span,) = live.as_("reviewer").get(path).json()["spans"]
    assert [one["statement"] for one in span["reasons"]] == ["进入涉密场所"]
    (leaf,) = scene.leaves(recording.item_id, "item:interruption_reason")
    assert leaf["actor"] == f"account:{scene.accounts['officer']}"
    assert live.as_("system_admin").get(path).status_code == 403


def test_times_follow_what_was_read_of_the_device_clock_later(live: Live) -> None:
    """The picture of a clip and the report of continuity say what playlists and timelines say."""
    scene, said_at = live.scene, datetime(2026, 3, 3, 2, tzinfo=UTC)
    recording = film(scene, "CAM-SLOW", said_at, case=scene.case_a)
    read_clock(scene, "CAM-SLOW", said_at, timedelta(seconds=3))
    with scene.storage.database.transaction() as session:
        item = session.scalars(select(Item).where(Item.id == recording.item_id)).one()
        scene.derive(session, item, "continuity", json.dumps(REPORT).encode(), {"span_count": 1})
    (span,) = live.as_("reviewer").get(f"/api/v1/items/{recording.item_id}/continuity").json()["spans"]
    assert span["from_at"] == "2026-03-03T02:00:04Z"
    body = {"case_no": CASE_A, "item_id": str(recording.item_id), "form": "file", "from_ms": 0, "to_ms": 2000,
            "time_of_day": True}  # fmt: skip
    assert live.as_("reviewer").post("/api/v1/clips", json=body).status_code == 202
    with scene.storage.database.read() as session:
        clip = session.scalars(select(Clip).where(Clip.item_id == recording.item_id)).one()
        job = session.scalars(select(Job).where(Job.subject_id == clip.id)).one()
    assert job.params["clock_us"] == int(datetime(2026, 3, 3, 10, 0, 3, tzinfo=UTC).timestamp()) * 1_000_000
