"""The custody log as the API shows it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import Field

from api.schemas.common import Output


class InclusionProof(Output):
    """That a leaf stands in the tree of a checkpoint (RFC 9162, section 2.1.3)."""

    leaf_index: int
    tree_size: int
    hashes: list[str]


class LeafShown(Output):
    """One leaf."""

    leaf_id: UUID
    leaf_index: int | None = Field(description="尚未排序时为空 / Null until sequenced")
    leaf: dict[str, Any]
    leaf_b64: str = Field(description="参与散列的原文 / Exactly the bytes that are hashed")
    leaf_hash: str | None
    payload: dict[str, Any] | None = Field(description="个人信息,审计员不可见 / Not shown to auditors")
    proof: InclusionProof | None


class CheckpointShown(Output):
    """A signed statement of the tree."""

    tree_size: int
    root: str
    note: str = Field(description="签名文本,请另存他处 / Keep a copy elsewhere")


class CustodyOfItem(Output):
    """Every leaf about an item, and the checkpoint their proofs lead to."""

    checkpoint: CheckpointShown | None
    leaves: list[LeafShown]


class Consistency(Output):
    """That an older tree begins a newer one (RFC 9162, section 2.1.4)."""

    first_size: int
    second_size: int
    first_root: str
    second_root: str
    hashes: list[str]
