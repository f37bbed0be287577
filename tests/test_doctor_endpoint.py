"""The stream that the doctor can look at exactly."""

from __future__ import annotations

import json

import pytest
from watching import SOON

from bunpy.doctor import probe
from bunpy.doctor.endpoint import EVENT_TYPE
from bunpy.testing import EventClient, request, serving


def test_each_event_says_when_it_was_made() -> None:
    with serving(probe) as server, EventClient(server, "/?seconds=0.75&size=9") as client:
        events = client.read_all()
        assert client.retry == 2000
    assert [(event.event, event.id) for event in events] == [
        (EVENT_TYPE, str(n)) for n in (1, 2, 3)
    ]
    data = [json.loads(event.data) for event in events]
    moments = [told["at"] for told in data]
    # Milliseconds from the first on. The loop's clock counts whole ones: what it waits for may come one too early.
    assert 0 <= moments[0] < 1000 * SOON
    assert 248 <= moments[1] <= moments[2] >= 498
    assert all(told["padding"] == "x" * 9 and told["time"] > 1.7e12 for told in data)
    assert [("request" in told) for told in data] == [True, False, False]


def test_it_goes_on_after_the_last_event_id_and_tells_what_it_saw() -> None:
    with serving(probe) as server:
        headers = {"Via": "1.0 x", "Accept-Encoding": "gzip", "Cookie": "secret"}
        with EventClient(server, "/?seconds=0", headers=headers, last_event_id="41") as client:
            (event,) = client.read_all()
    assert event.id == "42"
    told = json.loads(event.data)["request"]
    assert told == {
        "version": "1.1",
        "headers": {"via": "1.0 x", "accept-encoding": "gzip", "last-event-id": "41"},
    }


@pytest.mark.parametrize("last_id", ["x", "-1", "1.5", "\u0664"])
def test_an_id_that_is_not_its_own_begins_anew(last_id: str) -> None:
    with (
        serving(probe) as server,
        EventClient(server, "/?seconds=0", last_event_id=last_id) as client,
    ):
        assert [event.id for event in client.read_all()] == ["1"]


def test_silence_in_the_middle_has_heartbeats() -> None:
    with (
        serving(probe, heartbeat=0.1) as server,
        EventClient(server, "/?seconds=0.5&idle=0.4") as client,
    ):
        first, second = (json.loads(event.data)["at"] for event in client.read_all())
        assert client.comments >= 2
    assert second - first >= 600


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("seconds=x", "seconds is 'x': it is a number from 0 to 600."),
        ("seconds=601", "from 0 to 600."),
        ("idle=-1", "idle is '-1'"),
        ("idle=nan", "idle is 'nan'"),
        ("size=65537", "from 0 to 65536."),
        ("sizes=1", "The probe has no option sizes; it has seconds, idle, size."),
    ],
)
def test_what_it_refuses(query: str, says: str) -> None:
    with serving(probe) as server:
        answer = request(server, path=f"/?{query}")
    assert answer.status == 400
    assert says in answer.text()
