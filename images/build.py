"""Builds the images: `make images`.

    python -m images.build [IMAGE ...] [--registry HOST/PATH] [--base IMAGE] [-- OPTIONS OF DOCKER BUILD]

tags each image by commit and writes `build/images.env`, the names that pipelines are compiled with
(ATTRLOOP_<IMAGE>_IMAGE), and `build/<image>.cdx.json`, an SBOM. With a registry it also pushes the images, from a clean
checkout only, and the names are digests.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from images.sbom import sbom

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "build"


def main() -> None:
    """Builds the images and, with a registry, pushes them; a checkout with changes is not pushed."""
    options, docker = _options()
    dirty = bool(_run("git", "status", "--porcelain"))
    if dirty and options.registry:
        sys.exit("There are uncommitted changes: commit them, or build without --registry.")
    revision = _run("git", "rev-parse", "HEAD")
    OUTPUT.mkdir(exist_ok=True)
    names = {}
    for image in options.images or [file.parent.name for file in sorted(ROOT.glob("images/*/Containerfile"))]:
        tag = f"{options.registry or 'attrloop'}/{image}:{revision}{'-dirty' if dirty else ''}"
        _build(
            image, tag, "" if dirty else revision, [f"--build-arg=BASE={options.base}"] * bool(options.base) + docker
        )
        (OUTPUT / f"{image}.cdx.json").write_text(sbom(tag, revision))
        names[f"ATTRLOOP_{image.upper()}_IMAGE"] = _push(tag) if options.registry else tag
        size = int(_run("docker", "inspect", "--format={{.Size}}", tag))
        print(f"{tag}  {size / 1e9:.2f} GB", flush=True)
    file = OUTPUT / "images.env"
    file.write_text("".join(f"{name}={value}\n" for name, value in names.items()))
    print(file.read_text() + f"written to {file.relative_to(ROOT)}")


def _options() -> tuple[argparse.Namespace, list[str]]:
    given = sys.argv[1:]
    own, docker = (given[: given.index("--")], given[given.index("--") + 1 :]) if "--" in given else (given, [])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", help="which images; default: all")
    parser.add_argument("--registry", default="", help="push there; by default the images stay on this machine")
    parser.add_argument(
        "--base", default="", help="a Debian with Python 3.11, by digest; the Containerfiles have the default"
    )
    return parser.parse_args(own), docker


def _build(image: str, tag: str, revision: str, options: list[str]) -> None:
    command = [
        "docker",
        "build",
        f"--file=images/{image}/Containerfile",
        f"--tag={tag}",
        f"--build-arg=REVISION={revision}",
        f"--build-arg=SOURCE={_source()}",
    ]
    subprocess.run([*command, *options, "."], cwd=ROOT, env=os.environ | {"DOCKER_BUILDKIT": "1"}, check=True)


def _source() -> str:
    """URL of the repository without credentials; "" when only this machine knows it."""
    url = urlsplit(_run("git", "config", "--default=", "--get", "remote.origin.url"))
    return f"https://{url.hostname}{url.path.removesuffix('.git')}" if url.scheme in ("https", "ssh") else ""


def _push(tag: str) -> str:
    subprocess.run(["docker", "push", "--quiet", tag], check=True)
    return _run("docker", "inspect", "--format={{index .RepoDigests 0}}", tag)


def _run(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
