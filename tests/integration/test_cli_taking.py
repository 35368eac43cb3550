"""What a case's footage shows, taken away by command: through the API, as an account, by its rights."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from cli.main import main
from storage.sequencer import sequence_agency
from tests.support.pipeline import Pipeline
from tests.support.placing import film
from tests.support.scene import CASE_A, CASE_B, PASSWORD, Live, live_scene

NOON = datetime(2026, 3, 3, 4, 0, tzinfo=UTC)
Liuhen = Callable[..., int]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Two cameras in a case, a gap, a recording nobody knows the time of; a worker works."""
    with live_scene(tmp_path_factory.mktemp("commands")) as live:
        scene = live.scene
        scene.record(case=scene.case_a)
        film(scene, "CAM-1", NOON, case=scene.case_b, name="one.mp4")
        film(scene, "CAM-1", NOON + timedelta(seconds=10), case=scene.case_b, name="later.mp4")
        film(scene, "CAM-2", NOON + timedelta(seconds=1), case=scene.case_b, name="two.mp4")
        film(scene, "CAM-2", None, case=scene.case_b, name="undated.mp4")
        stop = threading.Event()
        worker = threading.Thread(target=_work, args=(live, stop))
        worker.start()
        yield live
        stop.set()
        worker.join()


def _work(live: Live, stop: threading.Event) -> None:
    pipeline = Pipeline(live.scene.storage, live.scene.settings)
    while not stop.wait(0.1):
        pipeline.work(only={"clip", "clip_set"})
        sequence_agency(live.scene.storage, live.scene.agency.id)


