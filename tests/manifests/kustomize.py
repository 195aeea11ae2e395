"""Renders the kustomizations of this repository, without kustomize.

Only the features they use; any other field is refused, so that a kustomization that this reads is
read in full. Where `kubectl` is installed, a test compares the two.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonpatch
import yaml

Manifest = dict[str, Any]

KINDS = {
    "Kustomization": "kustomize.config.k8s.io/v1beta1",
    "Component": "kustomize.config.k8s.io/v1alpha1",
}
FIELDS = {
    *("apiVersion", "kind", "namespace", "resources", "components"),
    *("images", "patches", "configMapGenerator"),
}
CLUSTER_SCOPED = {"Namespace", "PriorityClass"}


class KustomizeError(Exception):
    """The kustomization is wrong, or uses a feature that is not implemented here."""


def render(folder: Path) -> list[Manifest]:
    """The manifests that ``kubectl kustomize folder`` prints, in no particular order."""
    return _accumulate(folder.resolve(), [], "Kustomization")


def load_all(file: Path) -> list[Any]:
    return list(yaml.safe_load_all(file.read_text()))


def _accumulate(folder: Path, manifests: list[Manifest], kind: str) -> list[Manifest]:
    (spec,) = load_all(folder / "kustomization.yaml")
    _require(folder, spec, FIELDS)
    if (spec.get("kind"), spec.get("apiVersion")) != (kind, KINDS[kind]):
        raise KustomizeError(f"{folder}: not a {KINDS[kind]} {kind}")
    for name in spec.get("resources", ()):
        path = folder / name
        manifests += render(path) if path.is_dir() else load_all(path)
    manifests += [_config_map(folder, entry) for entry in spec.get("configMapGenerator", ())]
    for name in spec.get("components", ()):
        manifests = _accumulate((folder / name).resolve(), manifests, "Component")
    _require_unique(folder, manifests)
    for patch in spec.get("patches", ()):
        manifests = _patched(folder, manifests, patch)
    for manifest in manifests:
        if "namespace" in spec and manifest["kind"] not in CLUSTER_SCOPED:
            manifest["metadata"]["namespace"] = spec["namespace"]
        for image in spec.get("images", ()):
            _require(folder, image, {"name", "newName", "newTag"})
            _replace_image(manifest, image)
    return manifests


def _patched(folder: Path, manifests: list[Manifest], patch: Manifest) -> list[Manifest]:
    _require(folder, patch, {"target", "path"})
    target = patch["target"]
    _require(folder, target, {"kind", "name"})
    (operations,) = load_all(folder / patch["path"])
    done, found = [], False
    for manifest in manifests:
        if (manifest["kind"], manifest["metadata"]["name"]) == (target["kind"], target["name"]):
            found = True
            try:
                # A copy, as YAML's aliases share what must not change together.
                manifest = jsonpatch.apply_patch(_unshared(manifest), _unshared(operations))
            except jsonpatch.JsonPatchException as error:
                raise KustomizeError(f"{folder / patch['path']}: {error}") from error
        done.append(manifest)
    if not found:
        raise KustomizeError(f"{folder}: the patch's target {target} does not exist")
    return done


def _config_map(folder: Path, entry: Manifest) -> Manifest:
    _require(folder, entry, {"name", "files", "options"})
    _require(folder, entry["options"], {"disableNameSuffixHash", "labels"})
    if entry["options"].get("disableNameSuffixHash") is not True:
        raise KustomizeError(f"{folder}: {entry['name']} needs disableNameSuffixHash")
    files = (source.partition("=")[::2] for source in entry["files"])
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": entry["name"], "labels": entry["options"].get("labels", {})},
        "data": {key: (folder / name).read_text() for key, name in files},
    }


def _replace_image(manifest: Manifest, image: dict[str, str]) -> None:
    for container in containers(manifest):
        name = container["image"].partition(":")[0]
        if name == image["name"]:
            container["image"] = f"{image.get('newName', name)}:{image['newTag']}"


def containers(node: Any) -> Iterator[Manifest]:
    """Every container, wherever in a manifest it is."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("containers", "initContainers"):
                yield from value
            else:
                yield from containers(value)
    elif isinstance(node, list):
        for value in node:
            yield from containers(value)


def _unshared(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _unshared(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_unshared(value) for value in node]
    return copy.copy(node)


def _require(folder: Path, fields: Manifest, known: set[str]) -> None:
    if unknown := set(fields) - known:
        raise KustomizeError(f"{folder}: {sorted(unknown)} not known")


def _require_unique(folder: Path, manifests: list[Manifest]) -> None:
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise KustomizeError(f"{folder}: {sorted(repeated)} more than once")
