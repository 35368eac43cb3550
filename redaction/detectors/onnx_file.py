"""What an ONNX file holds, without a library for it: whether all of its network, and what is constant in it.

A digest vouches for the bytes it was taken of. ONNX lets a tensor lie outside (``data_location`` EXTERNAL),
and ONNX Runtime would read that file from wherever the process stands. So files are walked before they are
loaded: protocol buffers as onnx.proto3 lays them out, down every path on which there may be a tensor.

Files of the first versions of the format list every weight among the inputs too, as a default that a caller
may replace. Nobody does, but ONNX Runtime must then expect it, and neither folds weights together nor lays
them out as the processor likes best: `with_constant_weights` takes them off the list.
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
# Fields of a model, and of its graph; of a tensor and of what is known of a value, the name.
IR_VERSION, GRAPH = 1, 7
INITIALIZER, INPUT, OUTPUT = 5, 11, 12
TENSOR_NAME, VALUE_NAME = 8, 1
# From this version on a weight need not be an input.
IR_VERSION_OF_CONSTANTS = 4


class _Field(NamedTuple):
    number: int
    value: int
    """Of a number; 0 of what is bytes."""
    content: memoryview
    coded: memoryview
    """All of it, tag and length too."""


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


def with_constant_weights(model: bytes, outputs: int | None = None) -> bytes:
    """The same network with no weight among its inputs; no weight changes.

    Args:
        model: An ONNX file.
        outputs: How many of its outputs are asked for, the first ones; None keeps all. What leads to the
            others alone is not computed.

    Raises:
        ValueError: This is no message of protocol buffers.
    """
    made = bytearray()
    for field in _fields(memoryview(model)):
        if field.number == GRAPH:
            made += _coded(GRAPH, _graph_of_constants(field.content, outputs))
        elif field.number == IR_VERSION and field.value < IR_VERSION_OF_CONSTANTS:
            made += bytes([IR_VERSION << 3 | VARINT, IR_VERSION_OF_CONSTANTS])
        else:
            made += field.coded
    return bytes(made)


def _graph_of_constants(graph: memoryview, outputs: int | None) -> bytes:
    weights = {_name(field.content, TENSOR_NAME) for field in _fields(graph) if field.number == INITIALIZER}
    made, output_count = bytearray(), 0
    for field in _fields(graph):
        if field.number == INPUT and _name(field.content, VALUE_NAME) in weights:
            continue
        if field.number == OUTPUT:
            output_count += 1
            if outputs is not None and output_count > outputs:
                continue
        made += field.coded
    return bytes(made)


def _name(content: memoryview, number: int) -> bytes:
    return next((bytes(field.content) for field in _fields(content) if field.number == number), b"")


def _coded(number: int, content: bytes) -> bytes:
    size, length = len(content), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | LENGTH, *length, size]) + content


def _fields(content: memoryview) -> Iterator[_Field]:
    at = 0
    while at < len(content):
        begins = at
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
        yield _Field(number, value, content[at : at + size], content[begins : at + size])
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
