"""Frames and fields: how the socket protocol puts values into bytes."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence

Value = str | int | float | bool | None

PREFIX = b"API\0"
"""What a client sends before its first frame."""


def text(value: Value) -> str:
    """One field as the terminal writes it: 1 and 0 for truth, nothing for nothing, whole numbers without `.0`.

    The last one matters: the official client reads sizes and counts as integers and dies of a `5.0`.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(float(value))
    return str(value)


def frame(fields: Sequence[str]) -> bytes:
    """The bytes of one message: its length, then each field and a NUL."""
    payload = "".join(field + "\0" for field in fields).encode()
    return struct.pack(">I", len(payload)) + payload


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """The payload of the next message. Raises IncompleteReadError where the other side has gone."""
    (size,) = struct.unpack(">I", await reader.readexactly(4))
    return await reader.readexactly(size)


def fields_of(payload: bytes) -> list[str]:
    """The fields of a message's payload."""
    return payload.decode(errors="backslashreplace").split("\0")[:-1]
