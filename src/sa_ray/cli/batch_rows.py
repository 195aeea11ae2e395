"""Read the requests of ``sa-ray batch`` from a file: CSV, or JSON on lines."""

import csv
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Final, TextIO

from pydantic import ValidationError

from sa_ray.cli.console import STREAM
from sa_ray.cli.failures import faults_of
from sa_ray.cli.jobs import UNSENT
from sa_ray.contracts import UPLOAD_ID_PATTERN, GenerationRequest
from sa_ray.errors import InvalidRequestError

SOURCES: Final = ("init_audio", "inpaint_audio", "continue_audio")
"""Fields that may name a file instead of an upload, relative to the file of requests."""

OUTPUT: Final = "output"
"""Column of the file to write, relative to the folder of the batch."""

MAX_SHOWN: Final = 10
"""Most faults that an error lists."""

NAME_CHARS: Final = 40
"""Characters of the prompt in the name of a file."""

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One request of a batch."""

    line: int
    """Of the file, from 1."""
    request: GenerationRequest
    output: str
    """File to write, relative to the folder of the batch."""
    sources: Mapping[str, Path]
    """Files to send first, by the fields that name them."""

    @property
    def digest(self) -> str:
        """Hex SHA-256 of what is asked for, with the places of the files to send."""
        asked = self.request.model_dump(exclude_unset=True)
        asked |= {name: str(path) for name, path in self.sources.items()}
        return hashlib.sha256(json.dumps([self.output, asked]).encode()).hexdigest()


def read_rows(file: Path, defaults: Fields) -> list[Row]:
    """Read all requests of ``file``. ``defaults``: fields of those that leave them out.

    Raises ``InvalidRequestError``, which names the lines, if any cannot be used.
    """
    rows: list[Row] = []
    faults = []
    taken: dict[str, int] = {}
    for line, read in _read(file):
        try:
            fields = _parsed(read) if isinstance(read, str) else _of_cells(read)
            row = _row(line, defaults | fields, file.parent)
            if (other := taken.setdefault(row.output, line)) != line:
                raise ValueError(f"{OUTPUT}: line {other} writes {row.output}, too")
            rows.append(row)
        except ValidationError as error:
            faults.append(f"line {line}: {faults_of(error)[0]['message']}")
        except ValueError as error:
            faults.append(f"line {line}: {error}")
    if not rows and not faults:
        faults.append("it holds no requests")
    if faults:
        hidden = [f"and {len(faults) - MAX_SHOWN} more"] if len(faults) > MAX_SHOWN else []
        told = "\n".join([*faults[:MAX_SHOWN], *hidden])
        raise InvalidRequestError(f"{file} cannot be used, and nothing was sent:\n{told}")
    return rows


def _read(file: Path) -> Iterator[tuple[int, str | Mapping[str, str | None]]]:
    """Read lines of JSON, or of cells by the names in the first line."""
    try:
        with _opened(file) as opened:
            if file.suffix.lower() != ".csv":
                yield from ((line, text) for line, text in enumerate(opened, 1) if text.strip())
                return
            reader = csv.DictReader(opened)
            for cells in reader:
                yield reader.line_num, cells
    except UnicodeDecodeError:
        raise InvalidRequestError(
            f"{file} is not in UTF-8, and nothing was sent. Save it in that encoding."
        ) from None
    except csv.Error as error:
        raise InvalidRequestError(f"{file} is no CSV, and nothing was sent: {error}.") from None


def _opened(file: Path) -> AbstractContextManager[TextIO]:
    if file == STREAM:
        return nullcontext(sys.stdin)
    return file.open(encoding="utf-8-sig", newline="")


def _parsed(text: str) -> Fields:
    fields = json.loads(text)
    if not isinstance(fields, dict):
        raise ValueError('each line must be one JSON object, as {"prompt": "rain"}')
    return fields


def _of_cells(cells: Mapping[str, str | None]) -> Fields:
    """Return the fields of a line of CSV: blank cells are left out."""
    if None in cells:
        raise ValueError("it has more cells than the first line has names")
    filled = {name.strip(): cell.strip() for name, cell in cells.items() if cell and cell.strip()}
    json_columns = _json_columns()
    return {
        name: _value(name, cell) if name in json_columns else cell for name, cell in filled.items()
    }


def _value(name: str, cell: str) -> Any:
    try:
        return json.loads(cell.lower() if cell.lower() in ("true", "false") else cell)
    except ValueError:
        raise ValueError(f"{name}: {cell!r} is no number, true, false or JSON") from None


@cache
def _json_columns() -> frozenset[str]:
    """Return the columns whose cells are JSON: the fields of a request that are no text."""
    kinds = {
        name: {one.get("type") for one in schema.get("anyOf", [schema])}
        for name, schema in GenerationRequest.model_json_schema()["properties"].items()
    }
    return frozenset(name for name, kind in kinds.items() if "string" not in kind)


def _row(line: int, fields: Fields, folder: Path) -> Row:
    name = fields.pop(OUTPUT, None)
    sources = {}
    for field in SOURCES:
        text = fields.get(field)
        if isinstance(text, str) and not re.fullmatch(UPLOAD_ID_PATTERN, text):
            sources[field] = folder / text
            if not sources[field].is_file():
                raise ValueError(f"{field}: there is no file {sources[field]}")
            fields[field] = UNSENT
    request = GenerationRequest.model_validate(fields)
    return Row(line, request, _output(line, name, request), sources)


def _output(line: int, name: object, request: GenerationRequest) -> str:
    suffix = f".{request.format}"
    if name is None:
        words = re.sub(r"\W+", "-", request.prompt.lower()).strip("-")[:NAME_CHARS]
        return f"{line:05d}-{words}".rstrip("-") + suffix
    path = PurePosixPath(str(name))
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise ValueError(f"{OUTPUT}: {name!r} must be a file inside the folder")
    if path.suffix.lower() != suffix:
        raise ValueError(f"{OUTPUT}: {name!r} must end in {suffix}, the format of the request")
    return str(path)
