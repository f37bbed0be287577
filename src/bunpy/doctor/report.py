"""An examination in words for people, and in JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from typing import Final

from bunpy.doctor.examination import Examination
from bunpy.doctor.finding import Finding, Level, count
from bunpy.doctor.settings import NAMES

__all__ = ["as_json", "as_text"]

_COLOURS: Final[dict[Level, str]] = {"ok": "32", "warning": "33", "problem": "31", "unknown": "36"}
_LEVEL_WIDTH: Final = max(map(len, _COLOURS))


def as_json(examination: Examination) -> str:
    """One object: url, proxies, is_interrupted, seen (numbers) and findings (name, level, seen, advice)."""
    findings = [
        {
            "name": finding.name,
            "level": finding.level,
            "seen": finding.seen,
            "advice": dict(finding.advice),
        }
        for finding in examination.findings
    ]
    found = {
        "url": examination.question.url,
        "proxies": list(examination.proxies),
        "is_interrupted": examination.is_interrupted,
        "seen": examination.seen,
        "findings": findings,
    }
    return json.dumps(found, indent=2, ensure_ascii=False)


def as_text(examination: Examination, *, is_coloured: bool, has_all: bool) -> str:
    """A line for each finding, and below it the settings that mend it.

    Where it is known who lies between, these are their settings and bunpy's alone, unless it ``has_all``.
    """
    shown = {*examination.proxies, "bunpy"} if examination.proxies and not has_all else set(NAMES)
    lines = [*_head(examination), "", *_findings(examination.findings, shown, is_coloured), ""]
    return "\n".join([*lines, _sum(examination, shown)])


def _head(examination: Examination) -> Iterator[str]:
    yield examination.question.url
    through = " and ".join(NAMES[name] for name in examination.proxies)
    observation = examination.observation
    yield (
        (f"through {through}, " if through else "")
        + f"watched for {observation.watched:.1f} s: {count(observation.events, 'event')},"
        f" {count(observation.comments, 'comment')}, {count(observation.size, 'byte')}"
    )


def _findings(
    findings: Sequence[Finding], shown: Container[str], is_coloured: bool
) -> Iterator[str]:
    width = max((len(finding.name) for finding in findings), default=0)
    names = max(
        (len(NAMES[key]) for finding in findings for key in finding.advice if key in shown),
        default=0,
    )
    for finding in findings:
        level = finding.level.ljust(_LEVEL_WIDTH)
        if is_coloured:
            level = f"\x1b[{_COLOURS[finding.level]}m{level}\x1b[0m"
        yield f"{level}  {finding.name.replace('_', ' ').ljust(width)}  {_printable(finding)}"
        for name, setting in finding.advice.items():
            if name in shown:
                yield f"{'':{_LEVEL_WIDTH}}    {NAMES[name].ljust(names)}  {setting}"


def _printable(finding: Finding) -> str:
    """What a server has sent is in it: nothing of that may steer the terminal."""
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1]
        for character in finding.seen
    )


def _sum(examination: Examination, shown: Container[str]) -> str:
    counts = Counter(finding.level for finding in examination.findings)
    levels: tuple[Level, ...] = ("problem", "warning")
    parts = [count(counts[level], level) for level in levels if counts[level]]
    if counts["unknown"]:
        parts.append(f"{counts['unknown']} unknown")
    end = " (interrupted)" if examination.is_interrupted else ""
    advised = {name for finding in examination.findings for name in finding.advice}
    is_shortened = any(name not in shown for name in advised)
    more = "; --all shows the settings of other proxies" if is_shortened else ""
    return (", ".join(parts) or "nothing to mend") + end + more
