"""Which setting mends which fault."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from bunpy.doctor.settings import _SETTINGS, NAMES, Fault, advice, known_limits


def test_every_fault_has_settings_of_known_proxies() -> None:
    assert set(_SETTINGS) == set(get_args(Fault))
    for fault, settings in _SETTINGS.items():
        assert settings, fault
        assert set(settings) <= set(NAMES), fault
        assert all(setting and "\n" not in setting for setting in settings.values()), fault


@pytest.mark.parametrize("fault", ["buffering", "compression", "idle", "lifetime", "browser_limit"])
def test_what_all_proxies_do_has_a_setting_for_all(fault: Fault) -> None:
    assert set(advice(fault)) == set(NAMES)


def test_who_is_known_to_lie_between_comes_first() -> None:
    assert [*advice("idle", ("azure", "caddy"))][:3] == ["azure", "caddy", "nginx"]
    assert [*advice("ids", ("nginx",))] == ["bunpy"]
    assert [*advice("idle")] == [*NAMES]


@pytest.mark.parametrize(
    ("seconds", "kind", "says"),
    [
        (60.0, "idle", "nginx's proxy_read_timeout"),
        (61.1, "idle", "AWS ALB"),
        (63.0, "idle", ""),
        (2.0, "idle", ""),
        (30.4, "lifetime", "Google Cloud"),
        (60.0, "lifetime", ""),
    ],
)
def test_known_limits(seconds: float, kind: str, says: str) -> None:
    found = known_limits(seconds, kind)  # type: ignore[arg-type]
    assert says in found
    assert bool(found) == bool(says)


def test_the_page_has_every_setting() -> None:
    page = (Path(__file__).parent.parent / "docs" / "doctor.md").read_text(encoding="utf-8")
    rows = page.replace("`", "")
    for settings in _SETTINGS.values():
        for name, setting in settings.items():
            assert f"| {NAMES[name]} | {setting} |" in rows
