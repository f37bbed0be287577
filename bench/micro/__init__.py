"""Pieces of bunpy in one process, without sockets: pytest-benchmark's, over both twins."""
