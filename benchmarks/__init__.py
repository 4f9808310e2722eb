"""Side-by-side benchmarks; each ratio is measured within one run: `python -m benchmarks.NAME [--out results.json]`."""
