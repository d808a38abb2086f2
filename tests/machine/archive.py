"""Makes an image archive, as `docker save` writes them, out of a root file system's tar, without a Docker Engine."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path


def image_archive(root_tar: Path, target: Path, name: str) -> Path:
    """Write the archive of an image `name` with this one layer. Format: Docker image specification 1.2."""
    layer = sha256_of(root_tar)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "Cmd": ["bash"],
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps(
        [{"Config": config_name, "RepoTags": [name], "Layers": [f"{layer}/layer.tar"]}]
    ).encode()
    partial = target.with_name(f".{target.name}")
    with tarfile.open(partial, "w") as archive:
        for file, content in ((config_name, config), ("manifest.json", manifest)):
            info = tarfile.TarInfo(file)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        archive.add(root_tar, f"{layer}/layer.tar", filter=_nobody)
    partial.replace(target)
    return target


def sha256_of(file: Path) -> str:
    """The file's checksum, in hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open("rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _nobody(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = 0
    return info
