"""Ask every route of the application, with everything that may be known without a right."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.routing import Route

from evidence.ids import new_id
from tests.integration.leak_world import OTHERS, WHOLE, WINDOW, World
from tests.support.leaks import Answer
from tests.support.scene import CASE_A, CASE_B, PASSWORD

ADDRESS = re.compile(r'(?:https?://[^"\s<>{}]+/m/|/api/v1/playlists/|/api/v1/items/)[^"\s<>#{}]+')
EVENTS, SIGN_OUT = "/api/v1/events", "/api/v1/sessions/current"
MOST_FOLLOWED = 80
HEARD_S = 0.2
AWAITING = {"purpose": "supervision", "variant": "awaiting", "reason": "x"}
UNKNOWN = "00000000-0000-7000-8000-000000000000"
ECHOED = '"><script>/objects/../original</script>'
CLIP = {"case_no": CASE_A, "purpose": "supervision", "reason": "x"}
ALIGNED: dict[str, Any] = {**WINDOW, "purpose": "supervision"}
BODIES: Mapping[str, list[dict[str, Any]]] = {
    "/api/v1/items/{item_id}/grants": [
        {"purpose": "supervision"}, WHOLE, AWAITING, {**WHOLE, "reason": None}, {**WHOLE, "variant": ECHOED},
        {**WHOLE, "span": {"from_us": 0, "to_us": 500_000}},
    ],
    "/api/v1/items/{item_id}/recording/grants": [{"purpose": "supervision"}, WHOLE],
    "/api/v1/cases/{case_id}/aligned": [ALIGNED, {**ALIGNED, "variant": "original", "reason": "x"}],
    "/api/v1/clips": [
        {**CLIP, "variant": variant, **form}
        for variant in ("redacted", "original", "awaiting")
        for form in ({"form": "watch"}, {"form": "file"}, {"form": "picture", "frame": 0})
    ],
    "/api/v1/clip-sets": [
        {**CLIP, **WINDOW, "variant": variant, **layout}
        for variant in ("redacted", "original")
        for layout in ({}, {"layout": "side_by_side"})
    ],
    "/api/v1/items/{item_id}/redaction/plans": [
        {"base_number": 2, "changes": [{"op": "mask_frames", "from_pts": 0, "to_pts": 9, "reason": "minor"}],
         "note": ECHOED},
    ],
    "/api/v1/items/{item_id}/redaction/plans/{number}/preview": [{"grant_id": UNKNOWN, "at_us": 0}],
    "/api/v1/items/{item_id}/redaction/approve": [{"number": 2}],
    "/api/v1/items/{item_id}/bindings": [{"case_no": CASE_B, "reason": "x"}],
    "/api/v1/items/{item_id}/facts": [{"case_no": CASE_B}, {"captured_place": ECHOED}],
}  # fmt: skip


def routes_of(app: FastAPI) -> set[tuple[str, str]]:
    """Method and path of every route there is, also of those no document lists."""
    return {
        (method, route.path)
        for route in _walked(app.routes)
        for method in route.methods or ()
        if method != "HEAD"
    }


def _walked(routes: Sequence[Any]) -> Iterator[Route]:
    """What lies in a router that was included, too; what is neither must be looked at by a person."""
    for route in routes:
        if isinstance(route, Route):
            yield route
        else:
            yield from _walked(route.original_router.routes)


def addresses_in(text: str) -> list[str]:
    """Every address an answer names, once."""
    return list(dict.fromkeys(ADDRESS.findall(text)))


class Asking:
    """One round of questions by one person."""

    def __init__(self, world: World, app: FastAPI) -> None:
        self._world = world
        self._document = app.openapi()
        self._routes = sorted(routes_of(app), key=lambda each: (each[0] != "GET", each))
        self.asked: set[tuple[str, str]] = set()

    def everything(self, name: str, client: httpx.Client) -> Iterator[Answer]:
        """What every route answers, and every address in those answers."""
        named: dict[str, None] = {}
        for method, path in self._routes:
            for answer in self._of_route(name, client, method, path):
                assert answer.status < 500, (answer.where, answer.body)
                if b"/m/" in answer.body or b"/playlists/" in answer.body:
                    named |= dict.fromkeys(addresses_in(answer.body.decode(errors="replace")))
                yield replace(answer, route=f"{method} {path}")
            self.asked.add((method, path))
        for url in list(named)[:MOST_FOLLOWED]:
            answer = client.get(url)
            yield _said(f"{name} GET {url}", answer)
            for deeper in addresses_in(answer.text)[:2] if "/playlists/" in url else []:
                yield _said(f"{name} GET {deeper}", client.get(deeper))

    def _of_route(self, name: str, client: httpx.Client, method: str, path: str) -> Iterator[Answer]:
        if path == EVENTS:
            yield self._news(name, client)
            return
        operation = self._document["paths"].get(path, {}).get(method.lower(), {})
        for url in self._urls(path, method):
            for body in self._bodies(path, operation):
                if path == SIGN_OUT and method == "DELETE":
                    yield _said(f"{name} {method} {url}", self._sign_out(name))
                    continue
                params = self._queries(operation) | ({"case_no": CASE_A} if path == "/api/v1/clips" else {})
                sent = None if method == "GET" else body
                answer = client.request(method, url, json=sent, params=params if method == "GET" else None)
                yield _said(f"{name} {method} {url} {sent}", answer)
                is_file = not answer.headers.get("content-type", "").startswith("application/json")
                if method == "GET" and answer.is_success and is_file:
                    more = {"Range": "bytes=0-999", "If-Range": '"x"', "If-None-Match": "*"}
                    yield _said(
                        f"{name} {method} {url} by range", client.get(url, params=params, headers=more)
                    )

    def _news(self, name: str, client: httpx.Client) -> Answer:
        """As much as comes in a moment; without the right a refusal."""
        heard = b""
        with client.stream("GET", EVENTS, timeout=httpx.Timeout(20, read=HEARD_S)) as stream:
            try:
                for piece in stream.iter_bytes():
                    heard += piece
            except httpx.ReadTimeout:
                assert stream.status_code == 200
        return Answer(f"{name} GET {EVENTS}", stream.status_code, dict(stream.headers), heard)

    def _sign_out(self, name: str) -> httpx.Response:
        """Of a session of its own."""
        anyone = self._world.live.anyone
        if name not in OTHERS:
            return anyone.delete(SIGN_OUT)
        said = {"agency": "demo", "username": name, "password": PASSWORD}
        token = anyone.post("/api/v1/sessions", json=said).json()["token"]
        return anyone.delete(SIGN_OUT, headers={"Authorization": f"Bearer {token}"})

    def _urls(self, path: str, method: str) -> list[str]:
        values = self._values(path, method)
        wanted = re.findall(r"\{(\w+)(?::\w+)?\}", path)
        count = max((len(values.get(each, [0])) for each in wanted), default=1)
        return [
            re.sub(r"\{(\w+)(?::\w+)?\}", lambda match, n=number: _pick(values, match[1], n), path)
            for number in range(count)
        ]

    def _values(self, path: str, method: str) -> dict[str, list[str]]:
        """What is known of everything there is, and of one's own; nobody ends what is needed later."""
        world = self._world
        held, taken = world.held, world.taken
        own = [] if method == "DELETE" else [taken]
        both = [held, *own]
        playing = [url.split("/")[4] for url in (taken["masked"]["playlist_url"], *_lanes(taken["aligned"]))]
        names = (
            ["redacted", "copy", "360p"] if "playlists" in path else ["common.js", "..%2fapp.py", "original"]
        )
        main, other = str(world.items["mp4"]), str(world.items["avi"])
        return {
            "": [main],
            "item_id": [main, other],
            "number": ["1", "2"],
            "grant_id": [held["original"]["grant_id"], held["awaiting"]["grant_id"], *(
                each["masked"]["grant_id"] for each in own
            )],
            "clip_id": [each[key]["clip_id"] for each in both for key in ("clip", "picture")],
            "set_id": [each[key]["set_id"] for each in both
                       for key in (("aligned",) if "grant-sets" in path else ("set", "composite"))
                       if key in each],
            "case_id": [str(world.live.scene.case_a.id), str(world.live.scene.case_b.id)],
            "token": [*playing, held["original"]["playlist_url"].split("/")[4][::-1], "A" * 106],
            "name": names,
            "lane": ["0", "1"],
            "action": ["start"],
            "account_id": [str(new_id())],
        }  # fmt: skip

    def _bodies(self, path: str, operation: Mapping[str, Any]) -> list[Any]:
        if path in BODIES:
            return list(BODIES[path])
        content = operation.get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema")
        return [None] if schema is None else [self._fitting(schema), {"x": ECHOED}]

    def _queries(self, operation: Mapping[str, Any]) -> dict[str, Any]:
        return {
            each["name"]: self._fitting(each["schema"])
            for each in operation.get("parameters", [])
            if each["in"] == "query" and each.get("required")
        }

    def _fitting(self, schema: Mapping[str, Any]) -> Any:
        """Something that fits a schema, as small as it may be; what is named is what there is."""
        if "$ref" in schema:
            return self._fitting(self._document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]])
        for ways in ("anyOf", "oneOf", "allOf"):
            if ways in schema:
                return self._fitting(schema[ways][0])
        for told in ("const", "default"):
            if told in schema:
                return schema[told]
        listed = schema.get("examples") or schema.get("enum")
        if listed:
            return listed[0]
        kind = schema.get("type")
        if kind == "object":
            return {
                key: str(self._world.items["mp4"]) if key == "item_id" else self._fitting(part)
                for key, part in schema.get("properties", {}).items()
                if key in schema.get("required", ())
            }
        if kind == "array":
            return [self._fitting(schema["items"])] * schema.get("minItems", 0)
        if kind in {"integer", "number"}:
            return schema.get("minimum", 1)
        formats = {
            "uuid": str(self._world.items["mp4"]),
            "date-time": WINDOW["from_at"],
            "date": "2026-03-01",
        }
        if kind == "string":
            return formats.get(schema.get("format", ""), "x" * max(1, schema.get("minLength", 1)))
        return kind == "boolean" or None


def _pick(values: Mapping[str, list[str]], name: str, number: int) -> str:
    held = values.get(name) or values[""]
    return held[number % len(held)]


def _lanes(aligned: Mapping[str, Any]) -> list[str]:
    return [each["playlist_url"] for each in aligned["sources"] if each["playlist_url"]][:1]


def _said(where: str, answer: httpx.Response) -> Answer:
    return Answer(where, answer.status_code, dict(answer.headers), answer.content, "/m/" in str(answer.url))
