"""Plays an address in libVLC at four times its speed; prints how much was decoded and heard.

Run by the system's Python as a user of its own, for VLC refuses to run as root. Its stream output leaves out
the last pictures of any file, so what reached decoders and the sound output is counted here.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time

ENDED, FAILED = 6, 7
SPEED, SAMPLES_S, PATIENCE_S = 4.0, 48_000, 80
ARGUMENTS = (b"-q", b"--vout=dummy", b"--no-drop-late-frames", b"--no-skip-frames",
             b"--no-audio-time-stretch")  # fmt: skip
HEARD = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int64)


class Stats(ctypes.Structure):
    """`libvlc_media_stats_t` of version 3."""

    _fields_ = tuple(
        (name, ctypes.c_float if name.endswith("rate") else ctypes.c_int)
        for name in (
            "read", "input_rate", "demuxed", "demux_rate", "corrupted", "discontinuities", "pictures",
            "sounds", "shown", "lost", "played", "lost_sounds", "sent_packets", "sent_bytes", "send_rate",
        )
    )  # fmt: skip


def play(url: str) -> dict[str, float]:
    """To the end, or to an error, or as long as anybody waits."""
    vlc = ctypes.CDLL("libvlc.so.5")
    for name in ("libvlc_new", "libvlc_media_new_location", "libvlc_media_player_new_from_media"):
        getattr(vlc, name).restype = ctypes.c_void_p
    heard = 0

    def hear(_data: int, _samples: int, count: int, _pts: int) -> None:
        nonlocal heard
        heard += count

    hearing = HEARD(hear)
    arguments = (ctypes.c_char_p * len(ARGUMENTS))(*ARGUMENTS)
    handle = ctypes.c_void_p(vlc.libvlc_new(len(ARGUMENTS), arguments))
    media = ctypes.c_void_p(vlc.libvlc_media_new_location(handle, url.encode()))
    player = ctypes.c_void_p(vlc.libvlc_media_player_new_from_media(media))
    vlc.libvlc_audio_set_callbacks(player, hearing, None, None, None, None, None)
    vlc.libvlc_audio_set_format(player, b"S16N", SAMPLES_S, 1)
    vlc.libvlc_media_player_set_rate(player, ctypes.c_float(SPEED))
    vlc.libvlc_media_player_play(player)
    until = time.monotonic() + PATIENCE_S
    state = 0
    while state not in {ENDED, FAILED} and time.monotonic() < until:
        time.sleep(0.02)
        state = vlc.libvlc_media_player_get_state(player)
    vlc.libvlc_media_player_stop(player)
    stats = Stats()
    vlc.libvlc_media_get_stats(media, ctypes.byref(stats))
    # Version 3 counts a picture when it goes into the decoder and when it comes out.
    return {"state": state, "pictures": stats.pictures // 2, "heard_s": heard / SAMPLES_S * SPEED}


if __name__ == "__main__":
    print(json.dumps(play(sys.argv[1])))
