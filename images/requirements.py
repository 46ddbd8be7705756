"""Prints what pyproject.toml (of the working directory) wants, so that an image's dependencies do not depend on its source.

python images/requirements.py models server      the dependencies, and those of two extras
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
print(
    "\n".join(
        project["dependencies"] + [name for extra in sys.argv[1:] for name in project["optional-dependencies"][extra]]
    )
)
