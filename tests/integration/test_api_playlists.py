"""Playlists as players have them: keyframes for scrubbing, dates by corrected clocks, to the letter."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from tests.support import media as footage
from tests.support.hls import read_media, read_multivariant
from tests.support.placing import film, read_clock
from tests.support.scene import CAPTURED, Live, live_scene, reel

ON_ONE_DATABASE = pytest.mark.parametrize("live", ["sqlite"], indirect=True)
"""For what no database has a part in."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("playlists"), request.param) as live:
        yield live


def text_of(live: Live, url: str) -> str:
    answer = live.anyone.get(url)
    assert answer.status_code == 200, answer.text
    return answer.text


@ON_ONE_DATABASE
def test_keyframes_are_offered_and_each_is_one_picture_by_its_range(live: Live, tmp_path: Path) -> None:
    recording = live.scene.record(case=live.scene.case_a)
    grant = live.grant("reviewer", recording.item_id)
    streams = read_multivariant(text_of(live, grant["variants_url"]))
    assert [stream.is_of_keyframes for stream in streams] == [False, True]
    base = urljoin(live.api_url, grant["variants_url"])
    whole = read_media(text_of(live, urljoin(base, streams[0].url)))
    keys = read_media(text_of(live, urljoin(base, streams[1].url)))
    assert keys.is_of_keyframes
    assert keys.length_us == whole.length_us == 6_000_000
    assert [piece.duration_us for piece in keys.pieces] == [1_000_000] * 6
    index = reel(51).index
    for piece, fragment in zip(keys.pieces, index.fragments, strict=True):
        assert piece.head is not None
        wanted = [(0, piece.head[1]), (piece.first, piece.size)]
        body = b"".join(
            httpx.get(
                piece.url, headers={"Range": f"bytes={at}-{at + size - 1}"}, trust_env=False
            ).raise_for_status().content
            for at, size in wanted
        )  # fmt: skip
        assert len(body) == index.init_size_bytes + fragment.keyframe_bytes
        (tmp_path / "key.mp4").write_bytes(body)
        assert footage.frame_numbers(tmp_path / "key.mp4") == [51_000 + 25 * index.fragments.index(fragment)]


@ON_ONE_DATABASE
def test_ffmpeg_plays_every_picture_once(live: Live, tmp_path: Path) -> None:
    """Over files: FFmpeg 9.0 joins ranges that touch into one request, and stops there, with any server."""
    recording = live.scene.record(case=live.scene.case_a)
    (tmp_path / "r.mp4").write_bytes(reel(51).rendition)
    text = text_of(live, live.grant("reviewer", recording.item_id)["playlist_url"])
    (tmp_path / "a.m3u8").write_text(re.sub(r'http[^"\n]+', "r.mp4", text))
    footage.ffmpeg("-i", tmp_path / "a.m3u8", "-map", "0:v:0", "-c", "copy", tmp_path / "played.mp4")
    assert footage.frame_numbers(tmp_path / "played.mp4") == list(range(51_000, 51_150))


@ON_ONE_DATABASE
def test_a_span_can_be_had_in_slices_by_players_that_ask_for_open_ranges(live: Live) -> None:
    scene = live.scene
    recording = scene.record(spans=[(scene.case_a, 0, 2_500_000), (scene.case_b, 2_500_000, 6_000_000)])
    grant = live.grant("handler", recording.item_id, variant="original", reason="核对")
    variants = text_of(live, grant["variants_url"] + "?sliced=true")
    film = reel(1)
    outside = film.index.fragments[2]
    for stream in read_multivariant(variants):
        url = urljoin(grant["variants_url"], stream.url)
        text, ranged = text_of(live, url), text_of(live, url.removesuffix("?sliced=true"))
        assert "BYTERANGE" not in text
        assert read_media(text) == read_media(ranged)
        (head,) = re.findall(r'URI="([^"]+)"', text)
        for piece in (head, *(line for line in text.splitlines() if line.startswith("http"))):
            first, last = map(int, piece.rsplit("/", 1)[1].removesuffix(".mp4").split("-"))
            for asked in ({}, {"Range": "bytes=0-"}):
                assert (
                    httpx.get(piece, headers=asked, trust_env=False).content
                    == film.rendition[first : last + 1]
                )
            beyond = httpx.get(piece, headers={"Range": f"bytes={last - first + 1}-"}, trust_env=False)
            assert (beyond.status_code, beyond.headers["content-range"]) == (
                416,
                f"bytes */{last - first + 1}",
            )
        file = head.rsplit("/", 1)[0]
        for first in (outside.offset_bytes, outside.offset_bytes - 1):
            refused = httpx.get(f"{file}/{first}-{outside.end_bytes - 1}.mp4", trust_env=False)
            assert (refused.status_code, refused.json()["code"]) == (403, "range_not_permitted")


@ON_ONE_DATABASE
def test_keyframes_of_a_span_never_leave_it(live: Live) -> None:
    scene = live.scene
    recording = scene.record(spans=[(scene.case_a, 0, 2_500_000), (scene.case_b, 2_500_000, 6_000_000)])
    grant = live.grant("handler", recording.item_id, variant="original", reason="核对")
    url = urljoin(grant["variants_url"], "keyframes-copy.m3u8")
    pieces = read_media(text_of(live, url)).pieces
    first, second = reel(1).index.fragments[:2]
    assert [(piece.first, piece.size) for piece in pieces] == [
        (first.offset_bytes, first.keyframe_bytes),
        (second.offset_bytes, second.keyframe_bytes),
    ]
    for piece in pieces:
        span = f"bytes={piece.first}-{piece.first + piece.size - 1}"
        assert httpx.get(piece.url, headers={"Range": span}, trust_env=False).status_code == 206


def test_the_date_follows_a_reading_of_the_clock_that_came_later(live: Live) -> None:
    """Invariant 11: what the device said stays, and the playlist is dated by what it comes to now."""
    recording = film(live.scene, "CAM-PDT", CAPTURED, case=live.scene.case_a)
    grant = live.grant("reviewer", recording.item_id)
    assert read_media(text_of(live, grant["playlist_url"])).pieces[0].dated_at == CAPTURED
    read_clock(live.scene, "CAM-PDT", CAPTURED + timedelta(hours=1), timedelta(seconds=-90.25))
    corrected = CAPTURED - timedelta(seconds=90.25)
    for name in ("index.m3u8", "keyframes-redacted.m3u8"):
        found = read_media(text_of(live, urljoin(grant["playlist_url"], name)))
        assert found.pieces[0].dated_at == corrected


@ON_ONE_DATABASE
def test_a_long_playlist_is_compressed_for_players_that_take_it(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.routes.playlists.LONG_BYTES", 100)
    recording = live.scene.record(case=live.scene.case_a)
    url = urljoin(live.api_url, live.grant("reviewer", recording.item_id)["playlist_url"])
    bare = httpx.get(url, headers={"Accept-Encoding": "identity"}, trust_env=False)
    assert "content-encoding" not in bare.headers
    with httpx.stream("GET", url, headers={"Accept-Encoding": "gzip"}, trust_env=False) as answer:
        packed = b"".join(answer.iter_raw())
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(packed) == bare.content
