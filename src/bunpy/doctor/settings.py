"""Which setting mends which fault, proxy by proxy, and what their defaults are. No fault is found here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

__all__ = ["NAMES", "Fault", "advice", "known_limits"]

#: The proxies as people call them, in the order in which they are shown.
NAMES: Final[Mapping[str, str]] = {
    "nginx": "nginx",
    "caddy": "Caddy",
    "apache": "Apache",
    "aws_alb": "AWS ALB",
    "google_cloud": "Google Cloud HTTPS LB",
    "cloudflare": "Cloudflare",
    "azure": "Azure",
    "bunpy": "bunpy",
}

Fault = Literal[
    "buffering", "compression", "idle", "lifetime", "heartbeat", "browser_limit", "framing", "upstream", "cache",
    "accelerator", "ids", "resumption", "retry", "cors", "content_type", "unavailable",
]  # fmt: skip

_HEARTBEAT: Final = "serve(..., heartbeat=15): a comment after so many seconds of silence"
_RETURN: Final = "what was missed comes after the reconnection if events have ids: yield {'id': ..., 'data': ...}"

_SETTINGS: Final[Mapping[Fault, Mapping[str, str]]] = {
    "buffering": {
        "nginx": "proxy_buffering off;   # or from the server X-Accel-Buffering: no, without proxy_ignore_headers",
        "caddy": "flush_interval -1   # in reverse_proxy",
        "apache": "ProxyPass /events http://127.0.0.1:3000/events flushpackets=on",
        "aws_alb": "it does not buffer: look behind it",
        "google_cloud": "it does not buffer: look behind it; Cloud CDN may: --no-enable-cdn",
        "cloudflare": "Caching > Cache Rules: Bypass cache; Response Buffering (Enterprise) off, as it is by default",
        "azure": "az network application-gateway update --set globalConfiguration.enableResponseBuffering=false",
        "bunpy": "an event leaves when it is yielded: do not collect them, and do not block the event loop in between",
    },
    "compression": {
        "nginx": "gzip off;   # in the location; or take text/event-stream (and *) out of gzip_types",
        "caddy": "@rest not path /events*   and   encode @rest zstd gzip",
        "apache": 'SetEnvIf Request_URI "^/events" no-gzip no-brotli',
        "aws_alb": "it does not compress: look behind it",
        "google_cloud": "gcloud compute backend-services update NAME --global --compression-mode=DISABLED",
        "cloudflare": "Rules > Compression Rules: off for the path; or from the server Cache-Control: no-transform",
        "azure": "Front Door route: compression off (az afd route update --enable-compression false)",
        "bunpy": "SSEResponse(source, {'Cache-Control': 'no-store, no-transform'}) asks others not to",
    },
    "idle": {
        "nginx": "proxy_read_timeout 1h;   # 60 s by default",
        "caddy": "read_timeout 1h   # in reverse_proxy's transport http; none by default",
        "apache": "ProxyPass /events http://127.0.0.1:3000/events timeout=3600   # 60 s by default",
        "aws_alb": "aws elbv2 modify-load-balancer-attributes --load-balancer-arn ARN"
        " --attributes Key=idle_timeout.timeout_seconds,Value=3600   # 60 s by default",
        "google_cloud": "gcloud compute backend-services update NAME --global --timeout=86400   # 30 s by default",
        "cloudflare": "send something at least each 100 s; the Proxy Read Timeout can be set on Enterprise plans only",
        "azure": "az network application-gateway http-settings update --timeout 3600   # 20 s by default;"
        " Front Door: az afd profile update --origin-response-timeout-seconds 240",
        "bunpy": "serve(..., heartbeat=N) with N well below that: a comment after N seconds of silence (default: 15)",
    },
    "lifetime": {
        "nginx": "it limits no stream as a whole; worker_shutdown_timeout cuts streams when it is reloaded",
        "caddy": "no write among the servers' timeouts; in reverse_proxy stream_close_delay 1h for reloads",
        "apache": "it limits no stream as a whole; GracefulShutdownTimeout 0",
        "aws_alb": "it limits no stream as a whole; deregistration_delay.timeout_seconds, 300 s, at a deployment",
        "google_cloud": "gcloud compute backend-services update NAME --global --timeout=86400   # 30 s by default,"
        " for a whole response",
        "cloudflare": "it limits no stream as a whole, but restarts now and then: clients must come back",
        "azure": "Front Door: az afd profile update --origin-response-timeout-seconds 240",
        "bunpy": f"the log tells if the generator raised; {_RETURN}",
    },
    "heartbeat": {"bunpy": _HEARTBEAT},
    "browser_limit": {
        "nginx": "listen 443 ssl; http2 on;   # before 1.25.1: listen 443 ssl http2;",
        "caddy": "a site address with a host name: it has HTTPS, HTTP/2 and HTTP/3 by itself",
        "apache": "Protocols h2 http/1.1   # with mod_http2 and an HTTPS virtual host",
        "aws_alb": "an HTTPS listener; routing.http2.enabled=true (the default)",
        "google_cloud": "a target HTTPS proxy: HTTP/2 and HTTP/3 are on",
        "cloudflare": "Speed > Settings: HTTP/2 on (the default), Edge Certificates: Always Use HTTPS",
        "azure": "az network application-gateway update --http2 Enabled, with an HTTPS listener",
        "bunpy": "it speaks HTTP/1.1: let a proxy speak HTTP/2 with the browsers",
    },
    "framing": {
        "nginx": "proxy_http_version 1.1; and chunked_transfer_encoding on; (the default)",
        "apache": "take out downgrade-1.0, force-response-1.0 and nokeepalive",
        "bunpy": "it sends chunks to whoever asks with HTTP/1.1",
    },
    "upstream": {
        "nginx": 'proxy_http_version 1.1; proxy_set_header Connection "";',
        "apache": "take out force-proxy-request-1.0 and proxy-nokeepalive",
    },
    "cache": {
        "nginx": 'proxy_cache off; and no "expires" in the location',
        "caddy": "no header Cache-Control in the site block",
        "apache": 'CacheDisable "/events"',
        "google_cloud": "gcloud compute backend-services update NAME --global --cache-mode=USE_ORIGIN_HEADERS",
        "cloudflare": "Caching > Cache Rules: Bypass cache for the path",
        "azure": "Front Door route: caching off",
        "bunpy": "SSEResponse sends Cache-Control: no-store unless its headers say otherwise",
    },
    "accelerator": {"bunpy": "SSEResponse sends X-Accel-Buffering: no unless its headers say otherwise"},
    "ids": {"bunpy": "yield {'id': n, 'data': ...}, and go on after req.last_event_id"},
    "resumption": {
        "nginx": "no proxy_set_header Last-Event-ID, no proxy_cache; the field passes by default",
        "bunpy": "go on after req.last_event_id, with the event that follows it",
    },
    "retry": {"bunpy": "yield {'retry': 3000}: milliseconds until a client comes back"},
    "cors": {
        "nginx": "no add_header Access-Control-Allow-Origin beside the server's own",
        "bunpy": "serve(..., cors={'origins': ['https://example.org']})",
    },
    "content_type": {"bunpy": "return SSEResponse(source), without a Content-Type of your own"},
    "unavailable": {
        "nginx": "proxy_pass must name where the server listens; the error log says what failed",
        "aws_alb": "the target group's health check must succeed",
        "google_cloud": "the backend service's health check must succeed",
        "azure": "the backend health probe must succeed",
        "bunpy": "serve(..., hostname='0.0.0.0') if the proxy is on another machine; allowed_hosts for its Host name",
    },
}  # fmt: skip

#: After so many seconds of silence, or whatever is sent, someone hangs up by default.
_IDLE_LIMITS: Final = (
    (20, "Azure Application Gateway's request timeout"),
    (30, "Azure Front Door's origin response timeout"),
    (50, "HAProxy's usual timeout server"),
    (60, "nginx's proxy_read_timeout, Apache's ProxyTimeout and AWS ALB's idle timeout"),
    (100, "Cloudflare's Proxy Read Timeout"),
    (120, "Cloudflare's Proxy Read Timeout"),
    (240, "Azure Load Balancer's idle timeout"),
    (300, "Envoy's stream_idle_timeout"),
    (350, "AWS NLB's idle timeout"),
    (600, "Google Cloud's TCP timeout"),
)
_LIFETIME_LIMITS: Final = (
    (15, "Envoy's route timeout"),
    (30, "Google Cloud's backend service timeout"),
)


def advice(fault: Fault, proxies: Iterable[str] = ()) -> dict[str, str]:
    """The settings against a fault by proxy, those of ``proxies`` first, and last what bunpy itself can do."""
    settings = _SETTINGS[fault]
    first = [name for name in proxies if name in settings]
    rest = [name for name in NAMES if name in settings and name not in first]
    return {name: settings[name] for name in [*first, *rest]}


def known_limits(seconds: float, kind: Literal["idle", "lifetime"]) -> str:
    """Whose default it is to hang up after so many seconds of silence, or in all; "" if it is nobody's."""
    limits = _IDLE_LIMITS if kind == "idle" else _LIFETIME_LIMITS
    found = [name for limit, name in limits if abs(seconds - limit) <= max(0.5, limit / 50)]
    return " or ".join(found)
