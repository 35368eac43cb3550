"""Uploads whose size is told later, and files that come in parts over several lines."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from tests.integration.tus_server import AUTH, LIMITS, OCTETS, OTHER_AUTH, Running, path_of, running

FOOTAGE = os.urandom(300_000)
CUTS = ((0, 100_000), (100_000, 250_000), (250_000, 300_000))
DEFER = {"Upload-Defer-Length": "1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = replace(LIMITS, max_open_uploads=1000, max_upload_bytes=1 << 30)
    with running(tmp_path_factory.mktemp("parts"), limits=limits) as run:
        yield run


def problem(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["code"]


def create(server: Running, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with server.client() as client:
        return client.post("/uploads/", headers={**AUTH, **named})


def part(server: Running, data: bytes, headers: dict[str, str] = AUTH) -> str:
    """A whole part's path."""
    location = server.create(len(data), headers, Upload_Concat="partial")
    assert server.patch(location, 0, data, headers).status_code == 204
    return location


def join(server: Running, locations: list[str], **headers: str) -> httpx.Response:
    return create(server, Upload_Concat="final;" + " ".join(locations), **headers)


def digest(data: bytes) -> str:
    return f"sha-256={hashlib.sha256(data).hexdigest()}"


# -- creation-defer-length ---------------------------------------------------------------------


def test_size_told_with_the_last_bytes_makes_the_item(server: Running) -> None:
    location = path_of(create(server, **DEFER))
    head = server.head(location)
    assert (head.headers["upload-defer-length"], head.headers["upload-offset"]) == ("1", "0")
    assert "upload-length" not in head.headers
    assert server.patch(location, 0, FOOTAGE[:1000]).headers["upload-offset"] == "1000"
    last = server.patch(location, 1000, FOOTAGE[1000:], Upload_Length=str(len(FOOTAGE)))
    assert last.headers["liuhen-digest"] == digest(FOOTAGE)
    head = server.head(location)
    assert head.headers["upload-length"] == str(len(FOOTAGE))
    assert "upload-defer-length" not in head.headers


def test_size_told_after_the_last_byte_makes_the_item(server: Running) -> None:
    location = path_of(create(server, **DEFER))
    server.patch(location, 0, b"footage")
    assert "liuhen-item" in server.patch(location, 7, b"", Upload_Length="7").headers


def test_size_told_by_post_with_an_override_counts_too(server: Running) -> None:
    with server.client() as client:
        made = client.post("/uploads/", headers={**AUTH, **OCTETS, **DEFER}, content=b"foot")
        assert made.headers["upload-offset"] == "4"
        said = {"Upload-Offset": "4", "Upload-Length": "7", "X-HTTP-Method-Override": "PATCH"}
        last = client.post(made.headers["location"], headers={**AUTH, **OCTETS, **said}, content=b"age")
    assert last.headers["liuhen-digest"] == digest(b"footage")


def test_size_is_told_once_and_not_below_what_came(server: Running) -> None:
    location = path_of(create(server, **DEFER))
    server.patch(location, 0, b"0123456789")
    assert problem(server.patch(location, 10, b"", Upload_Length="9")) == (400, "upload_length_changed")
    too_large = server.patch(location, 10, b"", Upload_Length=str((1 << 30) + 1))
    assert problem(too_large) == (413, "upload_too_large")
    beyond = server.patch(location, 10, b"x" * 11, Upload_Length="20")
    assert problem(beyond) == (413, "body_too_long")
    assert server.head(location).headers["upload-defer-length"] == "1"
    assert server.patch(location, 10, b"x", Upload_Length="20").headers["upload-offset"] == "11"
    assert server.patch(location, 11, b"x", Upload_Length="20").status_code == 204
    assert problem(server.patch(location, 12, b"x", Upload_Length="21")) == (400, "upload_length_changed")


