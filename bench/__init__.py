"""Measures the whole pipeline on this machine: CPU time an event of every process, throughput, and latency."""
