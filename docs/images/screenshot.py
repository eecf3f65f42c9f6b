"""A screenshot of the report, for the README: a page in headless Chromium, as WebP.

    python report.py && python -m docs.images.screenshot outputs/report/index.html

writes docs/images/report.webp. The browser is the first of chromium, chromium-browser and google-chrome that is
installed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LARGEST = 400_000
"""Bytes of an image of the README."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="an HTML file")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "report.webp")
    parser.add_argument("--size", type=int, nargs=2, default=(1400, 900), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--view", default="", help="part of the page, as #compare")
    given = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"No browser is installed: one of {', '.join(BROWSERS)} is needed.")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        flags = ["--headless=new", "--no-sandbox", "--hide-scrollbars", "--virtual-time-budget=10000"]
        window = [
            f"--window-size={','.join(map(str, given.size))}",
            f"--screenshot={shot}",
            f"--user-data-dir={folder}",
        ]
        address = given.page.resolve().as_uri() + given.view
        subprocess.run([browser, *flags, *window, address], check=True, timeout=300, capture_output=True)  # noqa: S603
        image = Image.open(shot).convert("RGB")
    for quality in (90, 80, 70, 60):
        image.save(given.out, quality=quality, method=6)
        if given.out.stat().st_size <= LARGEST:
            break
    print(f"{given.out}: {given.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
