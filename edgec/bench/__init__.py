"""Latency: interleaved rounds, statistics, conversions, operators."""
