"""Side-by-side ratios, each measured in one run: `python -m benchmarks.NAME [--out results.json]`."""