@pytest.fixture
def liuhen(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Liuhen:
    """A command as the reviewer, by password; its exit status."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, user: str = "reviewer", password: str = PASSWORD) -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
        return main([*words, "--url", live.api_url, "--user", user, "--password-stdin"])

    return run


def saved(name: str) -> tuple[bytes, dict[str, Any]]:
    """A file, and the sheet beside it."""
    return Path(name).read_bytes(), json.loads(Path(f"{name}.sheet.json").read_text("utf-8"))


def test_a_clip_comes_with_its_sheet_and_its_digest_is_checked(
    live: Live, liuhen: Liuhen, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("clip", CASE_A, "--from", "1", "--to", "0:02.5", "--purpose", "litigation", "-o", "a.mp4")
    assert liuhen(*words) == 0
    out, err = capsys.readouterr()
    body, sheet = saved("a.mp4")
    assert sheet["clip"]["sha256"] == sha256(body).hexdigest() and sheet["clip"]["sha256"] in out
    assert (sheet["span_us"], sheet["purpose"], sheet["marked"]) == (
        [1_000_000, 2_500_000],
        "litigation",
        True,
    )
    assert "随附单" in (page := Path("a.mp4.sheet.html").read_text("utf-8"))
    leaf = sheet["leaf"]
    assert f"{leaf['leaf_id']} · {leaf['leaf_index']} · {leaf['leaf_hash']}" in page, (
        "its place was waited for"
    )
    assert "None" not in page
    assert "making 100%" in err and "fetching 100%" in err
    with av.open("a.mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) == 38
    assert {path.name for path in Path().iterdir()} == {"a.mp4", "a.mp4.sheet.json", "a.mp4.sheet.html"}
    assert {path.stat().st_mode & 0o777 for path in Path().iterdir()} == {0o600}, "nobody else's"
    assert liuhen(*words) == 4, "what lies there stays"
    assert "output_exists" in capsys.readouterr().err


def test_one_picture_is_named_by_itself(liuhen: Liuhen, capsys: pytest.CaptureFixture[str]) -> None:
    assert liuhen("picture", CASE_A, "--frame", "3", "--purpose", "training", "--json") == 0
    out = capsys.readouterr().out
    told, _ = json.JSONDecoder().raw_decode(out, out.index("{\n"))  # the worker beside us logs there too
    with Image.open(told["file"]) as picture:
        assert (picture.format, picture.size) == ("PNG", (320, 180))
    assert [Path(each).exists() for each in told["sheets"]] == [True, True]
    assert "http://" not in json.dumps(told), "no address of footage"


def test_a_set_and_a_composite_are_taken_by_wall_time_and_by_what_people_call_a_source(
    liuhen: Liuhen, capsys: pytest.CaptureFixture[str]
) -> None:
    window = ("--from", "2026-03-03T12:00:01.5", "--to", "2026-03-03T12:00:11", "--purpose", "case_handling")
    assert liuhen("clip-set", CASE_B, *window, "-o", "set.zip") == 0
    out = capsys.readouterr().out
    body, sheet = saved("set.zip")
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert sum(name.endswith(".mp4") for name in archive.namelist()) == len(sheet["clips"]) == 3
    assert "空档 / gap:  2026-03-03 12:00:07 – 2026-03-03 12:00:10 Asia/Shanghai  3.000 s" in out
    assert "not in it:  1" in out
    assert liuhen("clip-set", CASE_B, *window, "--source", "CAM\x1b[2J") == 3
    assert "CAM�[2J" in capsys.readouterr().err
    short = ("--from", "2026-03-03T12:00:02", "--to", "2026-03-03T04:00:02.400Z", "--purpose", "litigation")
    layout = ("--layout", "picture_in_picture", "--source", "CAM-2", "--source", "CAM-1", "--sound", "none")
    assert liuhen("composite", CASE_B, *short, *layout, "-o", "both.mp4") == 0
    capsys.readouterr()
    _, sheet = saved("both.mp4")
    assert [pane["device_no"] for pane in sheet["composite"]["panes"]] == ["CAM-2", "CAM-1"]
    assert liuhen("clip-set", CASE_B, *short, "--source", "CAM-9") == 3
    assert "CAM-1, CAM-2" in capsys.readouterr().err


def test_a_timeline_tells_sources_gaps_and_what_has_no_time(
    liuhen: Liuhen, capsys: pytest.CaptureFixture[str]
) -> None:
    assert liuhen("timeline", CASE_B) == 0
    lines = capsys.readouterr().out.splitlines()
    (source,) = [line.split() for line in lines if line.startswith("CAM-1 ")]
    assert source == ["CAM-1", "2026-03-03", "12:00:00", "2026-03-03", "12:00:16", "2", "12.0", "1", "0"]
    (later,) = [line.split() for line in lines if "later.mp4" in line]
    assert later[:7] == ["2026-03-03", "12:00:10", "2026-03-03", "12:00:16", "CAM-1", "later.mp4", "4.000"]
    assert any("时间不明" in line and "undated.mp4" in line for line in lines)
    assert lines[-1].endswith("12:00:07 – 2026-03-03 12:00:10  3.000 s")
    assert liuhen("timeline", CASE_B, "--json") == 0
    assert json.loads(capsys.readouterr().out)["unplaced_count"] == 1


def test_what_the_account_may_not_have_is_refused_in_the_words_of_the_api(
    liuhen: Liuhen, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("clip", CASE_A, "--purpose", "case_handling", "-o", "x.mp4")
    assert liuhen(*words, "--original", "--reason", "核对") == 5
    assert liuhen(*words, "--unmarked", "--reason", "举证") == 5
    assert liuhen(*words, password="wrong") == 5
    assert liuhen("clip", "示执罚〔2026〕99号", "--purpose", "training") == 3
    assert liuhen("clip", CASE_B, "--purpose", "training") == 4, "which of them"
    err = capsys.readouterr().err
    assert all(
        code in err for code in ("not_permitted", "sign_in_refused", "case_not_found", "item_ambiguous")
    )
    assert list(Path().iterdir()) == []
    assert main(["timeline", CASE_A, "--url", "http://192.0.2.1", "--user", "reviewer"]) == 2
    assert main(["timeline", CASE_A]) == 2, "nobody is named"
    assert main(["timeline", CASE_A, "--url", "http://127.0.0.1:9", "--user", "reviewer"]) == 2, "no terminal"
    monkeypatch.setenv("LIUHEN_TOKEN", "x")
    assert main(["timeline", CASE_A, "--url", "http://127.0.0.1:9"]) == 6
    err = capsys.readouterr().err
    assert all(
        code in err for code in ("url_insecure", "user_missing", "password_missing", "api_unreachable")
    )


def test_a_token_of_a_session_serves_instead_of_a_password(
    live: Live, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bearer = live.as_("archivist").headers["authorization"].removeprefix("Bearer ")
    monkeypatch.setenv("LIUHEN_TOKEN", f"{bearer}\r")
    for _ in range(2):
        assert main(["timeline", CASE_A, "--url", live.api_url]) == 0, "it is not ours to end"
    assert CASE_A not in capsys.readouterr().err
    monkeypatch.setenv("LIUHEN_TOKEN", f"{bearer}\r{bearer}")
    assert main(["timeline", CASE_A, "--url", live.api_url]) == 5
    assert bearer not in capsys.readouterr().err
