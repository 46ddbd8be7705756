"""What mkdocs does beside rendering `docs/`: pages from READMEs and from code, and links between all of them.

A link in a README is written for the repository. On the site it leads to the page made from that file; where there is
no such page, its text stays without a link. A link to a file that does not exist is a warning, which `--strict` makes
an error.
"""

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from attrloop.pipelines.cli import reference as cli

ROOT = Path(__file__).resolve().parents[1]
LOG = logging.getLogger("mkdocs.hooks.attrloop")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
REFERENCE = re.compile(r"<!-- reference: (\w+) -->")
LIST_AFTER_TEXT = re.compile(r"(?m)^(?![-*#|>]|\d+\. )(\S.*)\n(?=[-*] |1\. )")


def pages() -> dict[str, str]:
    """The page of each Markdown file: its path in the repository, and its path on the site."""
    found = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
    found |= {path.relative_to(ROOT).as_posix(): path.name for path in sorted((ROOT / "docs").glob("*.md"))}
    for room in ("components", "components/*", "pipelines/*", "images", "manifests", "examples/*"):
        for readme in sorted(ROOT.glob(f"{room}/README.md")):
            found[readme.relative_to(ROOT).as_posix()] = f"{readme.parent.relative_to(ROOT).as_posix()}.md"
    return found


def on_files(files: Any, config: Any) -> Any:
    """Adds a page for every README, and for the files of the root."""
    for source, page in pages().items():
        if not source.startswith("docs/"):
            files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fills in what is made from code, and turns links of the repository into links of the site."""
    sources = {site: source for source, site in pages().items()}
    source = sources[page.file.src_uri]
    markdown = REFERENCE.sub(lambda found: reference(found[1]), markdown)
    parts = re.split(r"(?ms)^(```.*?^```$)", markdown)  # what is fenced stays as it is
    for place in range(0, len(parts), 2):
        # GitHub needs no blank line before a list, this parser does.
        text = LIST_AFTER_TEXT.sub(r"\1\n\n", parts[place])
        parts[place] = LINK.sub(lambda found: _link(found, source, page.file.src_uri), text)
    return "".join(parts)


def reference(what: str) -> str:
    """Markdown that the code makes about itself, without its title: `config` or `cli`."""
    made = {"config": cli.config_reference, "cli": cli.cli_reference}[what]()
    return re.sub(r"\A# .*\n+", "", made)


def _link(found: re.Match[str], source: str, page: str) -> str:
    mark, text, target = found.groups()
    if re.match(r"[a-z]+:|#", target):
        return found[0]
    name, hash_, anchor = target.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), name))
    if not (ROOT / path).exists():
        LOG.warning("%s links to %s, which does not exist", source, target)
    made = pages()
    here = posixpath.dirname(page)
    if known := made.get(path) or made.get(f"{path}/README.md"):
        return f"{mark}[{text}]({posixpath.relpath(known, here or '.')}{hash_}{anchor})"
    if path.startswith("docs/"):
        return f"{mark}[{text}]({posixpath.relpath(path.removeprefix('docs/'), here or '.')})"
    return text
