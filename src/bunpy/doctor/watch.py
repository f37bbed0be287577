"""One connection that is watched: a question out, an observation in. Nothing is judged here."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from bunpy.doctor.coding import coding_for
from bunpy.doctor.observation import Observation, Outcome
from bunpy.doctor.question import Question
from bunpy.testing.connection import Connection
from bunpy.testing.deadline import Deadline
from bunpy.testing.incoming import IncomingAnswer

__all__ = ["watch"]


def watch(
    question: Question,
    connection: Connection,
    observation: Observation,
    seconds: float,
    until: Callable[[Observation], bool] = lambda _: False,
    **headers: str,
) -> None:
    """Ask on ``connection``, with ``headers`` besides, and note what comes for so many seconds, or until that is true.

    An answer that is no event stream is noted by its head alone. What has been noted stands even if this is
    interrupted. Raises ``InvalidAnswer`` and ``IncompleteAnswer`` for an answer that is none, ``ValueError`` for
    content that is not coded as it says.
    """
    deadline = Deadline(seconds)
    observation.asked = time.monotonic()
    try:
        with contextlib.suppress(ConnectionError):  # a refusal may come before all was sent
            connection.send(question.request(**headers), timeout=deadline)
        answer = IncomingAnswer(connection, question.method, deadline)
        observation.begin(answer.head, time.monotonic())
        if _is_stream(observation):
            _follow(answer, connection, observation, deadline, until)
    except TimeoutError:
        pass
    finally:
        if observation.end is None:
            observation.finish(time.monotonic())


def _follow(
    answer: IncomingAnswer,
    connection: Connection,
    observation: Observation,
    deadline: Deadline,
    until: Callable[[Observation], bool],
) -> None:
    coding = coding_for(answer.head.headers.get("content-encoding", ""))
    observation.is_opaque = coding is None
    while answer.ended_cleanly is None and not until(observation):
        content = answer.receive(deadline)
        now = time.monotonic()
        if content:
            decoded = content if coding is None else coding.decode(content)
            if decoded:
                observation.add(decoded, now)
    if answer.ended_cleanly is not None:
        end: Outcome | None = "clean" if answer.ended_cleanly else connection.end
        observation.finish(time.monotonic(), end)


def _is_stream(observation: Observation) -> bool:
    head = observation.head
    return (
        head is not None
        and head.status == 200
        and head.headers.get("content-type", "").lower().startswith("text/event-stream")
    )
