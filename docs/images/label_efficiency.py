"""The figure of the README: labels against mIoU, from label_efficiency.csv, whose numbers stand in docs/RESULTS.md.

python -m docs.images.label_efficiency
"""

from __future__ import annotations

import csv
from pathlib import Path

from reports.figures import score_figure

FOLDER = Path(__file__).parent
TABLE, FIGURE = FOLDER / "label_efficiency.csv", FOLDER / "label_efficiency.png"


def lines() -> dict[str, list[tuple[float, float, float]]]:
    """Points (labelled faces, mIoU, standard deviation) of each line."""
    points: dict[str, list[tuple[float, float, float]]] = {}
    with TABLE.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            place = (float(row["labelled faces"]), float(row["mIoU"]), float(row["standard deviation"]))
            points.setdefault(row["method"], []).append(place)
    return points


def main() -> None:
    FIGURE.write_bytes(score_figure(lines(), "labelled real faces (of 560)", "mIoU on 70 real test faces (%)"))
    print(FIGURE)


if __name__ == "__main__":
    main()
