"""Follows an event stream through the proxies that lie between, and says what they do to it: the public face.

``bunpy doctor URL`` on the command line is ``main``; ``probe`` is a handler for it to look at::

    from bunpy import doctor

    def handler(req):
        if req.path == "/doctor":
            return doctor.probe(req)
        ...

The work is in the modules, and docs/doctor.md says what is measured and how.
"""

from __future__ import annotations

from bunpy.doctor.endpoint import probe

__all__ = ["main", "probe"]


def main(arguments: list[str]) -> int:
    """Run ``bunpy doctor`` with these arguments, and print the report.

    Returns the exit status: 0 when nothing is worse than a warning, 1 when there is a problem, 2 when the URL
    cannot be reached. Raises ``SystemExit`` as argparse does: 2 for arguments that make no sense, 0 for ``--help``.
    """
    # Not at the top: a server that has only the probe needs no client.
    from bunpy.doctor.command import run

    return run(arguments)
