"""Encoders that are listed are tried, and what fails on this machine is not used."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from config.settings import EncodingSettings, MediaSettings
from media.run import packaged_ffmpeg
from tests.support.graphics import stand_in, tried_here
from tests.support.installations import settings_for
from transcode.encoder_trial import RUNG, choose_encoder, try_encoder
from transcode.encoders import ENCODERS, HARDWARE, SOFTWARE, Encoder
from transcode.segment import RunOptions
from workers.making import encoder_of_machine

# What FFmpeg knows of any encoder, by the names it is given here.
OF_ALL = {"c:v", "profile:v", "g", "b:v", "maxrate:v", "bufsize:v", "bf", "global_quality:v"}


@pytest.mark.parametrize("encoder", HARDWARE, ids=lambda one: one.name)
def test_an_encoder_that_cannot_open_here_is_not_used_and_says_why(encoder: Encoder) -> None:
    """The reason is the device's: what it was told is understood."""
    choice = tried_here()[encoder.name]
    if choice.encoder is encoder:
        assert not choice.refused
        return
    assert choice.encoder is SOFTWARE
    why = choice.refused[encoder.name]
    assert why
    assert not why.startswith("[")
    assert not any(word in why for word in ("Unrecognized", "Error setting", "Unable to parse", "Undefined"))


@pytest.mark.parametrize("encoder", HARDWARE, ids=lambda one: one.name)
def test_each_encoder_knows_the_options_it_is_given(encoder: Encoder) -> None:
    asked = [packaged_ffmpeg(), "-hide_banner", "-h", f"encoder={encoder.codec}"]
    known = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    own = {f"-{option}" for option in encoder.options(RUNG) if option not in OF_ALL}
    assert own - set(known) == set()


def test_x264_passes_the_trial(tmp_path: Path) -> None:
    try_encoder(SOFTWARE, RunOptions(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_auto_takes_the_first_that_works_and_what_is_deaf_to_keyframes_does_not(tmp_path: Path) -> None:
    good, _ = stand_in(tmp_path)
    deaf, _ = stand_in(tmp_path, "deaf")
    chosen = choose_encoder("auto", RunOptions(tmp_path, ffmpeg=str(good)))
    assert (chosen.encoder, chosen.refused) == (ENCODERS["nvenc"], {})
    refused = choose_encoder("nvenc", RunOptions(tmp_path, ffmpeg=str(deaf)))
    assert refused.encoder is SOFTWARE
    assert "keyframes_s: expected [0.0, 2.0, 4.0], found [0.0" in refused.refused["nvenc"]


def test_an_ffmpeg_without_the_encoder_says_so(tmp_path: Path) -> None:
    """As one that was built without it: the name means nothing to it."""
    lesser = tmp_path / "ffmpeg"
    renamed = 'for word; do shift; [ "$word" = h264_nvenc ] && word=h264_none; set -- "$@" "$word"; done'
    lesser.write_text(f'#!/bin/sh\n{renamed}\nexec "{packaged_ffmpeg()}" "$@"\n')
    lesser.chmod(0o700)
    choice = choose_encoder("nvenc", RunOptions(tmp_path, ffmpeg=str(lesser)))
    assert choice.encoder is SOFTWARE
    assert "Unknown encoder 'h264_none'" in choice.refused["nvenc"]


def test_a_worker_starts_though_a_driver_hangs(tmp_path: Path) -> None:
    """`liuhen up` would end everything, custody too, for a worker that does not get ready."""
    hung = tmp_path / "ffmpeg"
    hung.write_text("#!/bin/sh\nexec sleep 20\n")
    hung.chmod(0o700)
    settings = settings_for(tmp_path, f"sqlite:///{tmp_path / 'test.db'}").model_copy(
        update={"encoding": EncodingSettings(encoder="auto"), "media": MediaSettings(ffmpeg=hung)}
    )
    began = time.monotonic()
    assert encoder_of_machine(settings, within_s=0.5) is SOFTWARE
    assert time.monotonic() - began < 5
