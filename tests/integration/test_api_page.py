"""The page in a real browser: sign in, find a case, watch what is masked; nothing comes from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from cli.main import COMMANDS
from evidence.kinds import SEPARATED_ROLES, Role
from tests.journey.chromium import ARGUMENTS, browser_path
from tests.support.scene import CASE_A, PASSWORD, Live, live_scene

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("page")) as live:
        live.scene.record(case=live.scene.case_a)
        live.scene.record(seed=2, case=live.scene.case_a, redacted=False)
        yield live


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=ARGUMENTS)
        page = browser.new_page(locale="zh-CN")
        page.set_default_timeout(20_000)
        yield page
        browser.close()


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
    page.on("request", lambda request: origins.add("{0.scheme}://{0.netloc}".format(urlsplit(request.url))))
    page.on(
        "console",
        lambda message: (
            complaints.append(f"{message.text} {message.location}") if message.type == "error" else None
        ),
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
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
    expect(cards.first).to_contain_text("demo-LX-2026-0001")
    expect(cards.first).to_contain_text("已脱敏")
    expect(cards.first).to_contain_text("缺项")
    expect(cards.first).to_contain_text(re.compile(r"2026-\d\d-\d\d \d\d:\d\d:\d\d \+08:00"))
    expect(cards.first.locator("img")).to_have_js_property("naturalWidth", 32)
    cards.first.get_by_role("button", name="观看脱敏件").click()
    expect(page.get_by_text("已处理:人脸;未处理:车牌、文字、语音")).to_be_visible()
    until(page, "document.getElementById('video').readyState >= 2")
    assert page.evaluate("document.getElementById('video').videoWidth") == 320
    page.evaluate("document.getElementById('video').play()")
    until(page, "document.getElementById('video').currentTime > 0.5")
    page.get_by_role("button", name="关闭").click()
    cards.nth(1).get_by_role("button", name="观看脱敏件").click()
    expect(page.get_by_text("正在脱敏,完成后即可观看")).to_be_visible()
    page.get_by_role("button", name="中文 / English").click()
    expect(page.get_by_role("button", name="Find")).to_be_visible()
    assert {origin for origin in origins if not origin.startswith("blob")} <= {live.api_url, live.media_url}
    assert complaints == []


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
