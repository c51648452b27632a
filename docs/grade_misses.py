"""Count what a grade's intervals did not announce.

benchbox grade TABLE.csv --format csv | python docs/grade_misses.py

Errors of more than 60 % of the measured rate, those of them whose interval did not hold it, and of these how
many are too high and how many had an interval that reached 60 %; how many of all pairs lie under and above
their interval; then each model, software, target and kind of what was missed, and each pair.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter

LARGE = 0.6


def main() -> None:
    """Print the counts and a line for each kind of miss."""
    rows = list(csv.DictReader(sys.stdin))
    large = [row for row in rows if abs(_error(row)) > LARGE]
    missed = [row for row in large if not float(row["low"]) <= float(row["measured"]) <= float(row["high"])]
    too_high = sum(_error(row) > 0 for row in missed)
    reaching = sum(float(row["predicted"]) / float(row["low"]) > 1 + LARGE for row in missed)
    sys.stdout.write(
        f"{len(large)} of {len(rows)} pairs are off by more than 60 %, {len(missed)} unannounced: "
        f"{too_high} too high, {reaching} with an interval that reaches 60 %\n"
    )
    under = sum(float(row["measured"]) < float(row["low"]) for row in rows)
    above = sum(float(row["measured"]) > float(row["high"]) for row in rows)
    sys.stdout.write(
        f"{100 * under / len(rows):.1f} % lie under their interval, {100 * above / len(rows):.1f} % above\n"
    )
    kinds = Counter(
        (row["model"], row["software"], f"{row['num_devices']} x {row['target']}", row["kind"])
        for row in missed
    )
    for kind, number in kinds.most_common():
        sys.stdout.write(f"{number}  {', '.join(kind)}\n")
    for row in missed:
        measured, low, predicted = (float(row[name]) for name in ("measured", "low", "predicted"))
        sys.stdout.write(
            f"{row['model']} on {row['num_devices']} x {row['target']} from {row['source']}: measured "
            f"{measured / predicted:.4f} of what was foretold, the interval begins at {low / predicted:.4f}\n"
        )


def _error(row: dict[str, str]) -> float:
    return float(row["predicted"]) / float(row["measured"]) - 1


if __name__ == "__main__":
    main()
