"""Stand-ins that tests and benchmarks share: a transport that keeps what it is given. No socket is here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

__all__ = ["FakeTransport"]


class FakeTransport(asyncio.Transport):
    """A transport over memory. It tells its protocol nothing of its own accord, except in ``resume``.

    ``writes`` is what ``write`` was called with, one entry a call. A transport with ``is_stuck`` keeps what it is given
    in its buffer, as one whose peer takes nothing does: ``get_write_buffer_size`` counts it and, above ``high_water``
    bytes, the protocol is paused; ``resume`` empties the buffer and resumes it.
    """

    def __init__(
        self,
        protocol: asyncio.BaseProtocol | None = None,
        extra: Mapping[str, Any] | None = None,
        *,
        is_stuck: bool = False,
        high_water: int = 64 * 1024,
    ) -> None:
        super().__init__(dict(extra or {}))
        self.protocol = protocol
        self.is_stuck = is_stuck
        self.high_water = high_water
        self.writes: list[bytes] = []
        self.buffered = 0
        self.is_paused = False
        self.is_reading_ = True
        self.is_closed = False
        self.is_aborted = False
        self.has_sent_eof = False

    @property
    def sent(self) -> bytes:
        """All that was written."""
        return b"".join(self.writes)

    def clear(self) -> None:
        """Forget what was written; what is in the buffer stays there."""
        self.writes.clear()

    def resume(self) -> None:
        """The peer has taken everything."""
        self.is_stuck = False
        self.buffered = 0
        if self.is_paused:
            self.is_paused = False
            if isinstance(self.protocol, asyncio.Protocol):
                self.protocol.resume_writing()

    # What a transport does

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))
        if self.is_stuck:
            self.buffered += len(data)
            if self.buffered > self.high_water and not self.is_paused:
                self.is_paused = True
                if isinstance(self.protocol, asyncio.Protocol):
                    self.protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self.high_water // 4, self.high_water

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high_water = 64 * 1024 if high is None else high

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_sent_eof = True

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True
        self.is_aborted = True
        self.buffered = 0

    def is_closing(self) -> bool:
        return self.is_closed

    def is_reading(self) -> bool:
        return self.is_reading_

    def pause_reading(self) -> None:
        self.is_reading_ = False

    def resume_reading(self) -> None:
        self.is_reading_ = True

    def get_protocol(self) -> asyncio.BaseProtocol:
        if self.protocol is None:
            raise RuntimeError("this fake transport was made without a protocol: give it one")
        return self.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol
