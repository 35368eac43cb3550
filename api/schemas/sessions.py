"""Signing in."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from api.schemas.common import Input, Number, Output


class SignIn(Input):
    """Who wants to sign in."""

    agency: Number | None = Field(None, description="机关代码,仅一家时可省 / Agency code", examples=["demo"])
    username: Number = Field(description="用户名 / User name", examples=["zhang.san"])
    password: str = Field(min_length=1, max_length=256, description="口令 / Password")


class PasswordChange(Input):
    """A new password of one's own."""

    old: str = Field(min_length=1, max_length=256, description="原口令 / The present one")
    new: str = Field(min_length=10, max_length=256, description="新口令 / The new one")


class SignedIn(Output):
    """A session."""

    token: str = Field(description="会话令牌,仅显示一次 / Bearer token, shown once")
    expires_at: datetime
    roles: list[str]
    must_change_password: bool = Field(description="须先改口令 / The password must be changed first")


class Me(Output):
    """Who the session is of."""

    account_id: UUID
    agency: str
    time_zone: str = Field(description="机关所在时区 / The agency's zone, in which people see times")
    username: str
    display_name: str
    roles: list[str]
    acts: list[str] = Field(description="角色所许可的操作 / What the roles carry")
    must_change_password: bool = Field(description="须先改口令 / The password must be changed first")
