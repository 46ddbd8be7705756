"""Lists the Debian and Python packages of an image, as a CycloneDX SBOM."""

import json
import subprocess

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

_ASK = """
import importlib.metadata, json, platform, subprocess
query = ["dpkg-query", "--show", "--showformat=${Package} ${Version} ${Architecture}\\n"]
debian = subprocess.run(query, check=True, capture_output=True, text=True).stdout
python = sorted({(found.metadata["Name"], found.version) for found in importlib.metadata.distributions()})
print(json.dumps({"debian": [line.split() for line in debian.splitlines()], "python": python}))
"""


def sbom(image: str, revision: str) -> str:
    """The SBOM of an image on this machine, as CycloneDX 1.6 in JSON.

    Args:
        image: the image's name.
        revision: the commit that it was built from.

    Raises:
        CalledProcessError: docker cannot run the image.
    """
    command = ["docker", "run", "--rm", "--network=none", "--entrypoint=python3", image, "-c", _ASK]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    packages = [
        PackageURL("deb", "debian", name, version, {"arch": architecture})
        for name, version, architecture in found["debian"]
    ]
    packages += [PackageURL("pypi", None, name.lower(), version) for name, version in found["python"]]
    bom = Bom(
        components=[
            Component(type=ComponentType.LIBRARY, name=url.name, version=url.version, purl=url, bom_ref=str(url))
            for url in packages
        ]
    )
    bom.metadata.component = Component(
        type=ComponentType.CONTAINER, name=image.rpartition("/")[2].partition(":")[0], version=revision
    )
    bom.register_dependency(bom.metadata.component, bom.components)
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1)
