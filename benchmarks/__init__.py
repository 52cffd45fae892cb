"""What the design costs, measured by ratio within one run; the predictions are in ``docs/benchmarks.md``."""
