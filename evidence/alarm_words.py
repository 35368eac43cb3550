"""What an alarm says in Chinese, by its code, what it is about and its facts.

The English line is stored with the alarm, as it was found then. The Chinese one is said wherever an alarm is
shown, from what is stored beside it, so that alarms of earlier versions speak both languages too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TITLES = {
    "grant_crowded": "同一调阅授权同时使用过多",
    "host_key_changed": "采集站主机密钥已变，拒绝连接",
    "job_unsettled": "任务无法收回",
    "object_damaged": "原件字节与摘要不符",
    "plan_late": "预定的会话迟开",
    "plan_missed": "预定的会话未能开始",
    "plan_overdue": "会话已过预定结束时间，仍在录制",
    "plan_unkept": "没有主机开始预定的会话",
    "plan_waits": "询问室被占用，预定的会话在等待",
    "recorder_lost": "询问室信号中断，未在录制",
    "recorder_not_taken_up": "录制端留下的文件无法收入",
    "second_copy_differs": "第二份与保管的不符",
    "second_copy_lost": "第二份未跟上",
    "source_certificate_refused": "来源的证书不可信",
    "source_login_refused": "来源拒绝了我方账户",
    "source_origin_refused": "地址不在清单自身的来源之内",
    "source_secret_unreadable": "来源的口令文件或变量无法读取",
}
"""By code: what is wrong, in a few words."""

_LINES = {
    "grant_crowded": "授权{about}：同时使用超出一人所需，地址可能已外传；如有疑问请撤销授权，再解除告警",
    "host_key_changed": "来源{about}：主机密钥与登记的不同，已拒绝连接；请核实采集站，再更新登记的密钥",
    "job_unsettled": "任务{job}（{kind}）：处理进程失联，多次未能收回，原因{found}；"
    "请查看转发日志中的 settle_failed，系统继续尝试",
    "object_damaged": "音像{item}（设备{device}）：应为 SHA-256 {expected_sha256:.16}…，实为{found:.16}；"
    "存储卡上如仍有请重新上传，否则从备份恢复",
    "plan_late": "询问室{room_no}：预定的会话迟开{late_ms}毫秒；请查看该室主机是否曾停止运行",
    "plan_missed": "询问室{room_no}：预定的会话到结束时间仍未开始；请查看该室主机是否运行，并重新预定",
    "plan_overdue": "询问室{room_no}：会话已过预定结束时间，仍在录制；结束后请停止会话{session}",
    "plan_unkept": "询问室{room_no}：没有主机开始预定的会话；"
    "请查看 liuhen ingest 是否运行并设有该室，或手动开始",
    "plan_waits": "询问室{room_no}：被会话{session}占用；结束该会话后，预定的会话即开始",
    "recorder_lost": "询问室信号{about}：收不到，未在录制；请检查录像机与线路",
    "recorder_not_taken_up": "询问室{about}：录制端留下的文件无法收入，已原样保留；"
    "请检查磁盘与日志，或移入所属一路的文件夹",
    "second_copy_differs": "音像{about}：第二份{path}重新复制后摘要仍不符；请检查存放第二份的磁盘",
    "second_copy_lost": "询问室{about}：第二份未跟上；请检查存放第二份的磁盘是否挂载、有无空间",
    "source_certificate_refused": "来源{about}：证书不可信，已拒绝连接；请核实证书或设置 tls_ca",
    "source_login_refused": "来源{about}：拒绝了我方账户；请核对用户名与口令",
    "source_origin_refused": "来源{about}：清单中的地址不在其自身来源之内，未予取回；请核实清单",
    "source_secret_unreadable": "来源{about}：口令文件或变量无法读取；请检查设置与文件权限",
}
"""By code: what is wrong with which thing, and what to do."""


class _Facts(dict[str, str]):
    def __missing__(self, _name: str) -> str:
        return "不明"


def line_of(code: str, about: str, facts: Mapping[str, Any]) -> str:
    """What an alarm says in Chinese: one line.

    Args:
        code: Of the alarm; of one that is not known only the code is said.
        about: Id, or number, of what it is about.
        facts: As they are stored; what is missing is said to be unknown.
    """
    known = _Facts({name: str(value) for name, value in facts.items() if value is not None})
    known["about"] = about
    return _LINES.get(code, f"{code}：{{about}}").format_map(known)
