"""Checks manifests against the schemas that an API server has: unknown fields are refused."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator, ValidationError, validators

from tests.manifests.kustomize import Manifest

KUBERNETES = "1.33"
CRD_FILES = {"RayService": "ray.io_rayservices.yaml", "RayCluster": "ray.io_rayclusters.yaml"}


def kubernetes_problems(manifest: Manifest) -> list[str]:
    """What Kubernetes itself would refuse, for the kinds that it has."""
    return _kubernetes_problems(json.dumps(manifest))


@cache  # the same few manifests are in many tests, and each look reads all of the schemas
def _kubernetes_problems(manifest: str) -> list[str]:
    try:
        kubernetes_validate.validate(json.loads(manifest), KUBERNETES, strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        return [str(getattr(error, "message", error))]
    return []


class CustomResources:
    """The schemas of the custom resource definitions in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._validators: dict[tuple[str, str], Draft202012Validator] = {}

    def problems(self, manifest: Manifest) -> list[str]:
        key = manifest["kind"], manifest["apiVersion"]
        if key not in self._validators:
            self._validators[key] = _VALIDATOR(_closed(self._schema(*key)))
        errors = sorted(self._validators[key].iter_errors(manifest), key=lambda e: e.json_path)
        return [f"{error.json_path}: {error.message}" for error in errors]

    def _schema(self, kind: str, api_version: str) -> Manifest:
        text = (self._folder / CRD_FILES[kind]).read_text()
        spec = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["spec"]  # noqa: S506
        version = api_version.removeprefix(f"{spec['group']}/")
        (schema,) = (
            entry["schema"]["openAPIV3Schema"]
            for entry in spec["versions"]
            if entry["name"] == version and entry["served"]
        )
        # The API server checks these itself; the CRD says no more than that they are objects.
        schema["properties"]["metadata"] = {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string"},
                "namespace": {"type": "string"},
                "labels": {"additionalProperties": {"type": "string"}},
                "annotations": {"additionalProperties": {"type": "string"}},
            },
        }
        return schema


def _closed(schema: Any) -> Any:
    """``schema`` as JSON Schema, refusing fields that a structural schema would prune."""
    if isinstance(schema, list):
        return [_closed(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {
        key: {name: _closed(sub) for name, sub in value.items()}
        if key == "properties"
        else _closed(value)
        for key, value in schema.items()
    }
    if closed.get("x-kubernetes-preserve-unknown-fields"):
        return closed
    if closed.get("type") == "object" and "additionalProperties" not in closed:
        closed["additionalProperties"] = False
    return closed


def _unique_by(
    _: Any, keys: list[str], instance: Any, schema: Manifest
) -> Iterator[ValidationError]:
    defaults = {
        key: schema["items"].get("properties", {}).get(key, {}).get("default") for key in keys
    }
    seen = set()
    for entry in instance:
        identity = tuple(entry.get(key, defaults[key]) for key in keys)
        if identity in seen:
            yield ValidationError(f"{identity} more than once")
        seen.add(identity)


_VALIDATOR = validators.extend(Draft202012Validator, {"x-kubernetes-list-map-keys": _unique_by})

_NAMES = {"type": "object", "additionalProperties": {"type": "string"}}

POD_MONITOR: Manifest = _closed(
    {
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": "monitoring.coreos.com/v1"},
            "kind": {"const": "PodMonitor"},
            "metadata": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "namespace": {"type": "string"},
                    "labels": _NAMES,
                },
            },
            "spec": {
                "type": "object",
                "required": ["selector", "podMetricsEndpoints"],
                "properties": {
                    "selector": {"type": "object", "properties": {"matchLabels": _NAMES}},
                    "podMetricsEndpoints": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "port": {"type": "string"},
                                "interval": {"type": "string", "pattern": r"^\d+s$"},
                                "relabelings": {
                                    "type": "array",
                                    "items": {
                                        "type": "object",
                                        "properties": {
                                            "action": {"enum": ["replace"]},
                                            "sourceLabels": {
                                                "type": "array",
                                                "items": {"type": "string"},
                                            },
                                            "targetLabel": {"type": "string"},
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    }
)
"""The fields that ours uses, by the Prometheus operator's API reference: its CRD is not here."""


def pod_monitor_problems(manifest: Manifest) -> list[str]:
    return [
        f"{error.json_path}: {error.message}"
        for error in Draft202012Validator(POD_MONITOR).iter_errors(manifest)
    ]
