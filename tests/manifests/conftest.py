"""The overlays as rendered, and the custom resource definitions where they are."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.manifests.agreement import ROOT, Deployment
from tests.manifests.container import Image, built, missing
from tests.manifests.kustomize import render
from tests.manifests.schemas import CustomResources

KUBERAY = ROOT / "cluster" / "kuberay"
OVERLAYS = sorted(path.name for path in (KUBERAY / "overlays").iterdir())
CRD_DIR = "KUBERAY_CRD_DIR"
OWN = "sa-ray/"
"""Where that example has this repository."""


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(("STABLE_AUDIO_", "AWS_", "R2_", "HF_", "HUGGING_FACE_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session", params=OVERLAYS)
def deployment(request: pytest.FixtureRequest) -> Deployment:
    """To be left as it is."""
    return Deployment(render(KUBERAY / "overlays" / request.param))


@pytest.fixture(scope="session")
def autoscaling() -> Deployment:
    """To be left as it is."""
    return Deployment(render(KUBERAY / "overlays" / "autoscaling"))


@pytest.fixture(scope="session")
def of_ones_own(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """The README's example of an overlay of one's own. To be left as it is."""
    text = (ROOT / "cluster" / "README.md").read_text()
    (example,) = (part for part in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if OWN in part)
    folder = tmp_path_factory.mktemp("own")
    (folder / "kustomization.yaml").write_text(example.replace(OWN, f"{ROOT}/"))
    return Deployment(render(folder))


@pytest.fixture(scope="session")
def custom_resources() -> CustomResources:
    folder = os.environ.get(CRD_DIR)
    if not folder:
        pytest.skip(f"{CRD_DIR} is not set: NOT CHECKED against KubeRay's definitions")
    return CustomResources(Path(folder))


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    """The target `cpu`, built by a container engine."""
    if missing():
        pytest.skip(f"no {missing()}: the image was NOT BUILT")
    with built(ROOT / "cluster" / "image" / "Dockerfile", ROOT, "cpu") as image:
        yield image
