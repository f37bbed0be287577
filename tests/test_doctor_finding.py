"""What the doctor finds."""

from __future__ import annotations

from bunpy.doctor.finding import Finding, count


def test_a_finding_without_advice() -> None:
    assert Finding("retry", "ok", "none").advice == {}


def test_count() -> None:
    assert [count(n, "event") for n in (0, 1, 2)] == ["0 events", "1 event", "2 events"]
