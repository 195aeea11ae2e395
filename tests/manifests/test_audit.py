"""`.ci/audit`: what is known against what the image installs is told, and what is not known too."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.manifests.agreement import ROOT
from tests.manifests.test_image import pins

VERSION = pins("requirements.txt")["fastapi"]


def audit(path: Path | None = None, advisories: Path | None = None) -> tuple[int, str]:
    env = dict(os.environ)
    env.pop("SA_RAY_ADVISORIES", None)
    if path:
        env["PATH"] = f"{path}{os.pathsep}{env['PATH']}"
    if advisories:
        env["SA_RAY_ADVISORIES"] = str(advisories)
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "audit"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def affected(*events: dict[str, str], versions: list[str] | None = None) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": list(events)}] if events else []
    package = {"ecosystem": "PyPI", "name": "FastAPI"}
    return {"package": package, "ranges": ranges, "versions": versions or []}


FROM_THE_START = {"introduced": "0"}


@pytest.mark.parametrize(
    "entry",
    [
        affected(versions=[VERSION]),
        affected(FROM_THE_START),
        affected(FROM_THE_START, {"fixed": "9999"}),
        affected({"introduced": VERSION}, {"fixed": "9999"}),
        affected(FROM_THE_START, {"last_affected": VERSION}),
        affected(FROM_THE_START, {"fixed": "0.1"}, {"introduced": "0.2"}, {"fixed": "9999"}),
    ],
)
def test_a_weakness_in_a_database_of_ones_own_fails(entry: dict[str, Any], tmp_path: Path) -> None:
    code, output = audit(advisories=database(tmp_path, {"affected": [entry]}))

    assert code == 1
    assert f"fastapi {VERSION}: PYSEC-0000-1" in output


@pytest.mark.parametrize(
    "advisory",
    [
        {"affected": [affected(FROM_THE_START)], "withdrawn": "2026-01-01T00:00:00Z"},
        {"affected": [affected(FROM_THE_START, {"fixed": VERSION})]},
        {"affected": [affected({"introduced": "9999"})]},
        {"affected": [affected(FROM_THE_START, {"last_affected": "0.1"})]},
        {"affected": [affected(versions=["0.1"])]},
    ],
)
def test_a_weakness_of_other_versions_does_not(advisory: dict[str, Any], tmp_path: Path) -> None:
    code, output = audit(advisories=database(tmp_path, advisory))

    assert (code, output.startswith("0 known weaknesses in ")) == (0, True)


def database(folder: Path, advisory: dict[str, Any]) -> Path:
    file = folder / "vulns" / "fastapi" / "PYSEC-0000-1.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(yaml.safe_dump({"id": "PYSEC-0000-1"} | advisory))
    return folder


def test_a_folder_without_a_database_is_refused(tmp_path: Path) -> None:
    code, output = audit(advisories=tmp_path)

    assert (code, "no checkout of pypa/advisory-database" in output) == (1, True)


def test_what_pip_audit_finds_fails(tmp_path: Path) -> None:
    weakness = {"id": "PYSEC-0000-1", "fix_versions": ["9999"], "aliases": [], "description": ""}
    known = [{"name": n, "version": v, "vulns": []} for n, v in everything().items()]
    fastapi = {"name": "fastapi", "version": VERSION, "vulns": [weakness]}

    code, output = audit(path=answering(tmp_path, [*known, fastapi]))

    assert code == 1
    assert f"fastapi {VERSION}: PYSEC-0000-1, fixed in 9999" in output
    assert "NOT AUDITED" not in output


def test_what_pip_audit_could_not_ask_about_is_told(tmp_path: Path) -> None:
    known = [{"name": n, "version": v, "vulns": []} for n, v in everything().items()]
    for package in known:
        if package["name"] == "fastapi":
            package["skip_reason"] = "Dependency not found on PyPI"

    assert "NOT AUDITED: fastapi:" in audit(path=answering(tmp_path / "one", known))[1]
    for package in known:
        package["skip_reason"] = "Dependency not found on PyPI"
    code, output = audit(path=answering(tmp_path / "all", known))
    assert (code, "NOT AUDITED: everything:" in output) == (0, True)


def test_a_pip_audit_that_fails_is_told(tmp_path: Path) -> None:
    """As where no registry answers at all."""
    code, output = audit(path=answering(tmp_path, None))

    assert (code, "NOT AUDITED: everything:" in output) == (0, True)


def everything() -> dict[str, str]:
    names = ("requirements-build.txt", "requirements-bill.txt", "requirements-cuda.txt")
    return {name: version for file in names for name, version in pins(file).items()}


def answering(folder: Path, dependencies: list[dict[str, Any]] | None) -> Path:
    """A folder with a `uvx` that answers as pip-audit does: with a report, or with none."""
    folder.mkdir(exist_ok=True)
    report = "" if dependencies is None else json.dumps({"dependencies": dependencies})
    (folder / "report").write_text(report)
    (folder / "uvx").write_text(f"#!/bin/sh\ncat {folder}/report\ntest -s {folder}/report\n")
    (folder / "uvx").chmod(0o755)
    return folder