def test_size_told_is_known_after_a_restart(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        told, untold = (path_of(create(first, **DEFER)) for _ in range(2))
        first.patch(told, 0, b"0123", Upload_Length="8")
        first.patch(untold, 0, b"0123")
    with running(tmp_path) as second:
        assert second.head(told).headers["upload-length"] == "8"
        assert second.head(untold).headers["upload-defer-length"] == "1"
        assert second.head(untold).headers["upload-offset"] == "4"
        assert "liuhen-item" in second.patch(told, 4, b"4567").headers
        assert "liuhen-item" in second.patch(untold, 4, b"4567", Upload_Length="8").headers


@pytest.mark.parametrize("tail", [bytes(4096), b"x"], ids=["zeros", "bytes"])
def test_tail_of_an_unclean_boot_is_cut_off_where_no_size_is_known(tmp_path: Path, tail: bytes) -> None:
    with running(tmp_path, boot=UUID(int=1)) as server:
        location = path_of(create(server, **DEFER))
        server.patch(location, 0, b"0123")
    with server.part(location).open("ab") as file:
        file.write(tail)
    with running(tmp_path, boot=UUID(int=2)) as server:
        assert server.head(location).headers["upload-offset"] == "4"
        last = server.patch(location, 4, b"4567", Upload_Length="8")
        assert last.headers["liuhen-digest"] == digest(b"01234567")


def test_upload_without_a_size_is_bounded_by_the_largest_file(tmp_path: Path) -> None:
    with running(tmp_path, limits=replace(LIMITS, max_upload_bytes=1000)) as server:
        location = path_of(create(server, **DEFER))
        assert problem(server.patch(location, 0, bytes(1001))) == (413, "body_too_long")
        with server.client() as client:
            headers = {**AUTH, **OCTETS, "Upload-Offset": "0"}
            endless = client.patch(location, headers=headers, content=iter([bytes(600)] * 2))
        assert problem(endless) == (413, "body_too_long")
        assert server.part(location).stat().st_size == 1000


# -- concatenation -----------------------------------------------------------------------------


def test_parts_sent_at_once_become_one_item(server: Running) -> None:
    before = len(server.register.items())
    locations = [""] * len(CUTS)

    def send(number: int) -> None:
        start, end = CUTS[number]
        locations[number] = part(server, FOOTAGE[start:end])

    senders = [threading.Thread(target=send, args=(number,)) for number in range(len(CUTS))]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    name = base64.b64encode("城管.mp4".encode()).decode()
    reply = join(server, locations, Upload_Metadata=f"filename {name}")
    assert reply.status_code == 201
    assert reply.headers["liuhen-digest"] == digest(FOOTAGE)
    assert reply.headers["upload-offset"] == str(len(FOOTAGE))
    final = reply.headers["location"]
    head = server.head(final)
    assert head.headers["upload-concat"] == "final;" + " ".join(server.url + path for path in locations)
    assert head.headers["upload-length"] == head.headers["upload-offset"] == str(len(FOOTAGE))
    items = server.register.items()
    assert len(items) == before + 1
    item = next(item for item in items if item["item_id"] == reply.headers["liuhen-item"])
    assert server.objects.path(item["key"]).read_bytes() == FOOTAGE
    assert server.register.finished[-1].staged().original_name_raw == "城管.mp4".encode()
    assert not any(server.part(location).exists() for location in [*locations, final])


def test_part_alone_is_no_item_and_says_what_it_is(server: Running) -> None:
    before = len(server.register.items())
    location = part(server, b"part")
    head = server.head(location)
    assert (head.headers["upload-concat"], head.headers["upload-offset"]) == ("partial", "4")
    assert "liuhen-item" not in head.headers
    assert "upload-expires" in head.headers
    assert len(server.register.items()) == before
    with server.client() as client:
        assert client.delete(location, headers=AUTH).status_code == 204
    assert server.head(location).status_code == 404


def test_lost_answer_of_a_final_upload_is_given_again(server: Running) -> None:
    before = len(server.register.items())
    locations = [part(server, b"one"), part(server, b"two")]
    first, second = join(server, locations), join(server, locations)
    assert first.headers["location"] == second.headers["location"]
    assert first.headers["liuhen-item"] == second.headers["liuhen-item"]
    # Before it asks again a client looks whether its parts are there.
    assert server.head(locations[0]).headers["upload-offset"] == "3"
    assert server.patch(locations[1], 3, b"").status_code == 204
    assert len(server.register.items()) == before + 1


def test_same_final_asked_for_by_many_at_once_is_one_item(server: Running) -> None:
    before = len(server.register.items())
    locations = [part(server, FOOTAGE[:70_000]), part(server, FOOTAGE[70_000:])]
    replies: list[httpx.Response] = []
    askers = [threading.Thread(target=lambda: replies.append(join(server, locations))) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert {reply.status_code for reply in replies} == {201}
    assert len({reply.headers["location"] for reply in replies}) == 1
    assert {reply.headers["liuhen-digest"] for reply in replies} == {digest(FOOTAGE)}
    assert len(server.register.items()) == before + 1


def test_part_belongs_to_one_final_upload(server: Running) -> None:
    one, two, three = (part(server, data) for data in (b"one", b"two", b"three"))
    join(server, [one, two])
    for locations in ([two, three], [two, one], [one], [three, one]):
        assert problem(join(server, locations)) == (409, "part_taken")
    with server.client() as client:
        assert problem(client.delete(one, headers=AUTH)) == (409, "part_taken")
    assert join(server, [three]).headers["liuhen-digest"] == digest(b"three")


def test_final_upload_of_wrong_parts_is_refused_and_takes_none(server: Running) -> None:
    whole, other = part(server, b"whole"), part(server, b"other", OTHER_AUTH)
    unfinished = server.create(10, Upload_Concat="partial")
    server.patch(unfinished, 0, b"01234")
    plain = server.create(3)
    missing = whole[:-4] + "AAAA"
    for locations, expected in (
        ([whole, missing], (400, "part_unknown")),
        ([whole, other], (400, "part_unknown")),
        ([whole, "http://elsewhere.example/uploads/x"], (400, "part_unknown")),
        ([whole, unfinished], (409, "part_unfinished")),
        ([whole, whole], (400, "part_repeated")),
        ([whole, plain], (400, "part_not_partial")),
        ([whole, "/etc/passwd"], (400, "bad_concat")),
        ([whole, whole.replace("/h0.", "/h9.")], (503, "upload_elsewhere")),
        ([], (400, "bad_concat")),
    ):
        assert problem(join(server, locations)) == expected, locations
    assert problem(join(server, [whole], Upload_Length="5")) == (400, "bad_concat")
    assert problem(join(server, [whole], Upload_Metadata="filename ###")) == (400, "bad_metadata")
    assert join(server, [whole]).headers["liuhen-digest"] == digest(b"whole")


def test_final_upload_takes_no_bytes_and_stays(server: Running) -> None:
    final = join(server, [part(server, b"one")]).headers["location"]
    assert problem(server.patch(final, 3, b"more")) == (403, "final_upload")
    assert problem(server.patch(final, 3, b"")) == (403, "final_upload")
    with server.client() as client:
        assert problem(client.delete(final, headers=AUTH)) == (409, "upload_whole")
        draft = {**AUTH, "Upload-Draft-Interop-Version": "5", "Upload-Offset": "3", "Upload-Complete": "?1"}
        del draft["Tus-Resumable"]
        assert problem(client.patch(final, headers=draft, content=b"more")) == (403, "final_upload")
        with_body = {**AUTH, **OCTETS, "Upload-Concat": f"final;{final}"}
        assert problem(client.post("/uploads/", headers=with_body, content=b"x")) == (400, "bad_concat")


def test_empty_parts_are_parts(server: Running) -> None:
    locations = [server.create(0, Upload_Concat="partial"), part(server, b"x")]
    locations.append(server.create(0, Upload_Concat="partial"))
    assert join(server, locations).headers["liuhen-digest"] == digest(b"x")
    nothing = join(server, [server.create(0, Upload_Concat="partial")])
    assert nothing.headers["liuhen-digest"] == digest(b"")


def test_part_whose_size_is_told_later_can_be_joined(server: Running) -> None:
    location = path_of(create(server, Upload_Concat="partial", **DEFER))
    server.patch(location, 0, b"late", Upload_Length="4")
    assert join(server, [location]).headers["liuhen-digest"] == digest(b"late")


def test_final_upload_that_would_not_fit_is_refused_before_it_is_made(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        locations = [part(server, b"0123"), part(server, b"4567")]
        server.store.limits = replace(LIMITS, floor_bytes=1 << 60)
        assert problem(join(server, locations)) == (507, "disk_full")
        server.store.limits = replace(LIMITS, max_upload_bytes=7)
        assert problem(join(server, locations)) == (413, "upload_too_large")
        server.store.limits = LIMITS
        assert join(server, locations).headers["liuhen-digest"] == digest(b"01234567")


def test_part_that_rotted_on_disk_is_never_joined(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        locations = [part(server, b"sound"), part(server, b"rotten")]
        server.part(locations[1]).write_bytes(b"r0tten")
        reply = join(server, locations)
        # The final upload is there, since nothing may be joined twice; its bytes are not.
        assert reply.status_code == 201
        assert "liuhen-item" not in reply.headers
        assert "upload-offset" not in server.head(reply.headers["location"]).headers
        assert server.part(locations[0]).read_bytes() == b"sound"
        assert server.part(reply.headers["location"]).read_bytes() == b"sound"
        assert server.register.items() == []
        server.part(locations[1]).write_bytes(b"rotten")
        again = join(server, locations)
    assert again.headers["liuhen-digest"] == digest(b"soundrotten")
