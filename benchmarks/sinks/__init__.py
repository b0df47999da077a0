"""Mail servers for the benchmarks: one that accepts everything, one that fails on demand."""
