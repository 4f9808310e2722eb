"""Run any number of cases: `python -m tests.fuzz --cases 2000 --seed 7`."""

import argparse
import os
import sys
from collections import Counter

from tests.fuzz.planted import plant
from tests.fuzz.run import run_case, scratch


def main() -> None:
    """Run cases, print failures, and exit with 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=main.__doc__)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", type=int, help="run this case alone, and print its output")
    parser.add_argument("--slow", action="store_true", help="videos that are extracted, in place of all else")
    given = parser.parse_args()
    os.fsync = lambda descriptor: None  # nothing here needs to survive a loss of power
    numbers = range(given.first, given.first + given.cases) if given.only is None else [given.only]
    codes: Counter[int] = Counter()
    failed = 0
    with scratch() as folder:
        planted = folder / "planted"
        planted.mkdir()
        plant(planted)
        for number in numbers:
            outcome = run_case(planted, folder / "case", given.seed, number, given.slow)
            codes[outcome.code] += 1
            failed += bool(outcome.faults)
            if outcome.faults or given.only is not None:
                print(outcome, end="\n\n", flush=True)
    print(f"{sum(codes.values())} cases, {failed} failed; exit codes {dict(sorted(codes.items()))}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
