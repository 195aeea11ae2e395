"""`serve deploy` on a service under load."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

import sa_ray

from .application import Application
from .load import SteadyLoad

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

ROWS = {"prompt": "rain, wind and thunder", "duration": 60, "steps": 20}
MODELS = ("small-sfx", "small-music")


@pytest.fixture(scope="module")
def app(cluster: Cluster, port: int, tmp_path_factory: pytest.TempPathFactory) -> Application:
    """Deployed once: each test goes on from what the one before has left."""
    folder: Path = tmp_path_factory.mktemp("rolling")
    options: dict[str, Any] = {"ingress_replicas": 2, "variants": variants()}
    app = Application(cluster, port, folder, preload_models=",".join(MODELS), **options)
    app.deploy({})
    return app


def variants(**overrides: int) -> dict[str, dict[str, int]]:
    return {model: {"max_replicas": 1, **overrides} for model in MODELS}


def next_release(folder: Path) -> dict[str, Any]:
    """The package with another version, as it lies in a folder on every node."""
    package = folder / "release" / "sa_ray"
    shutil.copytree(Path(sa_ray.__file__).parent, package)
    (package / "__init__.py").write_text('__version__ = "next"\n')
    return {"py_modules": [f"local://{package.parent}"]}


def batches_of_four(app: Application) -> int:
    """How many batches four jobs took that were submitted at once."""
    ids = [app.service.submit(**ROWS, seed=seed) for seed in range(4)]
    jobs = [app.service.wait_for(job_id, "succeeded") for job_id in ids]
    # The time of a job is that of its batch.
    return len({job["timings"]["generation_seconds"] for job in jobs})


def test_changed_user_config_reaches_running_replicas(app: Application, table: list[str]) -> None:
    before = {replica.actor_id for replica in app.replicas()}
    assert batches_of_four(app) < 4

    with SteadyLoad(app.service, MODELS) as load:
        load.wait_for_answers()
        seconds = app.deploy({"small-sfx": {"user_config": {"max_batch_rows": 1}}})
        load.wait_for_answers()

    assert {replica.actor_id for replica in app.replicas()} == before
    table.append(load.row("serve deploy of changed user_config", f"{seconds:.1f} s"))
    load.assert_nothing_lost()
    assert batches_of_four(app) == 4


def test_changed_settings_replace_everything_under_load(app: Application, table: list[str]) -> None:
    before = {replica.actor_id for replica in app.replicas()}

    with SteadyLoad(app.service, MODELS) as load:
        load.wait_for_answers()
        app.args["variants"] = variants(max_batch_rows=2)
        seconds = app.deploy({})
        load.wait_for_answers()

    assert before.isdisjoint(replica.actor_id for replica in app.replicas())
    table.append(load.row("serve deploy of changed args", f"{seconds:.1f} s"))
    load.assert_nothing_lost()


def test_new_code_replaces_everything_under_load(
    app: Application, tmp_path: Path, table: list[str]
) -> None:
    before = {replica.actor_id for replica in app.replicas()}

    with SteadyLoad(app.service, MODELS) as load:
        load.wait_for_answers()
        seconds = app.deploy({}, runtime_env=next_release(tmp_path))
        load.wait_for_answers()

    assert app.service.health().version == "next"
    assert before.isdisjoint(replica.actor_id for replica in app.replicas())
    table.append(load.row("serve deploy of new code", f"{seconds:.1f} s"))
    load.assert_nothing_lost()
