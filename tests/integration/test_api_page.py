"""The page in a real browser: sign in, find a case, watch what is masked; nothing comes from elsewhere."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import APIResponse, Dialog, Locator, Page, Route, expect
from sqlalchemy import select

from cli.main import COMMANDS
from evidence.continuity import Fault, Span
from evidence.kinds import SEPARATED_ROLES, GapReason, Role
from media.footage import read_frame_number
from storage.db.tables import CaseBinding, Item
from tests.support.pipeline import Pipeline
from tests.support.placing import film
from tests.support.rooms import session_of
from tests.support.scene import CASE_A, CASE_B, PASSWORD, Live, Recording, Scene, live_scene
from transcode.names import address_name

pytestmark = pytest.mark.browser
NOON = datetime(2026, 3, 3, 4, 0, tzinfo=UTC)
REPORT = {
    "schema": "liuhen-continuity/1", "method": "one look", "duration_us": 6_000_000, "frame_count": 150,
    "has_picture": True, "has_sound": False, "is_whole": True, "undecodable_count": 0, "thresholds": {},
}  # fmt: skip
SEEN = """() => [...document.querySelectorAll('#panes video')].map((video) => {
  const canvas = Object.assign(document.createElement('canvas'), { width: 320, height: 180 })
  const brush = canvas.getContext('2d')
  brush.drawImage(video, 0, 0, 320, 180)
  const pixels = brush.getImageData(0, 0, 320, 180).data
  let text = ''
  for (let at = 0; at < pixels.length; at += 4) text += String.fromCharCode(pixels[at + 1])
  return btoa(text)
})"""

BUFFERS = """
window.buffers = []
const add = MediaSource.prototype.addSourceBuffer
MediaSource.prototype.addSourceBuffer = function (kind) {
  buffers.push(add.call(this, kind))
  return buffers.at(-1)
}
"""
WRITERS = """async () => {
  const { state, localTime } = await import('/static/common.js')
  const { DateTimeFormat } = Intl
  let made = 0
  Intl.DateTimeFormat = function (...options) { made += 1; return new DateTimeFormat(...options) }
  const written = ['Asia/Shanghai', 'UTC'].map((zone) => {
    state.zone = zone
    localTime(1772510401e6)
    return localTime(1772510400e6)
  })
  return [made, ...written]
}"""
WRITES = """import('/static/facts.js').then(({ isStating }) => isStating(document.getElementById('items')))"""
TICKS = """() => {
  const boxes = [...document.querySelectorAll('.tl-tick')].map((each) => each.getBoundingClientRect())
  return Math.min(...boxes.slice(1).map((each, at) => each.left - boxes[at].right))
}"""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("page")) as live:
        scene = live.scene
        report(scene, scene.record(case=scene.case_a))
        report(scene, scene.record(seed=2, case=scene.case_a, redacted=False))
        lay_out(scene)
        yield live


def report(scene: Scene, recording: Recording, *spans: Span) -> None:
    """What was found to break the continuity of a recording."""
    counts = {str(span.fault): 1 for span in spans}
    facts = {**REPORT, "spans": [span.to_json() for span in spans], "counts": counts}
    with scene.storage.database.transaction() as session:
        item = session.scalars(select(Item).where(Item.id == recording.item_id)).one()
        scene.derive(session, item, "continuity", json.dumps(facts).encode(), {})


def lay_out(scene: Scene) -> None:
    """A case of two cameras: a gap, an overlap, a frozen picture, thumbnails, and what has no time."""
    case = scene.case_b
    first = film(scene, "CAM-1", NOON, case=case)
    report(scene, first, Span(Fault.FROZEN, 3_000_000, 4_500_000, 99.5, 98.0, "percent"))
    for device, seconds, seed in (("CAM-1", 10, 1), ("CAM-2", 1, 2), ("CAM-2", 6, 1)):
        report(scene, film(scene, device, NOON + timedelta(seconds=seconds), seed=seed, case=case))
    film(scene, "CAM-2", None, case=case)
    files = [(first.item_id, NOON, NOON + timedelta(seconds=6))]
    session_of(scene.storage, NOON, files, {NOON + timedelta(seconds=2): "出示 <证件>"}, case.id)
    with scene.storage.database.transaction() as session:
        item = session.scalars(select(Item).where(Item.id == first.item_id)).one()
        picture = io.BytesIO()
        Image.new("RGB", (320, 90), (200, 30, 30)).save(picture, "JPEG")
        sheet = scene.derive(session, item, "redacted_sheet", picture.getvalue(), {}, masked=True)
        name = address_name("redacted_sheet", sheet.sha256)
        cues = "".join(
            f"00:00:0{at}.000 --> 00:00:0{at + 3}.000\n{name}#xywh={x},0,160,90\n\n"
            for at, x in ((0, 0), (3, 160))
        )
        scene.derive(session, item, "redacted_thumbnails", f"WEBVTT\n\n{cues}".encode(), {}, masked=True)


def until(page: Page, claim: str) -> None:
    """Wait for a claim; the page's own policy forbids the waiting that Playwright has for it."""
    for _ in range(200):
        if page.evaluate(claim):
            return
        page.wait_for_timeout(100)
    raise AssertionError(claim)


