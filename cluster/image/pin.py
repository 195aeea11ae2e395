#!/usr/bin/env python3
"""Writes the versions in FILES, which `export.sh` made, into pyproject.toml, so that every
resolution of the tree arrives at them; without FILES, takes them out."""

import re
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
BLOCK = re.compile(r"^constraint-dependencies = \[\n.*?^\]\n", re.MULTILINE | re.DOTALL)

pins = {
    line.removesuffix(" \\")
    for file in sys.argv[1:]
    for line in Path(file).read_text().splitlines()
    if not line.startswith(" ")
}
text = "".join(f'    "{pin}",\n' for pin in sorted(pins))
block = f"constraint-dependencies = [\n{text}]\n"
project, found = BLOCK.subn(lambda _: block, PROJECT.read_text())
if found != 1:
    sys.exit(f"no constraint-dependencies in {PROJECT}")
PROJECT.write_text(project)
