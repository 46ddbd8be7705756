"""Prints the dependencies in the pyproject.toml of the working directory.

An image installs them in a layer of its own, which a change of the source leaves as it is.

    python images/requirements.py models server      # the dependencies, and those of two extras
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
extras = [line for extra in sys.argv[1:] for line in project["optional-dependencies"][extra]]
print("\n".join(project["dependencies"] + extras))
