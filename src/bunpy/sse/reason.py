"""Why a stream ended: the closed set of reasons. Who decides on one is elsewhere."""

from __future__ import annotations

from typing import Final, Literal, get_args

__all__ = ["END_REASONS", "EndReason"]

#: finished   the source came to its end
#: client     the client left
#: half_open  the client vanished without a word: what was sent, or asked, was not acknowledged in time
#: slow       the client took nothing for ``send_timeout``, or was the slowest when ``max_buffered`` was passed
#: shutdown   the server stopped
#: lifetime   the stream had lasted ``stream_lifetime``
#: error      the source raised, or the response could not be sent
#: limit      there were as many streams as ``max_streams`` or ``max_streams_per_client`` allows
EndReason = Literal[
    "finished", "client", "half_open", "slow", "shutdown", "lifetime", "error", "limit"
]

END_REASONS: Final[tuple[EndReason, ...]] = get_args(EndReason)
