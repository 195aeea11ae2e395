"""Reads the Dockerfile: its instructions, and its stages."""

import string
from pathlib import Path

from dockerfile_parse import DockerfileParser


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    parser = DockerfileParser(path=str(dockerfile))
    return [
        (step["instruction"], step["value"])
        for step in parser.structure
        if step["instruction"] != "COMMENT"
    ]


def stages(dockerfile: Path) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """By name: the image that the stage begins from, and its steps."""
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    arguments: dict[str, str] = {}
    steps: list[tuple[str, str]] = []
    for instruction, value in instructions(dockerfile):
        if instruction == "FROM":
            image, _, name = value.partition(" AS ")
            steps = []
            found[name] = string.Template(image).substitute(arguments), steps
        elif not found:
            arguments.update([value.split("=", 1)])
        else:
            steps.append((instruction, value))
    return found
