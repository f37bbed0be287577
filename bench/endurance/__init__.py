"""What bunpy withstands: very many clients, very long, and clients that mean harm. ``python -m bench.endurance``."""
