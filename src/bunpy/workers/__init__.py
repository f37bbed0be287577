"""Several processes that serve on one port: who starts them, replaces them, and sums up what they count."""
