"""bunpy beside others that do the same, on one machine in one run."""
