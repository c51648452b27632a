"""Cut the tables that docs/grade.md grades: python docs/grade_development.py PUBLISHED.csv OUT_FOLDER

From a table of published throughputs with a `source_repo` column come two: MLPerf training submissions of
ResNet-50, whose software is one MLPerf release whatever each submitter calls it, and one container across
generations on one device.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

CONTAINERS = "lambdal/deeplearning-benchmark"


def main() -> None:
    """Write `mlperf-resnet50.csv` and `one-container.csv`."""
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    with source.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    mlperf = [
        row | {"software": f"MLPerf {row['source_repo'].rpartition('_')[2]}"}
        for row in rows
        if row["source_repo"].startswith("mlcommons/") and row["model"] == "resnet50_v1.5"
    ]
    containers = [row for row in rows if row["source_repo"] == CONTAINERS and row["n_gpus"] == "1"]
    for name, chosen in (("mlperf-resnet50.csv", mlperf), ("one-container.csv", containers)):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(chosen)


if __name__ == "__main__":
    main()
