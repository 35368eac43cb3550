"""What a check or a restore found wrong, in a form people and programs can read."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        code: Stable and machine-readable.
        kind: The table, or `file`, `leaf`, `key`.
        id: Which one.
        message: One line, Chinese and English.
    """

    code: str
    kind: str
    id: str
    message: str

    def as_json(self) -> dict[str, str]:
        """For `--json`."""
        return asdict(self)


TEXTS = {
    "row_changed": "{kind} {id}: 内容与保管链见证不符,已被改动 / changed behind the program's back",
    "row_dropped": "{kind} {id}: 保管链有见证而库中无此行,已被删除 / dropped: witnessed, but not there",
    "row_added": "{kind} {id}: 保管链无此行的见证,是添加的 / added: no custody leaf witnesses it",
    "witness_broken": "{kind} {id}: 见证不成链 / its witnesses form no chain; see `liuhen verify`",
    "leaf_unreadable": "记录 {id} 无法读取 / leaf {id}: unreadable; see `liuhen verify`",
    "leaf_columns": "记录 {id} 的检索列与内容不符: {detail} / leaf {id}: columns differ from its content",
    "payload_gone": "记录 {id} 的载荷缺失 / leaf {id}: its payload is gone",
    "payload_altered": "记录 {id} 的载荷被改动 / leaf {id}: its payload was altered",
    "reception_leaf": "接收 {id}: 无对应的保管链记录 / reception {id}: no custody leaf says so ({detail})",
    "item_unreceived": "音像 {id}: 无接收记录 / item {id}: no reception and no custody leaf says how it came",
    "derivative_leaf": "衍生件 {id}: 与保管链记录不符 / derivative {id}: no custody leaf says so ({detail})",
    "binding_state": "音像 {id}: 关联状态与关联不符 / item {id}: binding says {detail}",
    "number_gap": "编号序列 {id}: 不连续,{detail} / number series {id}: not gap-free, {detail}",
    "number_differs": "音像 {id}: 编号与登记簿不符 / item {id}: number and register differ ({detail})",
    "store_key": "{kind} {id}: 存储键不属于其摘要 / {kind} {id}: its store key is not that of its digest",
    "file_missing": "{kind} {id}: 文件缺失 / {kind} {id}: its file is gone ({detail})",
    "file_size": "{kind} {id}: 大小不符 / {kind} {id}: {detail}",
    "file_digest": "{kind} {id}: 摘要不符 / {kind} {id}: {detail}",
    "file_unreadable": "{kind} {id}: 无法读取 / {kind} {id}: unreadable ({detail})",
    "second_store_missing": "询问室 {id}: 第二份存储 {detail} 未挂载或没有标识 / "
    "room {id}: its second store {detail} is away, or has no mark",
    "second_store_unreadable": "询问室 {id}: 第二份存储 {detail} 的标识无法读取 / "
    "room {id}: the mark of its second store {detail} is unreadable",
    "second_store_wrong": "询问室 {id}: {detail} 挂载的是别的第二份存储 / "
    "room {id}: {detail} is another installation's second store",
    "copy_missing": "第二份 {id}: 文件缺失 / second copy {id}: its file is gone ({detail})",
    "copy_size": "第二份 {id}: 大小不符 / second copy {id}: expected and found, {detail}",
    "copy_digest": "第二份 {id}: 摘要不符 / second copy {id}: expected and found, {detail}",
    "copy_unreadable": "第二份 {id}: 无法读取 / second copy {id}: unreadable ({detail})",
    "orphan_file": "文件 {id}: 库中无此对象,未删除 / file {id}: no row speaks of it; left where it is",
    "stray_file": "文件 {id}: 不是对象存储的文件 / file {id}: not a file of the object store",
    "key_missing": "密钥 {id}: 私钥文件缺失 / key {id}: its private key file is missing",
    "key_differs": "密钥 {id}: 公钥与私钥不符 / key {id}: the registered public half is not that of the file",
    "key_retired": "密钥 {id}: 登记为已停用而仍在签署,请再次更换以完成 / key {id}: retired on record and "
    "still signing; a rotation was cut off: run `liuhen keys rotate` again",
}


def finding(code: str, kind: str, subject: object, detail: object = "") -> Finding:
    """A finding with its text."""
    return Finding(code, kind, str(subject), TEXTS[code].format(kind=kind, id=subject, detail=detail))
