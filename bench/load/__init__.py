"""A whole server in a process of its own, over real sockets: bunpy's in both implementations, and a bare protocol's."""
