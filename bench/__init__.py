"""The benchmark: Hermes beside its peers, on the same work and in the same run. `make bench`; docs/benchmarks.md."""
