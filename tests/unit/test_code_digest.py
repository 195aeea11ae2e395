"""The digest of the code that actors run: a change anywhere in the package replaces them."""

import shutil
from pathlib import Path

import sa_ray
from sa_ray.serving.actors.provision import code_digest, job_actor_spec, uploader_spec
from tests.support.secret_settings import settings_of

PACKAGE = Path(sa_ray.__file__).parent


def test_a_change_in_any_module_changes_the_digest(tmp_path: Path) -> None:
    package = tmp_path / "sa_ray"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    original = code_digest(package)
    modules = sorted(package.rglob("*.py"))
    assert len(modules) > 100

    unnoticed = []
    for module in modules:
        code = module.read_bytes()
        module.write_bytes(code + b"\n")
        if code_digest(package) == original:
            unnoticed.append(module)
        module.write_bytes(code)

    assert unnoticed == []
    assert code_digest(package) == original == code_digest(PACKAGE)


def test_a_moved_module_changes_the_digest(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    before = code_digest(tmp_path)

    (tmp_path / "a.py").rename(tmp_path / "b.py")

    assert code_digest(tmp_path) != before


def test_an_actor_is_replaced_for_its_own_settings_only_and_no_secret() -> None:
    def fingerprints(**args: object) -> tuple[str, str]:
        settings = settings_of({"storage_bucket": "a", "storage_access_key_id": "id",
                                "storage_secret_access_key": "one", **args})  # fmt: skip
        specs = uploader_spec(settings.storage), job_actor_spec(settings.jobs)
        return specs[0].fingerprint, specs[1].fingerprint

    uploader, jobs = fingerprints()

    assert fingerprints(storage_bucket="b")[0] != uploader
    assert fingerprints(storage_bucket="b", max_steps=7)[1] == jobs
    assert fingerprints(storage_secret_access_key="two") == (uploader, jobs)
