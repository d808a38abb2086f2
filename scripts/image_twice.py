"""`make image-twice`: checks that two builds of the image are identical apart from timestamps.

Compares the layers file by file: path, type, mode, owner, link target, contents. Timestamps are ignored: only BuildKit
can fix them (SOURCE_DATE_EPOCH), and the classic builder is supported, too.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]
DOCKER = os.environ.get("DOCKER") or "docker"
IMAGE = "beta9-worker:dev"
FIRST = "beta9-worker:first"

Entry = tuple[str, int, int, int, str, str]
Layers = list[dict[str, Entry]]


def main() -> int:
    """Build twice and compare; return 1 if anything differs."""
    build()
    docker("tag", IMAGE, FIRST)
    try:
        build("--no-cache")
        first, second = layers(FIRST), layers(IMAGE)
    finally:
        docker("rmi", FIRST)
    differing = [
        (number, path)
        for number, (one, other) in enumerate(zip(first, second, strict=True))
        for path in sorted(one.keys() | other.keys())
        if one.get(path) != other.get(path)
    ]
    for number, path in differing:
        print(f"layer {number}: {path}: {first[number].get(path)} became {second[number].get(path)}")
    files = sum(len(each) for each in second)
    print(f"{len(second)} layers, {files} files, {len(differing)} differ (ignoring timestamps)")
    return 1 if differing else 0


def build(*arguments: str) -> None:
    """Build the image; print its output only if it fails."""
    build_args = " ".join([os.environ.get("DOCKER_BUILD_ARGS", ""), *arguments])
    done = subprocess.run(
        [str(ROOT / "scripts/image.sh")],
        env={**os.environ, "DOCKER_BUILD_ARGS": build_args},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{done.stdout[-2000:]}{done.stderr[-2000:]}\nimage-twice: the build failed")


def docker(*words: str) -> None:
    subprocess.run([DOCKER, *words], check=True, stdout=subprocess.DEVNULL)


def layers(image: str) -> Layers:
    """Return the contents of `docker save`, layer by layer, lowest first."""
    with tempfile.TemporaryDirectory() as directory:
        archive = Path(directory, "image.tar")
        docker("save", "--output", str(archive), image)
        with tarfile.open(archive) as saved:
            manifest = json.load(_file(saved, "manifest.json"))
            return [_entries(_file(saved, name)) for name in manifest[0]["Layers"]]


def _file(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    found = archive.extractfile(name)
    if found is None:
        raise ValueError(f"{name} is not a regular file")
    return found


def _entries(layer: IO[bytes]) -> dict[str, Entry]:
    with tarfile.open(fileobj=layer) as archive:
        return {each.name: _entry(archive, each) for each in archive}


def _entry(archive: tarfile.TarFile, each: tarfile.TarInfo) -> Entry:
    content = hashlib.sha256(_file(archive, each.name).read()).hexdigest() if each.isreg() else ""
    return (each.type.decode(), each.mode, each.uid, each.gid, each.linkname, content)


if __name__ == "__main__":
    sys.exit(main())
