"""The live demo: ``python -m bunpy.demo``. It uses bunpy as anybody would, through its public names only."""
