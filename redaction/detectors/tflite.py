"""Write a TensorFlow Lite network down for ONNX Runtime, weight by weight, in memory.

Some weights are published in TensorFlow Lite's format alone. A second runtime would weigh more than all of
redaction, would not be safe to call from several threads, and would know no GPU; a convolutional network is
a list of a few kinds of operators, so the list is read here and written as an ONNX model. No weight changes
but from half to single precision, which loses nothing, and pictures of any size fit.

Read: the FlatBuffers encoding of `Model` (tensorflow/lite/schema/schema.fbs, version 3). Written:
`ModelProto` of operator set 13 (onnx/onnx.proto), in protobuf's wire format. What is not known is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evidence.errors import MediaError

OPERATOR_SET = 13
IR_VERSION = 7
# BuiltinOperator
ADD, CONV, DEPTHWISE_CONV, DEQUANTIZE, MAX_POOL = 0, 3, 4, 6, 17
RELU, RESHAPE, RESIZE_BILINEAR, PAD = 19, 22, 23, 34
# TensorType
TYPES: dict[int, np.dtype[Any]] = {0: np.dtype("<f4"), 1: np.dtype("<f2"), 2: np.dtype("<i4")}
ONNX_FLOAT, ONNX_INT64 = 1, 7
ONNX_ATTRIBUTE_INT, ONNX_ATTRIBUTE_STRING, ONNX_ATTRIBUTE_INTS = 2, 3, 7


def onnx_from_tflite(content: bytes) -> bytes:
    """The same network as an ONNX model.

    Args:
        content: A ``.tflite`` file whose digest was checked.

    Returns:
        A model with one input ``picture``, ``(n, channels, height, width)``, all open; its outputs are those
        of the file in their order, before any reshaping at the very end, ``(n, channels, rows, columns)``.

    Raises:
        MediaError: The file holds something this reader does not know (``model_unusable``).
    """
    try:
        return _Writer(_Table.root(content)).model()
    except (struct.error, IndexError, KeyError, ValueError) as error:
        raise MediaError(
            f"model: expected a TensorFlow Lite network of convolutions, found {error!r}; "
            "use weights of the register",
            code="model_unusable",
        ) from error


class _Table:
    """One FlatBuffers table: fields found by number through its vtable, absent ones at their default."""

    def __init__(self, content: bytes, at: int) -> None:
        self._content, self._at = content, at
        self._vtable = at - struct.unpack_from("<i", content, at)[0]

    @classmethod
    def root(cls, content: bytes) -> _Table:
        return cls(content, struct.unpack_from("<I", content, 0)[0])

    def _field(self, number: int) -> int:
        size = struct.unpack_from("<H", self._content, self._vtable)[0]
        if 4 + 2 * number >= size:
            return 0
        offset = struct.unpack_from("<H", self._content, self._vtable + 4 + 2 * number)[0]
        return self._at + offset if offset else 0

    def number(self, field: int, kind: str = "<i", default: int = 0) -> int:
        at = self._field(field)
        return int(struct.unpack_from(kind, self._content, at)[0]) if at else default

    def _follow(self, at: int) -> int:
        return at + int(struct.unpack_from("<I", self._content, at)[0])

    def table(self, field: int) -> _Table | None:
        at = self._field(field)
        return _Table(self._content, self._follow(at)) if at else None

    def tables(self, field: int) -> list[_Table]:
        start, count = self._vector(field)
        return [_Table(self._content, self._follow(start + 4 * index)) for index in range(count)]

    def numbers(self, field: int) -> list[int]:
        start, count = self._vector(field)
        return list(struct.unpack_from(f"<{count}i", self._content, start))

    def bytes_of(self, field: int) -> bytes:
        start, count = self._vector(field)
        return self._content[start : start + count]

    def _vector(self, field: int) -> tuple[int, int]:
        at = self._field(field)
        if not at:
            return 0, 0
        start = self._follow(at)
        return start + 4, int(struct.unpack_from("<I", self._content, start)[0])


class _Writer:
    """Writes the operators of one graph; tensors are called by their number, laid out NCHW."""

    def __init__(self, model: _Table) -> None:
        # builtin_code, or where that is left out the older byte it replaced.
        self._codes = [code.number(3) or code.number(0, "<b") for code in model.tables(1)]
        (self._graph,) = model.tables(2)
        self._tensors = self._graph.tables(0)
        self._buffers = model.tables(4)
        self._constants: dict[int, NDArray[np.generic]] = {}
        self._renamed: dict[int, int] = {}
        self._nodes: list[bytes] = []
        self._initializers: list[bytes] = []

    def model(self) -> bytes:
        for operator in self._graph.tables(3):
            self._write(operator)
        inputs, outputs = self._graph.numbers(1), self._graph.numbers(2)
        if len(inputs) != 1:
            raise ValueError(f"{len(inputs)} inputs")
        graph = b"".join(_message(1, node) for node in self._nodes) + _text(2, "network")
        graph += b"".join(_message(5, tensor) for tensor in self._initializers)
        graph += _message(11, _open_tensor("picture"))
        graph += b"".join(_message(12, _open_tensor(self._name(index))) for index in outputs)
        return _number(1, IR_VERSION) + _message(7, graph) + _message(8, _number(2, OPERATOR_SET))

    def _name(self, index: int) -> str:
        index = self._renamed.get(index, index)
        return "picture" if index in self._graph.numbers(1) else f"t{index}"

    def _constant(self, index: int) -> NDArray[np.generic]:
        """A tensor that the file holds, as it is laid out there."""
        if index not in self._constants:
            tensor = self._tensors[index]
            content = self._buffers[tensor.number(2, "<I")].bytes_of(0)
            flat = np.frombuffer(content, dtype=TYPES[tensor.number(1, "<b")])
            self._constants[index] = flat.reshape(tensor.numbers(0))
        return self._constants[index]

    def _write(self, operator: _Table) -> None:
        code = self._codes[operator.number(0, "<I")]
        writers: dict[int, Callable[[list[int], int, _Table | None], None]] = {
            ADD: self._add, CONV: self._conv, DEPTHWISE_CONV: self._depthwise, DEQUANTIZE: self._dequantize,
            MAX_POOL: self._max_pool, RELU: self._relu, RESHAPE: self._reshape,
            RESIZE_BILINEAR: self._resize, PAD: self._pad,
        }  # fmt: skip
        (output,) = operator.numbers(2)
        writers[code](operator.numbers(1), output, operator.table(4))

    def _dequantize(self, inputs: list[int], output: int, _options: _Table | None) -> None:
        self._constants[output] = self._constant(inputs[0]).astype("<f4")

    def _relu(self, inputs: list[int], output: int, _options: _Table | None) -> None:
        self._node("Relu", [self._name(inputs[0])], output)

    def _add(self, inputs: list[int], output: int, options: _Table | None) -> None:
        _no_activation(options, 0)
        self._node("Add", [self._name(index) for index in inputs], output)

    def _reshape(self, inputs: list[int], output: int, _options: _Table | None) -> None:
        # Only at the end, where callers take the maps as they are.
        if output not in self._graph.numbers(2):
            raise ValueError("a reshape within the network")
        self._renamed[output] = inputs[0]

    def _conv(self, inputs: list[int], output: int, options: _Table | None) -> None:
        _no_activation(options, 3)
        weights = self._constant(inputs[1]).transpose(0, 3, 1, 2)
        self._convolve(inputs, output, options, weights, groups=1)

    def _depthwise(self, inputs: list[int], output: int, options: _Table | None) -> None:
        _no_activation(options, 4)
        weights = self._constant(inputs[1]).transpose(3, 0, 1, 2)
        self._convolve(inputs, output, options, weights, groups=len(weights))

    def _convolve(
        self,
        inputs: list[int],
        output: int,
        options: _Table | None,
        weights: NDArray[np.generic],
        groups: int,
    ) -> None:
        names = [self._name(inputs[0]), self._store(f"w{output}", weights)]
        names.append(self._store(f"b{output}", self._constant(inputs[2])))
        attributes = [_ints("kernel_shape", weights.shape[2:]), *_sliding(options), _int("group", groups)]
        self._node("Conv", names, output, attributes)

    def _max_pool(self, inputs: list[int], output: int, options: _Table | None) -> None:
        _no_activation(options, 5)
        if options is None:
            raise ValueError("a pooling without its size")
        window = (options.number(4), options.number(3))
        attributes = [_ints("kernel_shape", window), *_sliding(options)]
        self._node("MaxPool", [self._name(inputs[0])], output, attributes)

    def _resize(self, inputs: list[int], output: int, options: _Table | None) -> None:
        low, high = self._tensors[inputs[0]].numbers(0), self._tensors[output].numbers(0)
        if options is None or options.number(2, "<b") or not options.number(3, "<b"):
            raise ValueError("a resize other than from half-pixel centres")
        scales = np.array([1.0, 1.0, high[1] / low[1], high[2] / low[2]], dtype="<f4")
        names = [self._name(inputs[0]), "", self._store(f"s{output}", scales)]
        attributes = [_string("mode", "linear"), _string("coordinate_transformation_mode", "half_pixel")]
        self._node("Resize", names, output, attributes)

    def _pad(self, inputs: list[int], output: int, _options: _Table | None) -> None:
        pads = self._constant(inputs[1])[[0, 3, 1, 2]].T.astype("<i8").reshape(-1)
        self._node("Pad", [self._name(inputs[0]), self._store(f"p{output}", pads)], output)

    def _node(self, kind: str, names: list[str], output: int, attributes: Sequence[bytes] = ()) -> None:
        node = b"".join(_text(1, name) for name in names) + _text(2, f"t{output}") + _text(4, kind)
        self._nodes.append(node + b"".join(_message(5, attribute) for attribute in attributes))

    def _store(self, name: str, values: NDArray[np.generic]) -> str:
        kind = {"<f4": ONNX_FLOAT, "<i8": ONNX_INT64}[values.dtype.str]
        dims = b"".join(_number(1, side) for side in values.shape)
        self._initializers.append(
            dims + _number(2, kind) + _text(8, name) + _message(9, np.ascontiguousarray(values).tobytes())
        )
        return name


def _no_activation(options: _Table | None, field: int) -> None:
    if options is not None and options.number(field, "<b"):
        raise ValueError("an activation inside another operator")


def _sliding(options: _Table | None) -> list[bytes]:
    """Padding and strides, the first three fields of convolutions and pooling alike."""
    if options is None:
        raise ValueError("an operator without its strides")
    # SAME pads below and to the right first, as ONNX's SAME_UPPER does, whatever the picture's size.
    padding = "VALID" if options.number(0, "<b") else "SAME_UPPER"
    return [_string("auto_pad", padding), _ints("strides", (options.number(2), options.number(1)))]


def _open_tensor(name: str) -> bytes:
    dimensions = b"".join(_message(1, _text(2, f"{name}_{side}")) for side in range(4))
    return _text(1, name) + _message(2, _message(1, _number(1, ONNX_FLOAT) + _message(2, dimensions)))


def _int(name: str, value: int) -> bytes:
    return _text(1, name) + _number(3, value) + _number(20, ONNX_ATTRIBUTE_INT)


def _ints(name: str, values: Sequence[int]) -> bytes:
    return _text(1, name) + b"".join(_number(8, value) for value in values) + _number(20, ONNX_ATTRIBUTE_INTS)


def _string(name: str, value: str) -> bytes:
    return _text(1, name) + _text(4, value) + _number(20, ONNX_ATTRIBUTE_STRING)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode())
