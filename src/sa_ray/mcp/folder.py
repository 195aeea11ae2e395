"""The folder of an assistant's sounds: new files alone, and nothing outside it."""

import re
import shutil
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Final

from sa_ray.errors import InvalidRequestError

NAME_CHARS: Final = 40
"""Characters of a name, without its number and ending."""


class Folder:
    """Writes into ``out``, which is made with it, and reads there and in ``readable``.

    Raises ``OSError`` if it cannot be made.
    """

    def __init__(self, out: Path, readable: Sequence[Path] = ()) -> None:
        out.expanduser().mkdir(parents=True, exist_ok=True)
        self.out = out.expanduser().resolve()
        self._roots = [self.out, *(one.expanduser().resolve() for one in readable)]

    def keep(self, file: Path, name: str, suffix: str) -> Path:
        """Copy ``file`` to a new file of the folder and return its path.

        Letters and digits of ``name`` are kept. What is there already is left as it is: the next
        number is appended.
        """
        stem = re.sub(r"\W+", "-", name.removesuffix(suffix).lower()).strip("-")[:NAME_CHARS]
        for number in count(1):
            path = self.out / f"{stem or 'clip'}{f'-{number}' if number > 1 else ''}{suffix}"
            try:
                # Which follows no link, either.
                kept = path.open("xb")
            except FileExistsError:
                continue
            try:
                with kept, file.open("rb") as made:
                    shutil.copyfileobj(made, kept)
            except BaseException:
                path.unlink()  # a part of a clip, as on a full disk, looks like one
                raise
            return path
        raise AssertionError  # `count` does not end

    def find(self, name: str) -> Path:
        """Return the file that ``name`` is the path of, absolute or from the folder on.

        Raises ``InvalidRequestError`` if there is none, or if it is outside what may be read.
        """
        try:
            path = (self.out / Path(name).expanduser()).resolve()
        except (ValueError, RuntimeError) as error:  # a NUL, a stranger's home, links in a circle
            raise InvalidRequestError(f"{name!r} is no path: {error}.") from None
        if not any(path.is_relative_to(root) for root in self._roots):
            places = ", ".join(map(str, self._roots))
            raise InvalidRequestError(
                f"{name} is outside of what this server may read ({places}). Copy the file there, "
                "or have the user start `sa-ray mcp` with `--read` and its folder."
            )
        if not path.is_file():
            raise InvalidRequestError(f"There is no file {path}. Paths begin at {self.out}.")
        return path
