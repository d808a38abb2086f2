"""`make image-twice`: build the image a second time from nothing, and name what differs but for times.

Compares the layers that our own Dockerfile makes, file by file: path, kind, mode, owner, link, contents. Times are
left out: only BuildKit can set those (SOURCE_DATE_EPOCH), and the classic builder shall do, too.
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
    """Build, compare, print; 1 where something differs."""
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
        print(f"layer {number}: {path}: {first[number].get(path)} and {second[number].get(path)}")
    files = sum(len(each) for each in second)
    print(f"{len(second)} layers, {files} files, {len(differing)} differ but for times")
    return 1 if differing else 0


def build(*arguments: str) -> None:
    """One build; what it says is only shown if it fails."""
    more = " ".join([os.environ.get("DOCKER_BUILD_ARGS", ""), *arguments])
    done = subprocess.run(
        [str(ROOT / "scripts/image.sh")],
        env={**os.environ, "DOCKER_BUILD_ARGS": more},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{done.stdout[-2000:]}{done.stderr[-2000:]}\nthe build failed")


def docker(*words: str) -> None:
    subprocess.run([DOCKER, *words], check=True, stdout=subprocess.DEVNULL)


def layers(image: str) -> Layers:
    """What `docker save` holds, layer by layer, lowest first."""
    with tempfile.TemporaryDirectory() as directory:
        archive = Path(directory, "image.tar")
        docker("save", "--output", str(archive), image)
        with tarfile.open(archive) as saved:
            manifest = json.load(_file(saved, "manifest.json"))
            return [_entries(_file(saved, name)) for name in manifest[0]["Layers"]]


def _file(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    found = archive.extractfile(name)
    if found is None:
        raise ValueError(f"{name} is no file")
    return found


def _entries(layer: IO[bytes]) -> dict[str, Entry]:
    with tarfile.open(fileobj=layer) as archive:
        return {each.name: _entry(archive, each) for each in archive}


def _entry(archive: tarfile.TarFile, each: tarfile.TarInfo) -> Entry:
    content = hashlib.sha256(_file(archive, each.name).read()).hexdigest() if each.isreg() else ""
    return (each.type.decode(), each.mode, each.uid, each.gid, each.linkname, content)


if __name__ == "__main__":
    sys.exit(main())
