"""What people read, in Chinese and English: states of a camera, what failed, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """What is going on with a camera."""

    QUEUED = "queued"
    IDENTIFYING = "identifying"
    UPLOADING = "uploading"
    PAUSED = "paused"
    HELD_UP = "held_up"
    AWAITING = "awaiting"
    FREEING = "freeing"
    DONE = "done"
    ATTENTION = "attention"
    GONE = "gone"


@dataclass(frozen=True)
class Words:
    """One thing in both languages."""

    zh: str
    en: str


@dataclass(frozen=True)
class StateWords(Words):
    """A state, and whether the camera may be taken out."""

    may_unplug: bool = False


STATES: dict[State, StateWords] = {
    State.QUEUED: StateWords("排队等候", "Waiting for its turn", True),
    State.IDENTIFYING: StateWords("正在识别", "Being identified"),
    State.UPLOADING: StateWords("正在上传", "Uploading"),
    State.PAUSED: StateWords("本时段暂停上传", "Paused by the hours", True),
    State.HELD_UP: StateWords("连接受阻,自动重试", "Held up; tries again by itself"),
    State.AWAITING: StateWords("已传完,等待回执", "Uploaded; waiting for receipts", True),
    State.FREEING: StateWords("正在清理已有回执的文件", "Freeing what has receipts"),
    State.DONE: StateWords("全部完成,均有回执", "Done; every file has its receipt", True),
    State.ATTENTION: StateWords("有文件需要处理", "Some files need a person", True),
    State.GONE: StateWords("已拔出,插回后继续", "Taken out; goes on when it is back", True),
}
UNPLUG = Words("可以拔出", "Safe to unplug")
DO_NOT_UNPLUG = Words("请勿拔出", "Do not unplug")
DO_NOT_ERASE = Words("请勿清空:还有文件没有回执", "Do not erase: files are left without a receipt")
MAY_ERASE = Words("全部文件已有回执", "Every file has its receipt")


@dataclass(frozen=True)
class Advice:
    """What happened and what to do about it."""

    zh: str
    en: str
    do_zh: str
    do_en: str


PROBLEMS: dict[str, Advice] = {
    "server_unreachable": Advice(
        "连不上服务器", "The server cannot be reached",
        "检查网线和网络;恢复后自动续传,不丢数据", "Check cable and network; it goes on by itself"),
    "server_busy": Advice(
        "服务器忙", "The server is busy", "不用处理,自动重试", "Nothing; it tries again"),
    "server_full": Advice(
        "服务器存储已满", "The server's disk is full",
        "通知管理员;录像仍在卡上", "Tell the administrator; the footage stays on the card"),
    "server_sealing": Advice(
        "服务器正在登记文件", "The server is registering the file", "不用处理", "Nothing; it asks again"),
    "server_unreadable": Advice(
        "服务器的应答无法理解", "The server's answer cannot be understood",
        "检查 server.url 是否指向接收服务", "Check that server.url is the upload listener"),
    "token_refused": Advice(
        "上传令牌被拒绝", "The upload token is refused",
        "请管理员重新签发令牌(liuhen token issue)并放入令牌文件",
        "Have a new token issued (liuhen token issue) and put it in the token file"),
    "file_refused": Advice(
        "服务器拒收该文件", "The server refuses this file",
        "把文件名和日志交给管理员", "Give name and log to the administrator"),
    "file_too_large": Advice(
        "文件超过服务器上限", "The file is over the server's limit",
        "请管理员提高上限", "Have the administrator raise the limit"),
    "foreign_location": Advice(
        "服务器指向未登记的主机", "The server points to a host that is not listed",
        "若为本单位主机,写入 server.other_hosts", "If it is yours, list it in server.other_hosts"),
    "digest_differs": Advice(
        "服务器收到的内容与卡上不一致", "What the server holds is not what is on the card",
        "检查读卡器、数据线和内存;文件未被清理", "Check reader, cable and memory; the file is not freed"),
    "upload_gone": Advice(
        "服务器一再丢失该上传", "The server lost this upload again and again",
        "通知管理员", "Tell the administrator"),
    "card_gone": Advice(
        "上传中途拔出", "Taken out in mid-upload", "插回即可续传", "Put it back; the upload goes on"),
    "card_unreadable": Advice(
        "卡上的文件读不出来", "The card cannot give this file",
        "不要再用此卡录像;把卡交技术人员恢复", "Record no more on this card; have it recovered"),
    "card_readonly": Advice(
        "卡写保护,无法清理", "The card is write-protected and cannot be freed",
        "文件均已有回执;解除写保护后重新插入", "The files have receipts; unlock the card and put it back"),
    "file_changed": Advice(
        "文件在上传中被改动", "The file changed while it was uploaded",
        "不用处理,从头重新上传", "Nothing; it is uploaded anew from its beginning"),
    "receipt_invalid": Advice(
        "回执无效,未清理文件", "The receipt proves nothing; nothing was freed",
        "立即通知管理员:密钥不符或有人伪造", "Tell the administrator at once: a wrong key, or a forgery"),
    "receipt_missing": Advice(
        "本机保存的回执不见了,未清理文件", "The kept receipt is gone from this dock; nothing was freed",
        "恢复回执文件夹;录像仍在卡上", "Restore the receipts folder; the footage stays on the card"),
    "state_unwritable": Advice(
        "采集站本机磁盘写不进去", "The dock's own disk cannot be written",
        "清理或更换采集站磁盘;录像仍在卡上", "Free or replace that disk; the footage stays on the card"),
    "receipt_withdrawn": Advice(
        "服务器不再确认该回执,未清理文件", "The server no longer stands by the receipt; nothing was freed",
        "不用处理,重新上传;若反复出现请通知管理员", "Nothing, it is uploaded anew; if it recurs, report it"),
    "config_invalid": Advice(
        "配置有误", "The configuration is wrong",
        "运行 liuhen-dock check-config", "Run liuhen-dock check-config"),
    "token_missing": Advice(
        "没有上传令牌", "There is no upload token", "放入令牌文件", "Put it in the token file"),
    "token_open": Advice(
        "令牌文件权限过宽", "Others can read the token file", "chmod 600", "chmod 600"),
    "device_unknown": Advice(
        "无法识别设备编号", "The device number is not known",
        "照常上传,服务器先隔离;请管理员认领",
        "It uploads all the same; the server keeps it apart until adopted"),
    "device_conflict": Advice(
        "卡上文件名含多个设备编号", "The names on the card tell several device numbers",
        "照常上传;核对此卡是否混用", "It uploads all the same; see whether the card was shared"),
    "zfy_unreadable": Advice(
        "设备信息 ZFY_INFO 读不出来", "ZFY_INFO cannot be read",
        "照常上传;检查设备信息文件", "It uploads all the same; check the file"),
    "clock_unreadable": Advice(
        "读不到设备时钟", "The device's clock cannot be read",
        "请人工核对设备时间", "Check the camera's time by hand"),
    "clock_not_set": Advice(
        "无法校准设备时钟", "The device's clock cannot be set",
        "请在设备上手动校时", "Set the camera's time by hand"),
    "driver_failed": Advice(
        "设备驱动出错", "The camera's driver failed",
        "重新插入;仍失败则换接口", "Put it in again; else another port"),
    "driver_missing": Advice(
        "设备驱动未安装", "The camera's driver is not installed",
        "检查型号配置里的 driver", "Check `driver` in the profile"),
    "internal": Advice(
        "程序内部错误", "The agent failed inside",
        "日志里有原因;录像仍在卡上", "The log says why; the footage stays"),
}  # fmt: skip

NOTES = frozenset({"clock_unreadable", "clock_not_set"})
"""What a person should know and nobody need hurry about."""

UNKNOWN_VOLUME = Words("未匹配任何设备型号,不读取、不改动", "No profile fits; it is neither read nor changed")


def advice(code: str) -> Advice:
    """What to say of a code."""
    return PROBLEMS.get(code, PROBLEMS["internal"])
