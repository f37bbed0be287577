"""What a server lets be seen of it, for tests: the fields of its access lines, and its metrics over HTTP."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from watching import until

from bunpy.testing import exchange, parse_answers
from bunpy.testing.address import ServerLike

__all__ = ["FIELDS", "Lines", "Metrics", "access_lines"]

#: The fields of an access line.
FIELDS = (
    *("client", "method", "path", "status", "bytes", "events", "first_event", "duration"),
    *("reason", "request_id"),
)


class Lines:
    """Keeps the records of the access log until a test takes them, but for those of scrapes."""

    def __init__(self) -> None:
        self.records: list[logging.LogRecord] = []

    def __call__(self, record: logging.LogRecord) -> bool:
        """As a logger's filter: it lets none pass."""
        if vars(record)["path"] != "/metrics":
            self.records.append(record)
        return False

    def take(self) -> dict[str, Any]:
        """The fields of the one line that there is, or that there will be soon."""
        (fields,) = self.take_all(1)
        return fields

    def take_all(self, count: int) -> list[dict[str, Any]]:
        """The fields of as many, and there are no more."""
        until(lambda: len(self.records) >= count)
        records = self.records[:]
        self.records.clear()
        assert len(records) == count
        return [{name: getattr(record, name) for name in FIELDS} for record in records]


@contextmanager
def access_lines() -> Iterator[Lines]:
    """The access lines of all servers of this process, and nobody else hears of them."""
    log = logging.getLogger("bunpy.access")
    lines = Lines()
    log.addFilter(lines)
    try:
        yield lines
        assert [record.getMessage() for record in lines.records] == []
    finally:
        log.removeFilter(lines)


class Metrics(dict[str, float]):
    """The samples of a server's /metrics by name and labels, as they stand there; ``since`` tells what has changed."""

    size = 0

    @classmethod
    def of(cls, server: ServerLike | str) -> Metrics:
        """Scrape them now, over a connection of its own."""
        head = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        data = exchange(server, head).data
        (answer,) = parse_answers(data)
        assert answer.status == 200
        samples = cls()
        samples.size = len(data)
        for line in answer.text().splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                samples[name] = float(value)
        return samples

    def since(self, before: Metrics) -> dict[str, float]:
        """By how much counters have grown, those that have, and of histograms the counts.

        Without what the scrapes did: the answer to the first, and the connection of this one.
        """
        assert self.keys() == before.keys()
        by_us = {
            "bunpy_connections_total": 1,
            "bunpy_sent_bytes_total": before.size,
            'bunpy_responses_total{status="2xx"}': 1,
            "bunpy_answer_duration_seconds_count": 1,
        }
        changes = {
            name: value - before[name] - by_us.get(name, 0)
            for name, value in self.items()
            if name.partition("{")[0].endswith(("_total", "_count"))
        }
        return {name: value for name, value in changes.items() if value}
