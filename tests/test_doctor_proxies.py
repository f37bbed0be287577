"""Who lies between, by the marks that they leave."""

from __future__ import annotations

import pytest

from bunpy.doctor.proxies import guess
from bunpy.doctor.settings import NAMES


@pytest.mark.parametrize(
    ("headers", "names"),
    [
        ({}, ()),
        ({"server": "nginx/1.22.1"}, ("nginx",)),
        ({"server": "openresty"}, ("nginx",)),
        ({"server": "Caddy"}, ("caddy",)),
        ({"server": "uvicorn", "via": "1.1 Caddy"}, ("caddy",)),
        ({"server": "Apache/2.4.58 (Debian)"}, ("apache",)),
        ({"via": "1.1 example.org (Apache/2.4.58)"}, ("apache",)),
        ({"server": "awselb/2.0"}, ("aws_alb",)),
        ({"set-cookie": "AWSALB=x; Path=/", "server": "nginx"}, ("aws_alb", "nginx")),
        ({"via": "1.1 google"}, ("google_cloud",)),
        ({"server": "cloudflare", "cf-ray": "8a-FRA"}, ("cloudflare",)),
        ({"server": "cloudflare", "via": "1.1 Caddy"}, ("cloudflare", "caddy")),
        ({"x-azure-ref": "2024"}, ("azure",)),
        ({"server": "Microsoft-Azure-Application-Gateway/v2"}, ("azure",)),
        ({"server": "apachesque", "via": "1.1 googlesque"}, ()),
    ],
)
def test_guess(headers: dict[str, str], names: tuple[str, ...]) -> None:
    assert guess(headers) == names
    assert set(names) <= set(NAMES)
