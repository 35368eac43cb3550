"""Editing plans by API: undo, two people at once, CVAT out and in, previews from real fragments."""

from __future__ import annotations

import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import av
import httpx
import numpy as np
import pytest
from PIL import Image
from sqlalchemy import Connection, Engine, event

from api import cvat_body
from api.previews import Preview, make_preview
from cli.main import main
from media.painting import FILL
from redaction.plan import RedactionPlan, Track
from redaction.render import FILL_RGB
from redaction.revealing import reveals
from storage.db.engine import READ_OPTION
from tests.support.scene import PASSWORD, Live, Recording, live_scene

SEED = 61
# Of the reel's rendition, whose sound begins before its picture.
FIRST = 274
HIDDEN = {"op": "mask_frames", "from_pts": 0, "to_pts": FIRST + 25 * 512, "reason": "minor"}
BOX = {"op": "add_box", "shape": "rectangle", "reason": "privacy", "class": "face",
       "keys": [[FIRST, 0, 0, 80, 60, 0], [FIRST + 149 * 512, 0, 0, 80, 60, 0]]}  # fmt: skip


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("plans")) as live:
        yield live


@pytest.fixture
def recording(live: Live) -> Recording:
    return live.scene.record(seed=SEED, case=live.scene.case_a)


def path_of(recording: Recording, rest: str = "") -> str:
    return f"/api/v1/items/{recording.item_id}/redaction/plans{rest}"


def change(live: Live, recording: Recording, base: int, rest: str = "", **more: Any) -> httpx.Response:
    return live.as_("handler").post(
        path_of(recording, rest), json={"base_number": base, "note": "改", **more}
    )


def test_undo_is_a_version_and_the_second_of_two_people_is_told(live: Live, recording: Recording) -> None:
    assert change(live, recording, 1, changes=[BOX]).json()["plan"]["number"] == 2
    late = change(live, recording, 1, changes=[HIDDEN])
    assert (late.status_code, late.json()["code"]) == (409, "plan_not_newest")
    assert (late.json()["newest"], late.json()["base"]) == (2, 1)
    nothing = {"op": "mute", "from_us": 0, "to_us": 9, "stream": 7, "kind": "silence", "reason": "privacy"}
    missing = change(live, recording, 2, changes=[nothing])
    assert (missing.status_code, missing.json()["code"]) == (422, "plan_invalid")
    assert change(live, recording, 2, "/99/restore").status_code == 404
    undone = change(live, recording, 2, "/1/restore").json()["plan"]
    assert (undone["number"], undone["parent"], undone["reveals"], undone["awaits_approval"]) == (
        3,
        2,
        True,
        True,
    )
    plans = [live.as_("handler").get(path_of(recording, f"/{n}")).json()["plan"] for n in (1, 2, 3)]
    assert plans[2]["tracks"] == plans[0]["tracks"] != plans[1]["tracks"]


def bring(live: Live, recording: Recording, base: int, xml: Any, name: str = "handler") -> httpx.Response:
    headers = {"Content-Type": "application/xml", "Liuhen-Note": quote("改,见附页")}
    return live.as_(name).post(
        path_of(recording, "/cvat"), content=xml, headers=headers, params={"base_number": base}
    )


class Computing:
    """Counts what is done with whole plans, apart by whether the thread holds the write lock just then."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        self.writes = 0
        self._holding: set[int] = set()
        self._handlers = {"begin": self._begin, "commit": self._end, "rollback": self._end}
        self._engine = engine
        for owner, name in ((RedactionPlan, "__init__"), (RedactionPlan, "to_json"), (Track, "__init__")):
            monkeypatch.setattr(owner, name, self._counted(f"{owner.__name__}.{name}", getattr(owner, name)))
        monkeypatch.setattr(
            json, "loads", self._counted("loads", json.loads, lambda text: '"muted_spans"' in text)
        )
        monkeypatch.setattr(
            json, "dumps", self._counted("dumps", json.dumps, lambda value: "muted_spans" in value)
        )

    def __enter__(self) -> Computing:
        for name, handler in self._handlers.items():
            event.listen(self._engine, name, handler)
        return self

    def __exit__(self, *_: object) -> None:
        for name, handler in self._handlers.items():
            event.remove(self._engine, name, handler)

    def _begin(self, connection: Connection) -> None:
        if not connection.get_execution_options().get(READ_OPTION):
            self._holding.add(threading.get_ident())
            self.writes += 1

    def _end(self, _: Connection) -> None:
        self._holding.discard(threading.get_ident())

    def _counted(
        self, name: str, work: Callable[..., Any], is_of_a_plan: Callable[[Any], bool] | None = None
    ) -> Callable[..., Any]:
        def working(*given: Any, **named: Any) -> Any:
            if is_of_a_plan is None or (isinstance(given[0], str | dict) and is_of_a_plan(given[0])):
                (self.held if threading.get_ident() in self._holding else self.free)[name] += 1
            return work(*given, **named)

        return working


def test_nothing_is_computed_while_others_wait_to_write(
    live: Live, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large a plan is, the write lock is held for its row, leaf and job alone."""
    grant = live.grant("handler", recording.item_id, variant="original", purpose="supervision", reason="复核")
    seen = {"grant_id": grant["grant_id"], "at_us": 0}
    with Computing(live.scene.storage.database.engine, monkeypatch) as computing:
        assert change(live, recording, 1, changes=[BOX, HIDDEN]).status_code == 201
        assert computing.writes and computing.free["Track.__init__"] and computing.free["loads"]
        assert live.as_("handler").post(path_of(recording, "/2/preview"), json=seen).status_code == 200
        text = live.as_("handler").get(path_of(recording, "/2/cvat")).text
        assert bring(live, recording, 2, text).status_code == 201
        assert change(live, recording, 3, "/1/restore").status_code == 201
        early = live.as_("legal_reviewer").post(
            f"/api/v1/items/{recording.item_id}/redaction/approve", json={"number": 4}
        )
        assert early.json()["code"] == "redaction_pending"
    # The witness reads each of the three new rows back, as the database holds it (docs/design/witness.md).
    assert computing.held == {"loads": 3}
    assert computing.free["RedactionPlan.to_json"] >= 3


