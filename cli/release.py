"""`liuhen release`: what is redacted, reviewed and released to others, through the API as an account."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from cli.fetching import download, require_free, sheets_beside, sheets_of, wait_made
from cli.options import Branch, Run, read_id, read_media_time
from cli.progress import Meter
from cli.seat import Json, Seat, add_seat, seated
from cli.shell import Parser, add_json, print_json, print_table
from evidence.errors import InvalidInput
from evidence.kinds import RetrievalPurpose
from evidence.release import ReleaseState

STATES = {
    ReleaseState.WAITING: "待审批 waiting",
    ReleaseState.RELEASED: "已发布 released",
    ReleaseState.REFUSED: "不予发布 refused",
    ReleaseState.REVOKED: "已撤回 revoked",
    ReleaseState.SUPERSEDED: "已被新版本取代 superseded",
    ReleaseState.EXPIRED: "已到期 expired",
}
DOUBTS = ("风险 risk s", "件 item", "起 from s", "止 to s", "类 class", "面积 area", "缘由 why")
RELEASES = ("编号 id", "状态 state", "件 item", "版本 plan", "给 to", "下一步 next", "到期 expires")


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    queue = _action(branch, "queue", "存疑时段,按风险由高到低 / doubtful spans, the gravest first", _queue)
    queue.add_argument("--item", metavar="ITEM", help="仅此件 / of one item")
    queue.add_argument("--most", type=int, default=50, metavar="N", help="至多几段 / at most so many")
    reviews = _action(
        branch, "reviews", "谁看过哪些、尚缺什么 / who watched what, and what is missing", _reviews
    )
    _item(reviews)
    watched = _action(branch, "watched", "报告已观看的时段 / report what was watched", _watched)
    _item(watched)
    watched.add_argument("grant_id", metavar="GRANT", help="本人授权 / own grant of the masked rendition")
    watched.add_argument("spans", nargs="*", metavar="FROM-TO", help="片内时段,如 0:10-1:30 / spans of it")
    signing = _action(branch, "review", "声明已复核 / say that you reviewed a version", _review)
    _item(signing)
    _number(signing)
    signing.add_argument("--note", metavar="TEXT", help="说明 / note")
    check = _action(branch, "check", "未通过的检验 / what a check that failed found", _check)
    _item(check)
    _number(check)
    override = _action(branch, "override", "放行未通过的检验 / let a version pass all the same", _override)
    _item(override)
    _number(override)
    _reason(override)
    asking = _action(branch, "ask", "申请发布 / ask for a release", _ask)
    _item(asking)
    _number(asking)
    to = asking.add_mutually_exclusive_group(required=True)
    to.add_argument("--role", metavar="ROLE", help="给某角色 / to a role")
    to.add_argument("--account", metavar="ID", help="给某人,账号编号 / to a person, id of the account")
    to.add_argument("--party", metavar="NAME", help="给机关以外 / to a party outside")
    asking.add_argument("--case", metavar="ID", help="案件编号(id),对机关以外必填 / id of the case")
    asking.add_argument(
        "--purpose",
        required=True,
        choices=[str(purpose) for purpose in RetrievalPurpose],
        help="目的 / what it is for",
    )
    asking.add_argument("--until", metavar="TIME", help="到期,含时区 / end, with a zone")
    _reason(asking)
    listing = _action(branch, "list", "发布列表 / releases", _list)
    listing.add_argument("--item", metavar="ITEM", help="仅此件 / of one item")
    listing.add_argument("--waiting", action="store_true", help="仅待审批 / only those with an open step")
    _release(_action(branch, "show", "一项发布 / a release", _show))
    approving = _action(branch, "approve", "审批下一步 / take the open step", _approve)
    _release(approving)
    approving.add_argument("--note", metavar="TEXT", help="说明 / note")
    for name, text in (("refuse", "不予发布 / refuse"), ("revoke", "撤回,立即生效 / take back, at once")):
        ending = _action(branch, name, text, _end)
        ending.set_defaults(ending=name)
        _release(ending)
        _reason(ending)
    copying = _action(branch, "copy", "为机关以外取件,附随附单 / a copy for the party, with its sheet", _copy)
    _release(copying)
    copying.add_argument("--from", dest="start", metavar="TIME", help="起(片内)/ from, in the recording")
    copying.add_argument("--to", dest="end", metavar="TIME", help="止(片内)/ to, in the recording")
    whither = copying.add_mutually_exclusive_group(required=True)
    whither.add_argument("-o", dest="file", type=Path, metavar="FILE", help="存为 / where to")
    whither.add_argument(
        "--link",
        action="store_true",
        help="只给出地址,供交给对方,随发布终止 / its address alone, to hand on; it ends with the release",
    )


def _action(branch: Branch, name: str, text: str, run: Run) -> Parser:
    parser = branch.add(name, text, run, common=False)
    add_json(parser)
    add_seat(parser)
    return parser


def _item(parser: Parser) -> None:
    parser.add_argument("item_id", metavar="ITEM", help="音像编号 / id of the item")


def _number(parser: Parser) -> None:
    parser.add_argument("number", type=int, metavar="NUMBER", help="方案版本 / version of the plan")


def _release(parser: Parser) -> None:
    parser.add_argument("release_id", metavar="RELEASE", help="发布编号 / id of the release")


def _reason(parser: Parser) -> None:
    parser.add_argument("--reason", required=True, metavar="TEXT", help="理由 / why")


def _path(options: argparse.Namespace, rest: str) -> str:
    return f"/items/{read_id(options.item_id, 'item')}{rest}"


def _of(options: argparse.Namespace, rest: str = "") -> str:
    return f"/releases/{read_id(options.release_id, 'release')}{rest}"


def _queue(options: argparse.Namespace) -> int:
    of_item = {"item_id": str(read_id(options.item, "item"))} if options.item else {}
    found: list[Json] = []
    with seated(options) as seat:
        cursor: Json = {}
        while len(found) < options.most:
            page = seat.get(
                "/redaction/doubts", limit=min(200, options.most - len(found)), **of_item, **cursor
            )
            found += page["items"]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
    if options.json:
        print_json(found)
        return 0
    rows = [
        (
            f"{row['risk_us'] / 1e6:.3f}",
            row["item_id"],
            *(f"{at / 1e6:.3f}" for at in row["span_us"]),
            row["track_class"] or "整帧或整段 whole",
            f"{row['area_permille'] / 10:.1f}%",
            row["why"],
        )
        for row in found
    ]
    print_table(DOUBTS, rows)
    return 0


def _reviews(options: argparse.Namespace) -> int:
    with seated(options) as seat:
        return _tell_review(options, seat.get(_path(options, "/redaction/reviews")))


def _watched(options: argparse.Namespace) -> int:
    spans = [_span(text) for text in options.spans]
    body = {"grant_id": str(read_id(options.grant_id, "grant")), "spans": spans}
    with seated(options) as seat:
        return _tell_review(options, seat.post(_path(options, "/redaction/watched"), body))


def _span(text: str) -> Json:
    start, is_there, end = text.partition("-")
    if not is_there:
        raise InvalidInput(f"span: expected FROM-TO such as 0:10-1:30, found {text[:40]!r}")
    return {"from_us": read_media_time(start, "FROM"), "to_us": read_media_time(end, "TO")}


def _review(options: argparse.Namespace) -> int:
    body = {"number": options.number, "note": options.note}
    with seated(options) as seat:
        return _tell_review(options, seat.post(_path(options, "/redaction/reviews"), body))


def _tell_review(options: argparse.Namespace, told: Json) -> int:
    if options.json:
        print_json(told)
        return 0
    print(f"版本 / version:  {told['number']}  {told['coverage']['zh']} / {told['coverage']['en']}")
    for person in told["people"]:
        signed = person["signed_at"] or "未声明 / not signed"
        print(f"复核 / review:  {person['by']}  {person['watched_us'] / 1e6:.3f} s  {signed}")
    for start, end in told["unwatched"]:
        print(f"已声明复核者均未观看 / watched by nobody who signed:  {start / 1e6:.3f} – {end / 1e6:.3f} s")
    for lack in told["lacks_for_party"]:
        is_within = lack in told["lacks"]
        whom = "发布 / to release" if is_within else "对机关以外 / to a party"
        print(f"尚缺 / missing {whom}:  {lack['message']} [{lack['code']}]")
    return 0


def _check(options: argparse.Namespace) -> int:
    with seated(options) as seat:
        print_json(seat.get(_path(options, f"/redaction/plans/{options.number}/check")))
    return 0


def _override(options: argparse.Namespace) -> int:
    path = _path(options, f"/redaction/plans/{options.number}/override")
    with seated(options) as seat:
        told = seat.post(path, {"reason": options.reason})
    if options.json:
        print_json(told)
        return 0
    print(f"已放行,将重新渲染 / let pass, rendered anew:  {told['number']}  {', '.join(told['codes'])}")
    return 0


def _ask(options: argparse.Namespace) -> int:
    to = "role" if options.role else "person" if options.account else "party"
    body: Json = {"number": options.number, "to": to, "purpose": options.purpose, "reason": options.reason}
    body |= {
        name: value
        for name, value in (
            ("role", options.role),
            ("account_id", options.account),
            ("party", options.party),
            ("case_id", options.case),
            ("expires_at", options.until),
        )
        if value
    }
    with seated(options) as seat:
        return _tell(options, seat.post(_path(options, "/releases"), body))


def _list(options: argparse.Namespace) -> int:
    with seated(options) as seat:
        if options.item:
            found = seat.get(f"/items/{read_id(options.item, 'item')}/releases")
            found = [row for row in found if not options.waiting or row["state"] == ReleaseState.WAITING]
        else:
            found = seat.pages("/releases", waiting="true" if options.waiting else "false")
    if options.json:
        print_json(found)
        return 0
    print_table(RELEASES, [_row(each) for each in found])
    return 0


def _row(told: Json) -> tuple[Any, ...]:
    to = told["party"] or told["role"] or told["account_id"]
    state = STATES[ReleaseState(told["state"])]
    return told["id"], state, told["item_id"], told["plan_number"], to, told["next_role"], told["expires_at"]


def _show(options: argparse.Namespace) -> int:
    with seated(options) as seat:
        print_json(seat.get(_of(options)))
    return 0


def _approve(options: argparse.Namespace) -> int:
    with seated(options) as seat:
        return _tell(options, seat.post(_of(options, "/approve"), {"note": options.note}))


def _end(options: argparse.Namespace) -> int:
    with seated(options) as seat:
        return _tell(options, seat.post(_of(options, f"/{options.ending}"), {"reason": options.reason}))


def _tell(options: argparse.Namespace, told: Json) -> int:
    if options.json:
        print_json(told)
        return 0
    steps = f"{len(told['approvals'])}/{len(told['chain'])}"
    following = f",下一步 / next: {told['next_role']}" if told["next_role"] else ""
    print(f"发布 / release:  {told['id']}  {STATES[ReleaseState(told['state'])]}  {steps}{following}")
    print(f"覆盖 / coverage:  {told['coverage']['zh']} / {told['coverage']['en']}")
    return 0


def _copy(options: argparse.Namespace) -> int:
    if options.file is not None:
        require_free(options.file, *sheets_beside(options.file))
    if (options.start is None) != (options.end is None):
        raise InvalidInput("--from: expected --from and --to together, found one of them")
    body: Json = {}
    if options.start is not None:
        start, end = read_media_time(options.start, "--from"), read_media_time(options.end, "--to")
        body["span"] = {"from_us": start, "to_us": end}
    with seated(options) as seat:
        made = _made(seat, options, body)
        if options.link:
            return _tell_link(options, made)
        sheets = sheets_of(seat, f"/clips/{made['clip_id']}", options.file)
        with Meter("下载 / fetching", made["size_bytes"]) as meter:
            download(seat, made, options.file, meter.to, beside=sheets)
    if options.json:
        print_json({name: value for name, value in made.items() if name != "file_url"})
        return 0
    print(f"已存 / saved:  {options.file.resolve()}")
    print(f"摘要相符 / digest matches:  sha256 {made['sha256']}  {made['size_bytes']} bytes")
    return 0


def _tell_link(options: argparse.Namespace, made: Json) -> int:
    """Whoever has the address has the copy: it is printed because it was asked for."""
    if options.json:
        print_json(made)
        return 0
    print(made["file_url"])
    print(f"sha256 {made['sha256']}  {made['size_bytes']} bytes")
    return 0


def _made(seat: Seat, options: argparse.Namespace, body: Json) -> Json:
    asked = seat.post(_of(options, "/copies"), body)
    with Meter("制作 / making", 1000) as meter:
        return wait_made(seat, f"/clips/{asked['clip_id']}", asked, wait=time.sleep, tell=meter.to)
