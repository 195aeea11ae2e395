"""Images of single programs, as archives that `ctr images import` reads, without an engine."""

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path


def pack(archive: Path, name: str, files: dict[str, Path]) -> Path:
    """Write ``archive``: the image ``name`` of one layer, with ``files`` by their place in it, of
    which the first is what it starts. Its user is not root."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tmp = tarfile.TarInfo("tmp")
        tmp.type, tmp.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(tmp)
        for place, source in sorted(files.items()):
            tar.add(source.resolve(), place.lstrip("/"), filter=_by_root)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": [next(iter(files))],
            "Env": ["PATH=/usr/bin:/bin"],
            "User": "65532:65532",
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"],
        },
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w") as tar:
        for file, content in (
            ("layer.tar", layer.getvalue()),
            ("config.json", json.dumps(config).encode()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(file)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return archive


def with_libraries(*programs: Path) -> dict[str, Path]:
    """Programs of this machine and the shared libraries that they need: ``files`` of ``pack``."""
    found: dict[str, Path] = {}
    for path in programs:
        found[f"/usr/bin/{path.name}"] = path
        listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
        for word in listed.split():
            if word.startswith("/"):
                found[word] = Path(word)
    return found


def _by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry
