"""The documentation names what exists."""

import ast
import importlib
import inspect
import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from sa_ray import errors
from sa_ray.catalogue import CATALOGUE, VariantOverride
from sa_ray.contracts import Health, JobRequest, JobTimings, JobView
from sa_ray.serving.ingress.app import build_http_app
from sa_ray.settings import EdgeSettings, LimitSettings
from sa_ray.settings.edge import COMPATIBLE_APIS, CompatibleApi

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    page
    for folder in (".", "cluster", "docs", "docs/decisions", "docs/recipes", "bench/results")
    for page in sorted((ROOT / folder).glob("*.md"))
]
HTTP_METHODS = {"get", "put", "post", "delete", "patch", "head", "options"}

FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
TEST = re.compile(r"`(\w+/test_\w+\.py)::(test_\w+)`")
TABLE = re.compile(r"^\|.*\| Shown by \|\n\|[- |]+\|\n((?:\|.*\n)+)", re.MULTILINE)
ENDPOINT = re.compile(r"^##+ `([A-Z]+) (/[^`]*)`$", re.MULTILINE)
SOURCE_FILE = re.compile(r"`((?:bench|cluster|docs|src|tests)/[\w/.-]+\.\w+)(?:::\w+)?`")
ROOM = re.compile(r"`((?:\w+/)*(?:\w+\.py|\w+/))`")
IMPORT_PATH = re.compile(r"\b(sa_ray(?:\.\w+)+):(\w+)")
CODE_ROW = re.compile(r"^\| `(\w+)` \| (\d{3}) \|", re.MULTILINE)


def text_of(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    titles = (title.lower() for title in HEADING.findall(text_of(page)))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    for link in LINK.findall(text_of(page)):
        if ":" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page

        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_site_has_every_page_in_its_navigation() -> None:
    navigation = tomllib.loads((DOCS / "site" / "zensical.toml").read_text())["project"]["nav"]
    listed = [page for part in navigation for pages in part.values() for page in pages]
    places = {place for page in listed for place in page.values()}
    pages = [*ROOT.glob("*.md"), *DOCS.glob("*.md"), *DOCS.glob("recipes/*.md")]

    made_there = {"docs/openapi.md", "docs/decisions/README.md", "cluster/README.md"}
    assert {str(page.relative_to(ROOT)) for page in pages} | made_there == places


def test_a_recipe_shows_its_files_and_links_to_them() -> None:
    for file in DOCS.glob("recipes/*.*"):
        page = file.with_suffix(".md").read_text()

        assert file.suffix == ".md" or f'\n--8<-- "{file.name}"\n' in page, file
        assert file.suffix == ".md" or f"({file.name})" in page, file


def test_every_row_of_the_migration_page_names_tests_that_exist() -> None:
    page = text_of(DOCS / "migrating.md")
    rows = [row for table in TABLE.findall(page) for row in table.splitlines()]
    assert len(rows) > 50

    for row in rows:
        assert TEST.search(row.split("|")[3]), row
    for path, function in TEST.findall(page):
        tree = ast.parse((ROOT / "tests" / path).read_text())
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        assert function in {node.name for node in tree.body if isinstance(node, kinds)}, function


def test_the_api_pages_have_every_endpoint_and_no_other() -> None:
    served = {
        (method.upper(), path)
        for path, operations in build_http_app(EdgeSettings(), LimitSettings())
        .openapi()["paths"]
        .items()
        for method in operations
        if method in HTTP_METHODS
    }

    pages = [ENDPOINT.findall(text_of(DOCS / page)) for page in ("api.md", "compatible.md")]
    assert set().union(*pages) == served
    assert sum(map(len, pages)) == len(served)


@pytest.mark.parametrize("name", COMPATIBLE_APIS)
def test_the_page_of_other_apis_names_every_field_of_each(name: CompatibleApi) -> None:
    without = tuple(one for one in COMPATIBLE_APIS if one != name)
    described, others = (
        build_http_app(EdgeSettings(compatible_apis=apis), LimitSettings()).openapi()
        for apis in (COMPATIBLE_APIS, without)
    )
    assert {name} <= {
        tag
        for path, operations in described["paths"].items()
        if path not in others["paths"]
        for operation in operations.values()
        for tag in operation["tags"]
    }
    page = text_of(DOCS / "compatible.md")
    shapes = described["components"]["schemas"].items()
    fields = {
        field
        for shape, schema in shapes
        if shape not in others["components"]["schemas"] and shape.endswith("Request")
        for field in schema["properties"]
    }

    assert [field for field in sorted(fields) if f"`{field}`" not in page] == []


def test_the_api_page_has_every_error_code_with_its_status() -> None:
    raised = {
        (kind.code, str(kind.status))
        for kind in vars(errors).values()
        if inspect.isclass(kind) and issubclass(kind, errors.SaRayError)
    }

    assert set(CODE_ROW.findall(text_of(DOCS / "api.md"))) == raised


@pytest.mark.parametrize("shape", [JobRequest, JobView, JobTimings, Health])
def test_the_api_page_names_every_field(shape: type[BaseModel]) -> None:
    page = text_of(DOCS / "api.md")

    assert [name for name in shape.model_fields if f"`{name}`" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = SOURCE_FILE.findall(text_of(page))

    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_architecture_page_names_rooms_that_exist() -> None:
    _, _, rooms = text_of(DOCS / "architecture.md").partition("\n## Rooms\n")
    paths = ROOM.findall(rooms)
    assert len(paths) > 60

    assert [path for path in paths if not (ROOT / "src" / "sa_ray" / path).exists()] == []


def test_import_paths_can_be_imported() -> None:
    named = {path for page in PAGES for path in IMPORT_PATH.findall(page.read_text())}
    assert ("sa_ray.serving.autoscaling", "BacklogPolicy") in named

    for module, name in named:
        assert hasattr(importlib.import_module(module), name), f"{module}:{name}"


def test_the_tuning_page_has_the_numbers_of_the_catalogue() -> None:
    rows = {
        name: cells.split("|")[: len(CATALOGUE)]
        for name, cells in re.findall(
            r"^\| `(\w+)` \|(.+)\|$", text_of(DOCS / "tuning.md"), re.MULTILINE
        )
    }

    assert {name: [float(cell) for cell in cells] for name, cells in rows.items()} == {
        name: [getattr(spec, name) for spec in CATALOGUE.values()]
        for name in VariantOverride.model_fields
        if name not in ("repository", "revision")  # no numbers
    }
