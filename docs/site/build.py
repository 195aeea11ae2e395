"""Build the documentation as a site, in site/html: README.md and all that its links lead to.

The pages keep their places, so that links between them are the same in the repository and on the
site. What cannot be followed there is an error: to a page, to its headings, or to any other file.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote, urldefrag

from sa_ray.serving.ingress.app import build_http_app
from sa_ray.settings import EdgeSettings, LimitSettings

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "docs" / "site"
SITE = ROOT / "site"

FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
EXTERNAL = re.compile(r"[a-z][a-z+.-]*:|//")


def linked_from(page: Path) -> Iterator[Path]:
    """Yield the files of this repository to which ``page`` links."""
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        path, _ = urldefrag(link)
        if path and not EXTERNAL.match(path):
            target = (page.parent / unquote(path)).resolve()
            if not target.is_file():
                sys.exit(f"{page.relative_to(ROOT)}: {link} leads to no file")
            yield target


def collect(first: Path) -> set[Path]:
    """Return ``first`` and all files that can be reached from it by links of pages."""
    found, to_read = {first}, [first]
    while to_read:
        page = to_read.pop()
        if page.suffix == ".md":
            new = set(linked_from(page)) - found
            found |= new
            to_read += new
    return found


def describe_api(folder: Path) -> None:
    """Write the OpenAPI description of this code, and what shows it, into ``folder``."""
    folder.mkdir(parents=True)
    shown_by = files("fastapi_offline") / "static"
    for name in ("swagger-ui.css", "swagger-ui-bundle.js"):
        (folder / name).write_bytes((shown_by / name).read_bytes())
    api = json.dumps(build_http_app(EdgeSettings(), LimitSettings()).openapi())
    (folder / "openapi.json").write_text(api)
    # A page that was opened from a disk may not fetch, but may have scripts.
    (folder / "openapi.js").write_text(f"const description = {api};\n")
    for name in ("show.js", "show.css"):
        shutil.copy(HERE / name, folder)
    shutil.copy(HERE / "openapi.md", folder.parent)


class BuiltPage(HTMLParser):
    """Collects what a page links to, what it loads, and the ids to which others can link."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids |= {name for name in (values.get("id"), values.get("name")) if name}
        found = [address for address in (values.get("href"), values.get("src")) if address]
        (self.links if tag == "a" else self.loaded).extend(found)


def faults(folder: Path) -> Iterator[str]:
    """Yield each link of the built pages that leads nowhere, and what comes from other hosts."""
    pages = {page: BuiltPage(page) for page in sorted(folder.rglob("*.html"))}
    del pages[folder / "404.html"]  # which is shown at any address
    for page, built in pages.items():
        place = page.relative_to(folder)
        yield from (f"{place} loads {each}" for each in built.loaded if EXTERNAL.match(each))
        for link in built.links + built.loaded:
            path, anchor = urldefrag(link)
            if EXTERNAL.match(path):
                continue
            target = (page.parent / unquote(path)).resolve() if path else page
            if target.is_dir():
                target /= "index.html"
            known = pages[target].ids if target in pages else set()
            if not target.is_file() or (anchor and unquote(anchor) not in known):
                yield f"{place}: {link} leads nowhere"


def main() -> None:
    """Build the site anew."""
    shutil.rmtree(SITE, ignore_errors=True)
    for source in collect(ROOT / "README.md"):
        copy = SITE / "pages" / source.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy)
    describe_api(SITE / "pages" / "docs" / "openapi")
    shutil.copy(HERE / "zensical.toml", SITE)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    if code := subprocess.run(command, cwd=SITE, check=False).returncode:  # noqa: S603
        sys.exit(code)
    if found := list(faults(SITE / "html")):
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
