"""Makes the picture of a report that the README shows.

    python docs/pictures.py RUN

takes `report.html` of the run's folder, opens it in Chromium and writes the first screen to `docs/images/report.png`.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

TARGET = Path(__file__).parent / "images" / "report.png"
WIDTH, HEIGHT = 1280, 824
COLOURS = 128  # a page of text and bars needs no more, and the file stays small
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("disable-background-networking", "disable-component-update", "disable-gpu", "disable-sync", "no-first-run")


def take(report: Path, target: Path = TARGET, width: int = WIDTH, height: int = HEIGHT) -> None:
    """Writes the first screen of a page as a PNG.

    Args:
        report: a self-contained HTML file.
        target: the PNG to write.
        width: of the screen, in pixels.
        height: of the screen, in pixels.
    """
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit("Install Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        screen = Path(folder) / "screen.png"
        options = [*QUIET, "headless", "no-sandbox", "hide-scrollbars", f"user-data-dir={folder}/profile"]
        options += [f"window-size={width},{height}", f"screenshot={screen}"]
        command = [browser, *(f"--{option}" for option in options), report.absolute().as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        target.parent.mkdir(exist_ok=True)
        Image.open(screen).convert("RGB").quantize(COLOURS).save(target, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run")
    take(parser.parse_args().run / "report.html")
