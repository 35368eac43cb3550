"""A list in slices names the same bytes, each by one address."""

from __future__ import annotations

import pytest

from tests.support.hls import read_multivariant
from transcode.captions import CaptionTrack
from transcode.multivariant import Variant, multivariant_playlist
from transcode.slices import in_slices, slice_of


def test_each_range_of_a_list_becomes_an_address_that_says_it() -> None:
    url = "https://media.example/m/abc/rendition-copy.mp4"
    listed = (
        f'#EXT-X-MAP:URI="{url}",BYTERANGE="80@0"\n#EXTINF:2.000000,\n#EXT-X-BYTERANGE:5000@1000\n{url}\n'
        f"#EXTINF:1.000000,\n#EXT-X-BYTERANGE:1@6000\n{url}\n#EXT-X-ENDLIST\n"
    )
    assert in_slices(listed) == (
        f'#EXT-X-MAP:URI="{url}/0-79.mp4"\n#EXTINF:2.000000,\n{url}/1000-5999.mp4\n'
        f"#EXTINF:1.000000,\n{url}/6000-6000.mp4\n#EXT-X-ENDLIST\n"
    )
    assert slice_of("rendition-copy.mp4/1000-5999.mp4") == ("rendition-copy.mp4", 1000, 5999)


def test_the_lists_of_a_multivariant_one_are_asked_for_in_slices_too() -> None:
    rung = Variant("rung-copy.m3u8", 9, 9, "avc1.64001F", 320, 180)
    keys = Variant("keyframes-copy.m3u8", 9, 9, "avc1.64001F", 320, 180, is_of_keyframes=True)
    found = read_multivariant(in_slices(multivariant_playlist([rung, keys])))
    assert [each.url for each in found] == ["rung-copy.m3u8?sliced=true", "keyframes-copy.m3u8?sliced=true"]
    aligned = Variant(
        "index.m3u8", 9, 9, "avc1.64001F", 320, 180, captions=CaptionTrack("m", "marks-mixed.m3u8", "M")
    )
    (found_aligned,) = read_multivariant(in_slices(multivariant_playlist([aligned])))
    assert (found_aligned.url, found_aligned.captions) == ("index.m3u8?sliced=true", "marks-mixed.m3u8")


@pytest.mark.parametrize(
    "name",
    ["rendition-copy.mp4", "original/0-1.mp4", "a.mp4/2-1.mp4", "a.mp4/01-2.mp4", "a.mp4/0-٣.mp4",
     "a.mp4/0-1.mp4\n", "a.mp4/b.mp4/0-1.mp4", "a.mp4/+0-1.mp4"],
)  # fmt: skip
def test_what_is_spelt_otherwise_is_no_slice(name: str) -> None:
    assert slice_of(name) is None
