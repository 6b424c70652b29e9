"""Measured benchmarks."""
