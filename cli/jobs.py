"""`liuhen jobs stuck|requeue|counts`."""

from __future__ import annotations

import argparse
import sys
from datetime import timedelta

from cli.options import Branch, read_id
from cli.shell import Parser, add_json, at_desk, operator, print_json, print_table
from evidence.custody import Action
from storage.db import alarms, custody, jobs
from storage.db.custody import Happening


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    stuck = branch.add("stuck", "需人处理的任务 / jobs a person should look at", _stuck)
    stuck.add_argument(
        "--older-than", type=float, default=3600.0, metavar="SECONDS", help="默认 / default 3600"
    )
    add_json(stuck)
    requeueing = branch.add("requeue", "重新排队 / give a quarantined job fresh attempts", _requeue)
    requeueing.add_argument("job_id", metavar="ID", help="任务编号 / id, as the list prints it")
    add_json(branch.add("counts", "按状态计数 / number of jobs by state", _counts))


def _stuck(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        found = jobs.stuck(session, desk.agency.id, desk.now(), timedelta(seconds=options.older_than))
        rows = [
            {
                "id": str(job.id),
                "kind": job.kind,
                "state": job.state,
                "subject_id": str(job.subject_id),
                "attempt": job.attempt,
                "deaths": job.deaths,
                "progress_permille": job.progress_permille,
                "created_at": desk.local(job.created_at),
                "last_error": job.last_error,
            }
            for job in found
        ]
    if options.json:
        print_json(rows)
    else:
        heads = (
            "编号 id",
            "任务 kind",
            "状态 state",
            "对象 subject",
            "次数 tries",
            "死亡 deaths",
            "进度‰ done",
            "建立 created",
            "原因 reason",
        )
        print_table(heads, [tuple(row.values()) for row in rows])
    return 0


def _requeue(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        now = desk.now()
        job = jobs.requeue(session, agency.id, read_id(options.job_id, "job"), now)
        happening = Happening(
            Action.JOB_REQUEUED,
            "job",
            str(job.id),
            operator(),
            {"kind": job.kind, "subject": str(job.subject_id)},
        )
        custody.record(session, agency, happening, now)
    print(f"已重排 / requeued: {options.job_id}")
    return 0


def _counts(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        found = jobs.counts(session, desk.agency.id)
        standing = alarms.count_standing(session, desk.agency.id)
    if options.json:
        print_json(found)
    else:
        print_table(("状态 state", "数量 count"), sorted(found.items()))
    if standing:
        print(f"未解除的告警{standing}条 / {standing} alarms stand: liuhen alarm list", file=sys.stderr)
    return 0
