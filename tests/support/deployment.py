"""The application, deployed on a Ray cluster that this process has joined."""

from collections.abc import Callable
from typing import Any

import pytest
from ray import serve

from sa_ray.app import build
from tests.support.secret_settings import SecretFiles, environment
from tests.support.service import Service, local_settings


def _is_alone() -> bool:
    [application] = serve.status().applications.values()
    return all(set(one.replica_states) <= {"RUNNING"} for one in application.deployments.values())


Deploy = Callable[..., Service]


def deployer(
    base_url: str, secrets: SecretFiles, tmp_path_factory: pytest.TempPathFactory
) -> Deploy:
    """Deploy the application with the given settings, on an empty store unless told otherwise.

    What is already deployed with the same settings is left as it is.
    """
    deployed: list[tuple[dict[str, Any], Service]] = []

    def run(**args: Any) -> Service:
        if deployed and deployed[-1][0] == args:
            return deployed[-1][1]
        settings = local_settings(tmp_path_factory.mktemp("service")) | args
        with environment(secrets.variables):
            application = build(secrets.args(settings))
        serve.run(application, name="sa-ray", route_prefix="/")
        service = Service(base_url, settings)
        # Until the ingress of before is gone, HAProxy may still send to it.
        service.until(_is_alone)
        service.wait_until_started()
        deployed.append((args, service))
        return service

    return run
