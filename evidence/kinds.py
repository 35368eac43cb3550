"""Enumerations that come straight from the rules (docs/ref/rules.md): names in code, words in Chinese.

Values are stored in rows and custody leaves, so they never change meaning; new ones are added.
"""

from __future__ import annotations

from enum import StrEnum


class ProcessStage(StrEnum):
    """Stage of enforcement an item records (R1)."""

    INITIATION = "initiation"  # 启动
    INVESTIGATION = "investigation"  # 调查取证
    REVIEW = "review"  # 审核
    DECISION = "decision"  # 决定
    SERVICE = "service"  # 送达
    EXECUTION = "execution"  # 执行
    ARCHIVING = "archiving"  # 归档


class EnforcementKind(StrEnum):
    """Kind of administrative act a case is about."""

    PERMIT = "permit"  # 行政许可
    PENALTY = "penalty"  # 行政处罚
    COERCION = "coercion"  # 行政强制
    INSPECTION = "inspection"  # 行政检查
    LEVY = "levy"  # 行政征收
    REQUISITION = "requisition"  # 行政征用


class SourceKind(StrEnum):
    """What recorded an item (R8, R10)."""

    BODY_CAM = "body_cam"  # 执法记录仪
    INTERVIEW_ROOM = "interview_room"  # 询问室/谈话室
    FIXED_CAMERA = "fixed_camera"  # 固定监控
    VEHICLE = "vehicle"  # 车载
    UAV = "uav"  # 无人机
    PHOTO = "photo"  # 照相
    AUDIO = "audio"  # 录音
    THIRD_PARTY = "third_party"  # 他人提供


class MediaKind(StrEnum):
    """What an item's bytes are, judged by content and never by name."""

    VIDEO = "video"
    AUDIO = "audio"
    PHOTO = "photo"
    DOCUMENT = "document"
    UNKNOWN = "unknown"


class RetrievalPurpose(StrEnum):
    """Why somebody looks at footage (R24, R25); asked for before an original is shown."""

    CASE_HANDLING = "case_handling"  # 办案
    LEGAL_REVIEW = "legal_review"  # 法制审核
    CASE_FILE_REVIEW = "case_file_review"  # 案卷评查
    SUPERVISION = "supervision"  # 执法监督
    APPRAISAL = "appraisal"  # 评议考核
    PUBLIC_OPINION = "public_opinion"  # 舆情应对
    DECISION_SUPPORT = "decision_support"  # 行政决策
    CREDIT = "credit"  # 信用
    RECONSIDERATION = "reconsideration"  # 行政复议
    LITIGATION = "litigation"  # 行政诉讼
    TRAINING = "training"  # 教学


PURPOSE_WORDS = {
    RetrievalPurpose.CASE_HANDLING: "办案",
    RetrievalPurpose.LEGAL_REVIEW: "法制审核",
    RetrievalPurpose.CASE_FILE_REVIEW: "案卷评查",
    RetrievalPurpose.SUPERVISION: "执法监督",
    RetrievalPurpose.APPRAISAL: "评议考核",
    RetrievalPurpose.PUBLIC_OPINION: "舆情应对",
    RetrievalPurpose.DECISION_SUPPORT: "行政决策",
    RetrievalPurpose.CREDIT: "信用",
    RetrievalPurpose.RECONSIDERATION: "行政复议",
    RetrievalPurpose.LITIGATION: "行政诉讼",
    RetrievalPurpose.TRAINING: "教学",
}


class GapReason(StrEnum):
    """Why a recording was interrupted, or shows nothing for a while (R2, L15)."""

    SECRET_OR_PRIVACY = "secret_or_privacy"  # noqa: S105 -- 涉密或隐私
    EMERGENCY = "emergency"  # 紧急
    OBJECTIVE_IMPOSSIBILITY = "objective_impossibility"  # 客观原因
    DEVICE_FAULT = "device_fault"  # 设备故障
    STORAGE_FULL = "storage_full"  # 存储已满
    POWER_LOST = "power_lost"  # 断电
    OTHER = "other"  # 其他


class Role(StrEnum):
    """What a person is in the agency. The last three see no footage (A7)."""

    OFFICER = "officer"  # 执法人员
    HANDLER = "handler"  # 办案人员
    REVIEWER = "reviewer"  # 审核人员
    LEGAL_REVIEWER = "legal_reviewer"  # 法制审核人员
    ARCHIVIST = "archivist"  # 档案人员
    SYSTEM_ADMIN = "system_admin"  # 系统管理员
    SECURITY_OFFICER = "security_officer"  # 安全保密员
    AUDITOR = "auditor"  # 审计员


SEPARATED_ROLES = frozenset({Role.SYSTEM_ADMIN, Role.SECURITY_OFFICER, Role.AUDITOR})


class ClaimSource(StrEnum):
    """Who or what said a thing about an item."""

    FILENAME = "filename"
    CONTAINER = "container"
    SIDECAR = "sidecar"
    DOCK = "dock"
    DEVICE = "device"
    PERSON = "person"
    SERVER = "server"
