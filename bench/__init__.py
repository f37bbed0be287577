"""The benchmarks: ``python -m bench``. What they measure and how to read it is in README.md."""
