"""bunpy: a Server-Sent Events server. The version is here; ``bunpy.serve`` is where to begin."""

__version__ = "0.1.0"
