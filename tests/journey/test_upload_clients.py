"""Docks as they are really written: each pauses, the server is killed, each goes on; one item each."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright
from sqlalchemy import func, select

from storage.db import items
from storage.db.tables import Item, Reception
from tests.journey.chromium import ARGUMENTS, browser_path, served
from tests.journey.upload_clients import Aiotus, Drive, InChromium, Target, TusJsInNode, Tuspy, site
from tests.support.cluster import METADATA, Cluster, free_port, running

SIZE = 320_000
PROGRAMS: dict[str, Callable[[Target, Path], Drive]] = {
    "tuspy": Tuspy,
    "aiotus": Aiotus,
    "aiotus in parts": lambda target, path: Aiotus(target, path, parts=3),
    "tus-js-client": TusJsInNode,
    "tus-js-client in parts": lambda target, path: TusJsInNode(target, path, parallelUploads=3),
    "tus-js-client by override": lambda target, path: TusJsInNode(target, path, overridePatchMethod=True),
    "tus-js-client, draft 03": lambda target, path: TusJsInNode(target, path, protocol="ietf-draft-03"),
    "tus-js-client, draft 05": lambda target, path: TusJsInNode(target, path, protocol="ietf-draft-05"),
}
PAGES: dict[str, tuple[str, dict[str, object]]] = {
    "tus-js-client in Chromium": ("tus", {}),
    "tus-js-client in Chromium, in parts": ("tus", {"parallelUploads": 3}),
    "tus-js-client in Chromium, draft 05": ("tus", {"protocol": "ietf-draft-05"}),
    "Uppy in Chromium": ("uppy", {}),
    "Uppy in Chromium, in parts": ("uppy", {"parallelUploads": 3}),
}


@pytest.fixture(scope="module")
def page_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, page_port: int) -> Iterator[Cluster]:
    origins = {"INGEST__CORS_ORIGINS": f'["http://127.0.0.1:{page_port}"]'}
    folder = tmp_path_factory.mktemp("clients")
    with running(folder / "host", "ingest", settings=origins) as found:
        yield found


@pytest.fixture(scope="module")
def by_programs(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What each program handed in, over one kill of the server."""
    paths = files(tmp_path_factory.mktemp("programs"), list(PROGRAMS))
    drives = {name: make(target(cluster, paths[name]), paths[name]) for name, make in PROGRAMS.items()}
    hand_in(cluster, drives)
    return paths


@pytest.fixture(scope="module")
def by_pages(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, page_port: int) -> dict[str, Path]:
    """What each page handed in, over one kill of the server."""
    paths = files(tmp_path_factory.mktemp("pages"), list(PAGES))
    with served(site(list(paths.values())), page_port) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=ARGUMENTS)
        try:
            drives: dict[str, Drive] = {}
            for name, (client, options) in PAGES.items():
                page = browser.new_page()
                page.goto(address)
                page.wait_for_function("window.ready")
                drives[name] = InChromium(page, client, target(cluster, paths[name]), paths[name], **options)
            hand_in(cluster, drives)
        finally:
            browser.close()
    return paths


def files(folder: Path, names: list[str]) -> dict[str, Path]:
    paths = {name: folder / f"{number}.mp4" for number, name in enumerate(names)}
    for path in paths.values():
        path.write_bytes(os.urandom(SIZE))
    return paths


def target(cluster: Cluster, path: Path) -> Target:
    endpoint = f"{cluster.settings.ingest_url}/uploads/"
    return Target(endpoint, cluster.token, {"filename": path.name, **METADATA})


def hand_in(cluster: Cluster, drives: dict[str, Drive]) -> None:
    try:
        for name, drive in drives.items():
            assert SIZE // 2 - SIZE // 8 <= drive.start() < SIZE, name
        cluster.wait_running("ingest", since=cluster.kill("ingest"))
        for drive in drives.values():
            drive.resume()
    finally:
        for drive in drives.values():
            drive.close()


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_goes_on_after_the_server_was_killed(
    cluster: Cluster, by_programs: dict[str, Path], name: str
) -> None:
    assert_one_item(cluster, by_programs[name])


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_page_goes_on_after_the_server_was_killed(
    cluster: Cluster, by_pages: dict[str, Path], name: str
) -> None:
    assert_one_item(cluster, by_pages[name])


def assert_one_item(cluster: Cluster, path: Path) -> None:
    with cluster.storage.database.read() as session:
        agency = cluster.agency()
        held = items.object_by_digest(session, agency.id, hashlib.sha256(path.read_bytes()).digest())
        assert held is not None
        assert held.size_bytes == SIZE
        (item,) = session.scalars(select(Item).where(Item.agency_id == agency.id, Item.object_id == held.id))
        assert item.original_name == path.name
        mine = select(func.count()).where(Reception.agency_id == agency.id, Reception.item_id == item.id)
        assert session.scalar(mine) == 1
