"""Messages of type tf.train.Example, read without TensorFlow."""

from __future__ import annotations

import numpy as np


def parse_example(message: bytes) -> dict[str, np.ndarray | list[bytes]]:
    """Decode a tf.train.Example: feature name -> floats, integers, or a list of bytes.

    Example{1: Features{1: map entry{1: name, 2: Feature{1 bytes | 2 floats | 3 integers}}}}, in
    protocol buffers' wire format; the lists are packed or one value per field.

    Raises ValueError for anything else, and where the message is cut off.
    """
    found = {}
    for features in fields(message).get(1, []):
        for entry in fields(features).get(1, []):
            parts = fields(entry)
            feature = fields(parts.get(2, [b""])[0])
            if 1 not in parts:
                raise ValueError("a feature has no name: it is not a tf.train.Example")
            name = parts[1][0].decode()
            kind, values = next(iter(feature.items()), (1, [b""]))
            values = fields(values[0]).get(1, [])
            if kind == 1:
                found[name] = values
            elif kind == 2:
                found[name] = np.frombuffer(b"".join(values), "<f4")
            else:
                found[name] = np.array([n for v in values for n in integers(v)], np.int64)
    return found


def fields(message: bytes | int) -> dict[int, list]:
    """Split a protocol-buffer message into field number -> values, each bytes or an integer."""
    if not isinstance(message, bytes):
        raise ValueError("an integer stands where a message should: it is not a tf.train.Example")
    found: dict[int, list] = {}
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        wire = key & 7
        if wire == 0:
            value, at = varint(message, at)
        elif wire in (1, 2, 5):
            size, at = varint(message, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
            if at + size > len(message):
                raise ValueError("a field is longer than its message: it is cut off")
            value, at = message[at : at + size], at + size
        else:
            raise ValueError(f"message has wire type {wire}: it is not a tf.train.Example")
        found.setdefault(key >> 3, []).append(value)
    return found


def integers(value: int | bytes) -> list[int]:
    """Signed 64-bit integers, from one field or from a packed run of them."""
    raw = [value] if isinstance(value, int) else []
    at = 0
    while not isinstance(value, int) and at < len(value):
        number, at = varint(value, at)
        raw.append(number)
    return [n - (1 << 64) if n >> 63 else n for n in raw]


def varint(message: bytes, at: int) -> tuple[int, int]:
    """An integer of seven bits a byte, lowest first, and where the next field starts."""
    number = shift = 0
    while True:
        if at >= len(message):
            raise ValueError("an integer has no end: the message is cut off")
        byte = message[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
