"""Whether an ONNX file holds all of its network, or names other files for parts of it.

A digest vouches for the bytes it was taken of. ONNX lets a tensor lie outside (``data_location`` EXTERNAL),
and ONNX Runtime would read that file from wherever the process stands. So files are walked before they are
loaded: protocol buffers as onnx.proto3 lays them out, down every path on which there may be a tensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
# By kind of message, the fields that hold another in which there may be a tensor.
INSIDE = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
EXTERNAL_DATA, DATA_LOCATION = 13, 14


class _Field(NamedTuple):
    number: int
    value: int
    """Of a number; 0 of what is bytes."""
    content: memoryview


def is_whole(model: bytes) -> bool:
    """Whether every tensor lies in the file itself.

    Raises:
        ValueError: This is no message of protocol buffers.
    """
    waiting = [("model", memoryview(model))]
    while waiting:
        kind, content = waiting.pop()
        for field in _fields(content):
            if kind == "tensor":
                if field.number == EXTERNAL_DATA or (field.number == DATA_LOCATION and field.value):
                    return False
            elif inside := INSIDE[kind].get(field.number):
                waiting.append((inside, field.content))
    return True


def _fields(content: memoryview) -> Iterator[_Field]:
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        number, wire = tag >> 3, tag & 7
        value, size = 0, 0
        if wire == VARINT:
            value, at = _varint(content, at)
        elif wire == LENGTH:
            size, at = _varint(content, at)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise ValueError(f"field {number}: expected a wire type of 0, 1, 2 or 5, found {wire}")
        if at + size > len(content):
            raise ValueError(f"field {number}: expected {size} bytes, found {len(content) - at}")
        yield _Field(number, value, content[at : at + size])
        at += size


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            raise ValueError("number: expected another byte, found the end")
        value |= (content[at] & 0x7F) << shift
        at += 1
        if not content[at - 1] & 0x80:
            return value, at
    raise ValueError("number: expected at most 10 bytes, found more")
