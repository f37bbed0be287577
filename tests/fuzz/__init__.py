"""Fuzzers that run for as long as they are told to: ``README.md`` says how. No test is collected here."""
