"""The order in which the tests of a folder run: those that share a service, one after the other."""

from collections.abc import Callable
from pathlib import Path

import pytest


def arrange(
    items: list[pytest.Item], conftest: str, place: Callable[[frozenset[str]], int]
) -> None:
    """Sort the tests of the folder of ``conftest`` by a ``place`` that their fixtures have.

    Those of other folders stay where they are, and so does the order within a place.
    """
    places = [
        number for number, item in enumerate(items) if item.path.parent == Path(conftest).parent
    ]
    own = sorted(
        (items[number] for number in places),
        key=lambda item: place(frozenset(getattr(item, "fixturenames", ()))),
    )
    for number, item in zip(places, own, strict=True):
        items[number] = item
