"""Benchmark and profile neural-network training: suites in, trusted reports out."""

__version__ = "0.1.0"
