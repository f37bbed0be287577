"""The process around the protocol: options, sockets, the loop's thread, signals, and the end."""
