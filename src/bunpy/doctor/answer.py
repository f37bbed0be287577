"""What an answer's head tells: findings from it alone. How the events flow is not here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from bunpy.doctor.finding import Finding
from bunpy.doctor.handshake import Handshake
from bunpy.doctor.observation import Observation
from bunpy.doctor.question import Question
from bunpy.doctor.settings import advice
from bunpy.testing.head import Head

__all__ = ["answer_findings", "content_coding"]

_EVENT_STREAM: Final = "text/event-stream"
#: What a status other than 200 means for a client of event streams; an EventSource gives up on all of them.
_STATUSES: Final[Mapping[int, str]] = {
    204: "which tells an EventSource to stop: this stream is over",
    401: "it wants to know who asks: --header 'Authorization: ...' or --header 'Cookie: ...'",
    403: "it does not let this client in: a --header 'Cookie: ...' or --origin may be missing",
    404: "there is nothing at this path: look at the URL, and at what the proxy passes on",
    405: "it wants another method: --method POST --data '...'",
    406: "it has no text/event-stream for whoever asks with Accept: text/event-stream",
    421: "it does not answer for this host name: name it in allowed_hosts",
    429: "too many requests or streams from here",
    500: "the server has failed: its log says why",
    502: "the proxy got no answer of the server's: it is not running, or not where the proxy looks",
    503: "the server is not ready, or has as many streams as it takes",
    504: "the proxy has waited too long for the server's head: it makes no event, or does not run",
}
_UNAVAILABLE: Final = (421, 502, 503, 504)


def content_coding(head: Head) -> str:
    """The Content-Encoding in lower case, "" if there is none."""
    coding = head.headers.get("content-encoding", "").strip().lower()
    return "" if coding == "identity" else coding


def answer_findings(
    question: Question,
    observation: Observation,
    handshake: Handshake | None,
    proxies: tuple[str, ...],
) -> list[Finding]:
    """All that the head of the answer tells; one finding if it is not that of an event stream."""
    head = observation.head
    if head is None:
        seen = (
            f"not one byte of an answer in {observation.watched:.1f} s: a proxy holds it back until it has more,"
            " or the server has not begun"
        )
        return [Finding("buffering", "problem", seen, advice("buffering", proxies))]
    if head.status != 200:
        return [_refusal(head, proxies)]
    kind = head.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != _EVENT_STREAM:
        seen = f"the Content-Type is {kind or 'missing'}, and an EventSource takes {_EVENT_STREAM} only"
        return [Finding("answer", "problem", seen, advice("content_type"))]
    return [
        _answer(kind, observation.head_time),
        _http_version(question, head, handshake, proxies),
        *_upstream(observation, proxies),
        _framing(head, proxies),
        _compression(head, proxies),
        _caching(head, proxies),
        *_accelerator(head, proxies),
        *_cors(question, head, proxies),
    ]


def _refusal(head: Head, proxies: tuple[str, ...]) -> Finding:
    status = f"{head.status} {head.reason}".rstrip()
    if 300 <= head.status < 400:
        target = head.headers.get("location", "nowhere")
        seen = (
            f"{status} to {target}: a client follows, at each reconnection again; look at that URL"
        )
    else:
        seen = f"{status}: {_STATUSES.get(head.status, 'an EventSource takes 200 only')}"
    settings = advice("unavailable", proxies) if head.status in _UNAVAILABLE else {}
    return Finding("answer", "problem", seen, settings)


def _answer(kind: str, delay: float) -> Finding:
    seen = f"200, {kind}, {1000 * delay:.0f} ms after the request"
    charset = kind.lower().partition("charset=")[2].partition(";")[0].strip(' "')
    if charset not in ("", "utf-8", "utf8"):
        seen += f"; it is read as UTF-8 all the same, and not as {charset}"
        return Finding("answer", "warning", seen, advice("content_type"))
    return Finding("answer", "ok", seen)


def _http_version(
    question: Question, head: Head, handshake: Handshake | None, proxies: tuple[str, ...]
) -> Finding:
    more = "; HTTP/3 is offered too" if "h3" in head.headers.get("alt-svc", "") else ""
    if handshake is not None and handshake.protocol == "h2":
        return Finding("http_version", "ok", f"HTTP/2 is offered{more}")
    where = "" if question.address.is_secure else " without TLS"
    seen = (
        f"HTTP/{head.version}{where}, no HTTP/2: a browser opens 6 connections to a host at most,"
        f" so that the seventh stream or request of its tabs waits{more}"
    )
    return Finding("http_version", "warning", seen, advice("browser_limit", proxies))


def _upstream(observation: Observation, proxies: tuple[str, ...]) -> Iterator[Finding]:
    """What reached the server, which the probe alone can tell."""
    if observation.probed is None:
        return
    version = observation.probed.request.get("version")
    if version == "1.1":
        yield Finding("upstream", "ok", "the server is asked with HTTP/1.1")
    elif version is not None:
        seen = (
            f"the server is asked with HTTP/{version}: each stream costs a new connection there, and a stream"
            " that was cut looks like one that has ended"
        )
        yield Finding("upstream", "warning", seen, advice("upstream", proxies))


def _framing(head: Head, proxies: tuple[str, ...]) -> Finding:
    if "content-length" in head.headers:
        seen = f"Content-Length: {head.headers['content-length']}: someone has waited for the end of the stream"
        return Finding("framing", "problem", seen, advice("buffering", proxies))
    if "transfer-encoding" in head.headers:
        return Finding("framing", "ok", f"HTTP/{head.version}, in chunks")
    seen = (
        f"HTTP/{head.version} without chunks: the stream lasts until the connection is closed,"
        " and one that was cut cannot be told from one that has ended"
    )
    return Finding("framing", "warning", seen, advice("framing", proxies))


def _compression(head: Head, proxies: tuple[str, ...]) -> Finding:
    coding = content_coding(head)
    if not coding:
        return Finding("compression", "ok", "none, though it was offered")
    seen = (
        f"the stream is compressed ({coding}): events wait in the compressor unless each is flushed"
    )
    return Finding("compression", "warning", seen, advice("compression", proxies))


def _caching(head: Head, proxies: tuple[str, ...]) -> Finding:
    control = head.headers.get("cache-control", "")
    hit = head.headers.get("x-cache", "") or head.headers.get("cf-cache-status", "")
    if hit.lower().startswith("hit") or int(_digits(head.headers.get("age", ""))) > 0:
        seen = f"the answer comes from a cache (X-Cache: {hit or '-'}, Age: {head.headers.get('age', '-')})"
        return Finding("caching", "problem", seen, advice("cache", proxies))
    if {"no-store", "no-cache"} & {part.strip().lower() for part in control.split(",")}:
        return Finding("caching", "ok", f"Cache-Control: {control}")
    seen = (
        f"Cache-Control is {control or 'missing'}: a cache may keep the stream; no-store forbids it"
    )
    return Finding("caching", "warning", seen, advice("cache", proxies))


def _digits(text: str) -> str:
    return text if text.isascii() and text.isdecimal() else "0"


def _accelerator(head: Head, proxies: tuple[str, ...]) -> Iterator[Finding]:
    """X-Accel-Buffering, which nginx keeps for itself: it is missed only where nobody lies between."""
    value = head.headers.get("x-accel-buffering", "").strip().lower()
    if not proxies and value != "no":
        seen = (
            f"X-Accel-Buffering is {value or 'missing'}: an nginx in front would buffer the stream"
        )
        yield Finding("accelerator", "warning", seen, advice("accelerator"))


def _cors(question: Question, head: Head, proxies: tuple[str, ...]) -> Iterator[Finding]:
    if question.origin is None:
        return
    allowed = head.headers.get("access-control-allow-origin")
    if allowed in ("*", question.origin):
        credentials = (
            head.headers.get("access-control-allow-credentials") == "true" and allowed != "*"
        )
        without = "" if credentials else "; not with cookies (withCredentials)"
        yield Finding("cors", "ok", f"pages of {question.origin} may read it{without}")
        return
    seen = (
        f"Access-Control-Allow-Origin is {allowed or 'missing'}: a page of {question.origin}"
        " cannot read the stream"
    )
    yield Finding("cors", "problem", seen, advice("cors", proxies))
