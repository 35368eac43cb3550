"""Which encoders this machine has, and a stand-in for a graphics processor where it has none."""

from __future__ import annotations

import sys
import tempfile
from functools import cache
from pathlib import Path

from media.run import packaged_ffmpeg
from transcode.encoder_trial import Choice, choose_encoder
from transcode.encoders import HARDWARE, SOFTWARE, Encoder
from transcode.segment import RunOptions

STAND_IN = """\
#!{python} -I
import os, subprocess, sys, time
FFMPEG, FAULT = {ffmpeg!r}, {fault!r}
words = sys.argv[1:]
with open({told!r}, "a") as told:
    print(int("h264_nvenc" in words), *sorted(os.listdir()), file=told)
if "h264_nvenc" not in words:
    os.execv(FFMPEG, [FFMPEG, *words])
dropped = {{"-rc", "-cq", "-no-scenecut", "-b:v", *(["-force_key_frames"] if FAULT == "deaf" else [])}}
pairs = [(word, words[at - 1] if at else "") for at, word in enumerate(words)]
kept = [word for word, before in pairs if not {{word, before}} & dropped]
coding = {{"h264_nvenc": ["libx264", "-sc_threshold", "0"], "p4": ["superfast"]}}
code = subprocess.call([FFMPEG, *(one for word in kept for one in coding.get(word, [word]))])
if FAULT == "lost":
    until = time.monotonic() + 10
    while not os.path.exists("growing-90p.json") and time.monotonic() < until:
        print("progress=continue", flush=True)
        time.sleep(0.05)
    with open({told!r}, "a") as told:
        print("lost", *sorted(os.listdir()), file=told)
    sys.exit("[h264_nvenc @ 0x5] the processor fell off the bus")
sys.exit(code)
"""


def stand_in(folder: Path, fault: str = "") -> tuple[Path, Path]:
    """An FFmpeg whose ``h264_nvenc`` is x264 in other words, and where it tells how it was started.

    Each start is a line there: 1 where ``h264_nvenc`` was asked for, and what its working folder held.

    Args:
        fault: ``lost`` ends like a processor that goes away when all is encoded; ``deaf`` forces no keyframe.
    """
    program, told = folder / f"ffmpeg-{fault}", folder / f"told-{fault}"
    text = STAND_IN.format(python=sys.executable, ffmpeg=packaged_ffmpeg(), fault=fault, told=str(told))
    program.write_text(text)
    program.chmod(0o700)
    return program, told


@cache
def tried_here() -> dict[str, Choice]:
    """What comes of each encoder on this machine, by name."""
    with tempfile.TemporaryDirectory() as folder:
        return {each.name: choose_encoder(each.name, RunOptions(Path(folder))) for each in HARDWARE}


def encoders_here() -> list[Encoder]:
    """What can be tested on this machine: x264, and each encoder of its graphics processors."""
    return [SOFTWARE, *(choice.encoder for choice in tried_here().values() if choice.encoder.is_hardware)]