def test_what_was_made_while_another_computed_is_told_and_kept(
    live: Live, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two start from one version; the second to come to the lock finds the first's there."""

    def judged(*plans: Any) -> bool:
        monkeypatch.setattr("api.plan_versions.reveals", reveals)
        assert change(live, recording, 1, changes=[HIDDEN]).status_code == 201
        return reveals(*plans)

    monkeypatch.setattr("api.plan_versions.reveals", judged)
    late = change(live, recording, 1, changes=[BOX])
    assert (late.status_code, late.json()["code"]) == (409, "plan_not_newest")
    assert (late.json()["newest"], late.json()["base"]) == (2, 1)
    plan = live.as_("handler").get(path_of(recording, "/2")).json()["plan"]
    assert plan["whole_frame_spans"] and not plan["tracks"]


def test_tracks_go_out_and_come_back(live: Live, recording: Recording) -> None:
    assert change(live, recording, 1, changes=[BOX]).status_code == 201
    out = live.as_("handler").get(path_of(recording, "/2/cvat"))
    assert (out.status_code, out.headers["content-type"]) == (200, "application/xml")
    assert live.as_("handler2").get(path_of(recording, "/2/cvat")).status_code == 403
    drawn = out.text.replace('xbr="80.00"', 'xbr="90.50"')
    back = bring(live, recording, 2, drawn)
    assert back.status_code == 201, back.text
    assert not back.json()["plan"]["reveals"]
    (track,) = live.as_("handler").get(path_of(recording, "/3")).json()["plan"]["tracks"]
    assert (track["class"], track["keys"][0]) == ("face", [FIRST, 0, 0, 91, 60, 0])
    hostile = bring(live, recording, 3, "<!DOCTYPE a [<!ENTITY e 'x'>]><annotations>&e;</annotations>")
    assert (hostile.status_code, hostile.json()["code"]) == (422, "cvat_invalid")
    again = bring(live, recording, 3, out.text)
    assert (again.status_code, again.json()["code"]) == (409, "plan_does_not_fit")


def test_a_document_of_hours_comes_back_and_one_beyond_the_limit_is_refused(
    live: Live, recording: Recording
) -> None:
    assert change(live, recording, 1, changes=[BOX]).status_code == 201
    text = live.as_("handler").get(path_of(recording, "/2/cvat")).text
    large = text.replace("</annotations>", " " * (3 << 20) + "</annotations>")
    previews = live.scene.storage.scratch / "previews"
    refused = bring(live, recording, 2, large, "handler2")
    assert refused.status_code == 403
    assert bring(live, recording, 2, large).status_code == 201
    (row,) = (r for r in live.as_("handler").get(path_of(recording)).json() if r["number"] == 3)
    assert row["note"] == "改,见附页"
    most = live.scene.settings.api.cvat_body_bytes

    def endless() -> Iterator[bytes]:
        yield b"<annotations>"
        for _ in range(most // (1 << 20) + 1):
            yield b" " * (1 << 20)

    beyond = bring(live, recording, 3, endless())
    assert (beyond.status_code, beyond.json()["code"]) == (413, "body_too_large")
    assert str(most) in beyond.json()["detail"]
    for headers, code in (
        ({"Content-Type": "application/json"}, "cvat_invalid"),
        ({"Liuhen-Note": "%FF"}, "note_invalid"),
        ({"Liuhen-Note": "%0A"}, "note_invalid"),
    ):
        said = {"Content-Type": "application/xml", "Liuhen-Note": "x", **headers}
        answer = live.as_("handler").post(
            path_of(recording, "/cvat"), content=text, headers=said, params={"base_number": 3}
        )
        assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    # Nothing of what came is left, and no other route takes more than before.
    assert list(previews.iterdir()) == []
    other = live.as_("handler").post(path_of(recording), content=large)
    assert (other.status_code, other.json()["code"]) == (413, "body_too_large")


def test_only_so_many_documents_are_taken_at_once(live: Live, recording: Recording) -> None:
    with ExitStack() as held:
        for _ in range(cvat_body.AT_ONCE):
            assert cvat_body._places.acquire(blocking=False)
            held.callback(cvat_body._places.release)
        busy = bring(live, recording, 1, "<annotations/>")
        assert (busy.status_code, busy.json()["code"]) == (503, "cvat_busy")


def test_a_document_is_brought_by_command(
    live: Live, recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*words: str) -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
        return main(
            ["redaction-plan", *words, "--url", live.api_url, "--user", "handler", "--password-stdin"]
        )

    drawn = tmp_path / "drawn.xml"
    assert run("cvat-out", str(recording.item_id), "1", "-o", str(drawn)) == 0
    assert run("cvat-in", str(recording.item_id), str(drawn), "--base", "1", "--note", "收回") == 0
    newest = live.as_("handler").get(path_of(recording)).json()[-1]
    assert (newest["number"], newest["note"]) == (2, "收回")


def test_a_preview_shows_what_the_new_version_hides_at_once(
    live: Live, recording: Recording, tmp_path: Path
) -> None:
    assert change(live, recording, 1, changes=[BOX, HIDDEN]).status_code == 201
    grant = live.grant("handler", recording.item_id, variant="original", purpose="supervision", reason="复核")
    ask = {"grant_id": grant["grant_id"], "at_us": 3_200_000}
    url = path_of(recording, "/2/preview")
    begun = time.monotonic()
    picture = live.as_("handler").post(url, json=ask)
    assert picture.status_code == 200, picture.text
    assert time.monotonic() - begun < 30
    shown = np.asarray(Image.open(io.BytesIO(picture.content)).convert("RGB")).astype(int)
    assert np.abs(shown[4:56, 4:76] - FILL_RGB).max() < 12
    assert shown[64:, 84:].std() > 5
    film = live.as_("handler").post(url, json={**ask, "at_us": 800_000, "length_us": 1_000_000})
    assert film.headers["content-type"] == "video/mp4"
    kept = tmp_path / "seen.mp4"
    kept.write_bytes(film.content)
    with av.open(str(kept)) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        lumas = {
            frame.pts: frame.to_ndarray(format="yuv420p")[: frame.height] for frame in container.decode()
        }
    assert (min(lumas), max(lumas)) == (FIRST + 20 * 512, FIRST + 45 * 512)
    assert np.abs(lumas[FIRST + 25 * 512].astype(int) - FILL[0]).max() < 12
    assert lumas[FIRST + 26 * 512][64:, 84:].std() > 5
    assert len(live.scene.leaves(recording.item_id, "preview:issued")) == 1


def test_a_grant_that_ends_while_a_preview_is_drawn_ends_the_preview(
    live: Live, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = live.grant("handler", recording.item_id, variant="original", purpose="supervision", reason="复核")

    def drawn(*asked: Any) -> Preview:
        made = make_preview(*asked)
        assert live.as_("handler").delete(f"/api/v1/grants/{grant['grant_id']}").status_code == 204
        return made

    monkeypatch.setattr("api.routes.redaction.make_preview", drawn)
    ask = {"grant_id": grant["grant_id"], "at_us": 0}
    answer = live.as_("handler").post(path_of(recording, "/1/preview"), json=ask)
    assert (answer.status_code, answer.json()["code"]) == (410, "grant_ended")


def test_a_preview_by_command_leaves_no_grant_open(
    live: Live, recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(number: str) -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
        words = ["redaction-plan", "preview", str(recording.item_id), number, "--at", "1", "--purpose",
                 "supervision", "--reason", "复核", "-o", str(tmp_path / "seen.jpg")]  # fmt: skip
        return main([*words, "--url", live.api_url, "--user", "handler", "--password-stdin"])

    assert look("1") == 0
    with Image.open(tmp_path / "seen.jpg") as seen:
        assert seen.format == "JPEG"
    (tmp_path / "seen.jpg").unlink()
    assert look("99") != 0
    issued, ended = (
        [leaf["facts"]["grant"] for leaf in live.scene.leaves(recording.item_id, action)]
        for action in ("grant:issued", "grant:revoked")
    )
    assert len(issued) == 2
    assert issued == ended


def test_a_preview_is_for_the_holder_of_the_whole_original_alone(live: Live, recording: Recording) -> None:
    url = path_of(recording, "/1/preview")
    own = live.grant("handler", recording.item_id, variant="original", purpose="supervision", reason="复核")
    masked = live.grant("handler", recording.item_id, purpose="supervision")
    for name, grant in (
        ("handler2", own), ("legal_reviewer", own), ("handler", masked), ("reviewer", own),
    ):  # fmt: skip
        answer = live.as_(name).post(url, json={"grant_id": grant["grant_id"], "at_us": 0})
        assert answer.status_code == 403, (name, answer.text)
    for body in ({"at_us": -1}, {"at_us": 0, "length_us": 6_000_001}, {"at_us": 0.5}):
        assert live.as_("handler").post(url, json={"grant_id": own["grant_id"], **body}).status_code == 422