def test_a_reviewer_finds_a_case_and_watches_it(live: Live, page: Page) -> None:
    origins: set[str] = set()
    complaints: list[str] = []
    listened: list[str] = []
    page.on("request", lambda request: origins.add("{0.scheme}://{0.netloc}".format(urlsplit(request.url))))
    page.on("request", lambda one: listened.append(one.url) if "/api/v1/events" in one.url else None)
    page.on(
        "console",
        lambda message: (
            complaints.append(f"{message.text} {message.location}") if message.type == "error" else None
        ),
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.add_init_script(BUFFERS)
    page.goto(live.api_url)
    page.locator("#sign-in").get_by_label("用户名").fill("reviewer")
    page.locator("#sign-in").get_by_label("口令").fill(PASSWORD)
    page.get_by_role("button", name="登录").click()
    page.get_by_label("案件编号").fill(CASE_A.replace("〔", "[").replace("〕", "]"))
    page.get_by_role("button", name="查找").click()
    edges = [page.locator(f"#search {name}").bounding_box() for name in ("input", "select", "button")]
    assert len({(round(edge["y"]), round(edge["height"])) for edge in edges if edge}) == 1, "one row"
    cards = page.locator("li.card")
    expect(cards).to_have_count(2)
    expect(page.locator("#variant")).to_be_hidden()
    expect(cards.first).to_contain_text("demo-LX-2026-0001")
    expect(cards.first).to_contain_text("已脱敏")
    expect(cards.first).to_contain_text("缺项")
    expect(cards.first).to_contain_text(re.compile(r"2026-\d\d-\d\d \d\d:\d\d:\d\d \+08:00"))
    expect(cards.locator("form")).to_have_count(0)  # Who reviews states nothing.
    expect(cards.first.locator("img")).to_have_js_property("naturalWidth", 32)
    cards.first.get_by_role("button", name="观看脱敏件").click()
    expect(page.get_by_text("已处理:人脸;未处理:车牌、文字、语音")).to_be_visible()
    until(page, "document.getElementById('video').readyState >= 2")
    assert page.evaluate("document.getElementById('video').videoWidth") == 320
    page.evaluate("document.getElementById('video').play()")
    until(page, "document.getElementById('video').currentTime > 0.5")
    # A browser may throw away what it holds; what is sought then is loaded again.
    page.evaluate("(() => { document.getElementById('video').pause(); buffers[0].remove(0, 1) })()")
    until(page, "!buffers[0].updating")
    page.evaluate("document.getElementById('video').currentTime = 0.2")
    until(
        page, "document.getElementById('video').readyState >= 2 && !document.getElementById('video').seeking"
    )
    # What is taken is seen to be taken, however far above the card it stands.
    page.set_viewport_size({"width": 1280, "height": 320})
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.get_by_role("button", name="取走片段").click()
    expect(page.locator("#taken li")).to_be_in_viewport()
    page.set_viewport_size({"width": 1280, "height": 720})
    cards.nth(1).get_by_role("button", name="观看脱敏件").click()
    expect(page.get_by_text("正在脱敏,完成后即可观看")).to_be_visible()
    page.get_by_role("button", name="中文 / English").click()
    page.get_by_label("Case number").fill("示执罚〔2026〕99号")
    page.get_by_role("button", name="Find").click()
    expect(page.locator("#case")).to_have_text("No case of that number")
    page.get_by_role("button", name="中文 / English").click()
    expect(page.locator("#case")).to_have_text("没有这个编号的案件")
    assert listened == [f"{live.api_url}/api/v1/events?case_id={live.scene.case_a.id}"]
    assert {origin for origin in origins if not origin.startswith("blob")} <= {live.api_url, live.media_url}
    assert complaints == []


def sign_in(live: Live, page: Page, name: str) -> None:
    page.goto(live.api_url)
    page.locator("#sign-in").get_by_label("用户名").fill(name)
    page.locator("#sign-in").get_by_label("口令").fill(PASSWORD)
    page.get_by_role("button", name="登录").click()


def open_case(live: Live, page: Page, name: str, case_no: str) -> None:
    sign_in(live, page, name)
    page.get_by_label("案件编号").fill(case_no)
    page.get_by_role("button", name="查找").click()


def numbers(page: Page) -> list[int | None]:
    """The number of the picture that each source shows."""
    shown = [np.frombuffer(base64.b64decode(each), np.uint8) for each in page.evaluate(SEEN)]
    return [read_frame_number(each.reshape(180, 320)) for each in shown]


def until_numbers(page: Page, wanted: list[int]) -> None:
    """Wait until the sources show these pictures; those that are not named show what they will."""
    for _ in range(200):
        found = numbers(page)[: len(wanted)]
        if found == wanted:
            return
        page.wait_for_timeout(100)
    raise AssertionError((found, wanted, page.locator("#clock").inner_text()))


def click_at(track: Locator, at: datetime) -> None:
    """Click on a moment of the line, which shows the 15 s of the case and a margin."""
    box = track.bounding_box()
    assert box is not None
    margin = 0.5
    share = ((at - NOON).total_seconds() + margin) / (16 + 2 * margin)
    track.click(position={"x": box["width"] * share, "y": box["height"] / 2})


def test_sources_of_a_case_are_reviewed_in_step_and_taken_away(live: Live, page: Page) -> None:
    complaints: list[str] = []
    page.on("console", lambda told: complaints.append(told.text) if told.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    open_case(live, page, "legal_reviewer", CASE_B)
    tracks = page.locator(".tl-track")
    expect(page.locator(".tl-label b")).to_have_text(["CAM-1", "CAM-2"])
    expect(tracks.nth(0).locator(".tl-piece")).to_have_count(2)
    expect(tracks.nth(0).locator(".tl-gap")).to_have_count(1)
    expect(tracks.nth(1).locator(".tl-overlap")).to_have_count(1)
    expect(tracks.nth(0).locator(".tl-finding.frozen")).to_have_count(1)
    expect(page.locator("#unplaced")).to_contain_text("时间不明")
    page.locator("#list-title").click()
    expect(page.locator("#list tr", has_text="画面静止")).to_contain_text("实测 99.5 %,阈值 98")
    # What hovers asks for no grant: the poster, until somebody watches.
    hover(tracks.nth(0), 3.5)
    expect(page.locator(".tl-preview")).to_contain_text("画面静止 1.5 秒")
    expect(page.locator(".tl-preview img")).to_have_js_property("naturalWidth", 32)
    assert live.scene.leaves(live.scene.case_b.id, "grant:issued") == []
    click_at(tracks.nth(0), NOON + timedelta(seconds=2))
    expect(page.locator("#panes video")).to_have_count(2)
    expect(page.locator("#play")).to_have_text("暂停")
    until(page, "[...document.querySelectorAll('#panes video')].every((each) => each.currentTime > 1.1)")
    page.keyboard.press("k")
    expect(page.locator("#play")).to_have_text("播放")
    # What was marked is read where it was marked, by who chooses to.
    expect(page.locator("#panes track")).to_have_count(1)
    mode, cue = (f"document.querySelector('#panes track').track.{each}" for each in ("mode", "activeCues[0]"))
    assert page.evaluate(mode) == "hidden"
    page.get_by_role("button", name="显示录制标记").click()
    until(page, f"{mode} === 'showing' && Boolean({cue})")
    assert page.evaluate(f"[{cue}.startTime, {cue}.getCueAsHTML().textContent]") == [2, "出示 <证件>"]
    page.get_by_role("button", name="显示录制标记").click()
    assert page.evaluate(mode) == "hidden"
    # Seeking by the line's own keys, then by picture: two sources show one instant, to the picture.
    seconds = seconds_shown(page)
    until_numbers(page, expected(seconds))
    page.keyboard.press(".")
    page.wait_for_timeout(200)
    stepped = seconds_shown(page)
    assert 0 < stepped - seconds <= 0.041
    until_numbers(page, expected(stepped))
    page.keyboard.press(",")
    page.keyboard.press(",")
    until_numbers(page, [expected(stepped)[0] - 2, expected(seconds_shown(page))[1]])
    hover(tracks.nth(0), 3.5)
    expect(page.locator(".tl-sheet")).to_have_css("background-position", "-160px 0px")
    present = numbers(page)[0]
    assert present is not None
    with page.expect_response("**/api/v1/clips"):
        for _ in range(3):  # Held down, it is asked for once.
            page.keyboard.down("s")
    page.keyboard.up("s")
    worker = Pipeline(live.scene.storage, live.scene.settings)
    worker.work(only={"clip", "clip_set"})
    saved = page.locator("#taken li").first
    link = saved.get_by_role("link", name="下载")
    expect(link).to_be_visible(timeout=20_000)
    answer = live.anyone.get(str(link.get_attribute("href")))
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert read_frame_number(np.asarray(picture.convert("L"))) == present
    with page.expect_download() as sheet:
        saved.get_by_role("button", name="随附单(数据)").click()
    assert json.loads(sheet.value.path().read_bytes())["frame"] == present - 51_000
    # A span is marked, and taken as what the reader chooses.
    asked: list[dict[str, Any]] = []
    page.on("request", lambda one: asked.append(one.post_data_json) if one.method == "POST" else None)
    expect(page.get_by_role("button", name="取走标记的时段")).to_be_disabled()
    page.keyboard.press("i")
    page.keyboard.press("l")
    # The second file of CAM-1 began ten seconds after the first, and stands behind it in its list.
    until_numbers(page, [51_000 + int((seconds_shown(page) - 10) * 25 + 1e-6)])
    page.keyboard.press("o")
    expect(page.locator("#marked")).to_contain_text("10.0 秒")
    page.get_by_role("button", name="取走标记的时段").click()
    expect(page.locator("#notice")).to_contain_text("跨越多件记录")
    for kind in ("side_by_side", "picture_in_picture", "set"):
        page.locator("#take [name=kind]").select_option(kind)
        with page.expect_response("**/api/v1/clip-sets"):
            page.get_by_role("button", name="取走标记的时段").dblclick()
    expect(page.locator("#taken li")).to_have_count(4)
    expect(page.locator("#taken progress")).to_have_count(3)
    wanted = [body for body in asked if body and "from_at" in body]
    assert [body.get("layout") for body in wanted] == ["side_by_side", "picture_in_picture", None]
    assert {len(body["lanes"]) for body in wanted} == {2}
    page.locator("#take [name=unmarked]").check()
    expect(page.locator("#take [name=reason]")).to_be_visible()
    worker.leave_out(set())
    expect(page.locator("#taken progress")).to_have_count(0)
    page.get_by_role("button", name="中文 / English").click()
    expect(page.get_by_role("button", name="Next picture")).to_be_visible()
    expect(page.locator("#list tr", has_text="stands still")).to_be_visible()
    expect(page.locator("#taken li").first).to_contain_text("It failed")
    assert re.findall("[\u4e00-\u9fff]+", page.locator("#review").inner_text()) == []
    assert page.locator("#clock").get_attribute("aria-live") == "off"
    page.set_viewport_size({"width": 1920, "height": 900})
    page.evaluate("document.documentElement.style.fontSize = '22px'")
    for _ in range(3):
        page.get_by_role("button", name="Closer").click()
        assert page.evaluate(TICKS) > 0, "none over another, however large the reader's letters"
    # Drawn anew, the line stays where it was looked at, and under the keyboard.
    page.locator(".tl-axis").focus()
    page.locator(".tl-scroll").evaluate("(line) => { line.scrollLeft = 600 }")
    page.evaluate("document.getElementById('language').click()")
    assert page.locator(".tl-scroll").evaluate("(line) => line.scrollLeft") == 600
    expect(page.locator(".tl-axis")).to_be_focused()
    page.evaluate("document.getElementById('language').click()")
    with page.expect_response(lambda answer: answer.request.method == "DELETE") as ended:
        page.get_by_role("button", name="Stop watching").click()
    assert ended.value.status == 204
    assert complaints == []


def test_who_has_the_right_sees_originals_for_a_reason_and_only_until_the_next_case(
    live: Live, page: Page
) -> None:
    asked: list[dict[str, Any]] = []
    page.on("request", lambda one: asked.append(one.post_data_json) if one.method == "POST" else None)
    open_case(live, page, "legal_reviewer", CASE_B)
    track = page.locator(".tl-track").first
    page.get_by_role("checkbox", name="看原件").check()
    click_at(track, NOON + timedelta(seconds=2))
    expect(page.locator("#notice")).to_have_text("须说明理由")
    expect(page.locator("#wall")).to_be_hidden()
    page.get_by_label("看原件的理由").fill("复核脱敏")
    click_at(track, NOON + timedelta(seconds=2))
    expect(page.locator("#panes")).to_contain_text("原件,未脱敏")
    until(page, "[...document.querySelectorAll('#panes video')].every((each) => each.readyState >= 2)")
    page.keyboard.press("k")
    with page.expect_response("**/api/v1/clips"):
        page.keyboard.press("s")
    until_numbers(page, [number - 50_000 for number in expected(seconds_shown(page))])
    said = [(body["variant"], body["reason"]) for body in asked if body and "purpose" in body]
    assert said == [("original", "复核脱敏")] * 2
    page.get_by_role("checkbox", name="看原件").uncheck()
    expect(page.locator("#wall")).to_be_hidden()
    expect(page.locator("li.card button").first).to_have_text("观看脱敏件")
    page.get_by_role("checkbox", name="看原件").check()
    page.get_by_label("案件编号").fill(CASE_A)
    page.get_by_role("button", name="查找").click()
    expect(page.locator("li.card")).to_have_count(2)
    expect(page.get_by_role("checkbox", name="看原件")).not_to_be_checked()


def test_what_a_record_lacks_is_stated_on_its_card(live: Live, page: Page) -> None:
    scene = live.scene
    with scene.storage.database.transaction() as session:
        tied = select(CaseBinding.item_id).where(CaseBinding.case_id == scene.case_a.id)
        item = session.scalars(select(Item).where(Item.id.in_(tied), Item.redaction == "none")).one()
        item.captured_to, item_id = None, item.id
    open_case(live, page, "handler", CASE_A)
    card = page.locator("li.card", has_text="未脱敏")
    expect(card).to_contain_text("缺项: 采集时间、采集地点、证明对象")
    card.get_by_text("填写缺项").click()
    card.get_by_role("button", name="填写").click()
    expect(page.locator("#notice")).to_have_text("请至少填写一项")
    card.get_by_label("采集地点").fill("人民路12号")
    card.get_by_role("button", name="填写").click()
    expect(card).to_contain_text("缺项: 采集时间、证明对象")
    card.get_by_text("填写缺项").click()
    card.get_by_label("采集结束").fill("2026-03-03T10:00:06")
    card.get_by_label("证明对象").fill("<b>占道</b>经营")
    assert page.evaluate(WRITES), "what is new in the case waits for whoever is writing"
    card.get_by_role("button", name="填写").click()
    expect(card).to_contain_text("五要素齐全")
    expect(card.locator("form")).to_have_count(0)
    assert not page.evaluate(WRITES)
    facts = live.as_("handler").get(f"/api/v1/items/{item_id}").json()["facts"]
    assert (facts["captured_place"], facts["object_of_proof"]) == ("人民路12号", "<b>占道</b>经营")
    assert datetime.fromisoformat(facts["captured_to"]) == datetime(2026, 3, 3, 2, 0, 6, tzinfo=UTC)
    assert len(scene.leaves(item_id, "item:facts_set")) == 2


def test_a_session_is_conducted_on_the_page(live: Live, page: Page) -> None:
    sign_in(live, page, "officer")
    begin = page.locator("#start-box")
    begin.get_by_text("开始会话").click()
    begin.get_by_label("办案人员编号").fill("330101,330102")
    begin.get_by_label("被询问人").fill("李某某")
    begin.get_by_role("button", name="现在开始").click()
    row = page.locator("#room-list li").first
    expect(row).to_contain_text("自 2026-")
    (session,) = live.as_("officer").get("/api/v1/room-sessions?state=open").json()["items"]
    assert (session["facts"]["officers"], session["facts"]["party"]) == (["330101", "330102"], "李某某")
    row.get_by_label("标记内容").fill("出示执法证件")
    row.get_by_role("button", name="标记").click()
    expect(page.locator("#notice")).to_contain_text("已标记")
    expect(row.get_by_label("标记内容")).to_have_value("")
    reasons = (
        row.get_by_label("暂停原因").locator("option").evaluate_all("(all) => all.map((one) => one.value)")
    )
    assert reasons == [str(reason) for reason in GapReason]
    row.get_by_label("遮蔽原因").select_option("minor")
    for press, told in (
        ("从现在起遮蔽", "均被遮蔽"),
        ("遮蔽到现在为止", "遮蔽已结束"),
        ("遮蔽到现在为止", "没有持续中的遮蔽"),
    ):
        row.get_by_role("button", name=press).click()
        expect(page.locator("#notice")).to_contain_text(told)
    (mask,) = live.as_("officer").get(f"/api/v1/room-sessions/{session['id']}/masks").json()
    assert mask["reason"] == "minor" and mask["to_at"] is not None
    row.get_by_label("暂停原因").select_option("emergency")
    row.get_by_label("情况说明").fill("当事人就医")
    row.get_by_role("button", name="暂停会话").click()
    expect(row).to_contain_text("暂停中")
    expect(row.get_by_label("标记内容")).to_have_count(0)
    row.get_by_role("button", name="继续会话").click()
    expect(row.get_by_role("button", name="暂停会话")).to_be_visible()
    for answer, state in (("dismiss", "open"), ("accept", "ended")):
        asked: list[str] = []

        def reply(told: Dialog, answer: str = answer, asked: list[str] = asked) -> None:
            asked.append(told.message)
            getattr(told, answer)()

        page.once("dialog", reply)
        row.get_by_role("button", name="结束会话").click()
        expect(row.get_by_role("button", name="结束会话")).to_have_count(1 if answer == "dismiss" else 0)
        assert "不能再继续" in asked[0]
        detail = live.as_("officer").get(f"/api/v1/room-sessions/{session['id']}").json()
        assert detail["state"] == state
    said = [(note["kind"], note["text"]) for note in detail["notes"]]
    assert said == [("marker", "出示执法证件"), ("pause", "当事人就医"), ("resume", "")]
    # Who reads sessions and runs none is shown no button of theirs.
    page.get_by_role("button", name="退出").click()
    sign_in(live, page, "archivist")
    expect(page.locator("#rooms")).to_be_visible()
    expect(page.locator("#start-box")).to_be_hidden()


def test_what_comes_late_is_shown_to_nobody(live: Live, page: Page) -> None:
    late: list[tuple[Route, APIResponse]] = []
    asked: list[Route] = []

    def hold(route: Route) -> None:
        asked.append(route)

    page.route("**/api/v1/cases/*/items", lambda route: late.append((route, route.fetch())))
    page.route("**/playlists/**", hold)
    open_case(live, page, "reviewer", CASE_B)
    click_at(page.locator(".tl-track").first, NOON + timedelta(seconds=2))
    for _ in range(100):
        if late and asked:
            break
        page.wait_for_timeout(50)
    page.get_by_role("button", name="结束播放").click()
    expect(page.locator("#wall")).to_be_hidden()
    page.wait_for_timeout(100)
    assert page.locator("#notice").inner_text() == "", "what was being opened is let go of"
    page.get_by_role("button", name="退出").click()
    expect(page.locator("#door")).to_be_visible()
    route, answer = late[0]
    with page.expect_response("**/items"):
        route.fulfill(response=answer)
    page.wait_for_timeout(100)
    assert answer.ok and page.locator("#items li").count() == 0, "the next to sign in saw another's case"
    micros = 1_772_510_400_999_999.75  # A clock that runs is between two microseconds.
    written = page.evaluate(f"import('/static/common.js').then((shared) => shared.textOf({micros}))")
    assert written == "2026-03-03T04:00:01.000000Z"
    assert page.evaluate(WRITERS) == [1, "12:00:00", "04:00:00"], (
        "one for a zone, or a day's list takes seconds"
    )


def hover(track: Locator, seconds: float) -> None:
    box = track.bounding_box()
    assert box is not None
    track.hover(position={"x": box["width"] * (seconds + 0.5) / 17, "y": box["height"] / 2})


def seconds_shown(page: Page) -> float:
    """The clock of the page, in seconds after noon."""
    written = page.locator("#clock").inner_text()
    return (datetime.fromisoformat(f"{written}+08:00") - NOON).total_seconds()


def expected(seconds: float) -> list[int]:
    """CAM-1 began at noon and CAM-2 a second later; masked footage carries 51,000 and 52,000 on."""
    return [51_000 + int(seconds * 25 + 1e-6), 52_000 + int((seconds - 1) * 25 + 1e-6)]


@pytest.mark.parametrize("role", sorted(SEPARATED_ROLES))
def test_who_sees_no_footage_is_told_what_the_account_is_for_and_why(
    live: Live, page: Page, role: Role
) -> None:
    page.goto(live.api_url)
    page.locator("#sign-in").get_by_label("用户名").fill(role)
    page.locator("#sign-in").get_by_label("口令").fill(PASSWORD)
    page.get_by_role("button", name="登录").click()
    expect(page.get_by_role("heading", name="本账号可做的事")).to_be_visible()
    expect(page.get_by_text("不接触影像:")).to_be_visible()
    expect(page.get_by_label("案件编号")).to_be_hidden()
    acts = live.as_(role).get("/api/v1/me").json()["acts"]
    for _ in ("zh", "en"):
        words, commands = (page.locator(f"#acts {tag}").all_inner_texts() for tag in ("dt", "dd"))
        assert len(words) == len(set(words)) == len(acts) > 0
        assert not any("_" in word for word in words), "in words, not by code"
        assert {word for line in commands for word in re.findall(r"[a-z]+", line)} <= {"liuhen", *COMMANDS}
        assert all(line.startswith("liuhen ") for line in commands)
        page.get_by_role("button", name="中文 / English").click()


def test_a_wrong_password_is_said_in_words(live: Live, page: Page) -> None:
    page.goto(live.api_url)
    page.locator("#sign-in").get_by_label("用户名").fill("reviewer")
    page.locator("#sign-in").get_by_label("口令").fill("wrong wrong wrong")
    page.get_by_role("button", name="登录").click()
    expect(page.get_by_text("用户名或口令不对")).to_be_visible()
    page.get_by_role("button", name="中文 / English").click()
    expect(page.get_by_text("用户名或口令不对")).to_be_hidden()
    page.get_by_role("button", name="中文 / English").click()
    page.get_by_text("机构代码(有多家机构时填写)").click()
    page.locator("#sign-in").get_by_label("机构代码").fill("demo")
    assert (
        page.evaluate("import('/static/words.js').then(({ WORDS }) => WORDS.zh.keyHelp)").count("Page") == 2
    )
    fonts = page.evaluate("getComputedStyle(document.body).fontFamily")
    named = fonts.rpartition("sans-serif")[0]
    for font in ("Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "Microsoft YaHei"):
        assert font in named
    assert "PingFang SC" in named


def test_the_api_page_lists_every_operation(live: Live, page: Page) -> None:
    page.goto(f"{live.api_url}/docs")
    expect(page.get_by_text("GET /api/v1/items/{item_id}/custody")).to_be_visible(timeout=30_000)
    document = live.anyone.get("/api/v1/openapi.json").json()
    expect(page.locator("details")).to_have_count(sum(len(methods) for methods in document["paths"].values()))
