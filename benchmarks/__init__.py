"""Benchmarks: speed and memory. Never run as tests."""
