"""modules/aws-spot's table of GPU models, compared with EC2's own data."""

from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import moto
import pytest

from tests import ROOT

pytestmark = pytest.mark.terraform

TYPES = Path(moto.__file__).parent / "ec2/resources/instance_types.json.gz"
"""EC2's response to DescribeInstanceTypes, as packaged with moto."""
TOO_OLD = {"p2", "p3", "p3dn", "g3", "g3s"}


def table() -> dict[str, str]:
    text = (ROOT / "terraform/modules/aws-spot/families.tf").read_text()
    return dict(re.findall(r'^ {4}"([a-z0-9-]+)"\s+= "([^"]+)"$', text, re.MULTILINE))


def whole_gpus() -> dict[str, set[tuple[str, int]]]:
    """Return the NVIDIA GPUs of each x86 family as (model, MiB), without fractional GPUs and outdated families."""
    found: dict[str, set[tuple[str, int]]] = defaultdict(set)
    types: dict[str, Any] = json.loads(gzip.decompress(TYPES.read_bytes()))
    for name, each in types.items():
        is_x86 = "x86_64" in each["ProcessorInfo"]["SupportedArchitectures"]
        for gpu in each.get("GpuInfo", {}).get("Gpus", []) if is_x86 else []:
            if gpu["Manufacturer"] == "NVIDIA" and gpu.get("Count"):
                found[name.partition(".")[0]].add((gpu["Name"], gpu["MemoryInfo"]["SizeInMiB"]))
    return {family: gpus for family, gpus in found.items() if family not in TOO_OLD}


def test_the_table_has_exactly_the_supported_families() -> None:
    assert set(table()) == set(whole_gpus())


def test_models_are_named_as_in_ec2_with_the_memory_where_it_varies() -> None:
    sizes = defaultdict(set)
    for gpus in whole_gpus().values():
        for model, mib in gpus:
            sizes[model].add(mib)
    for family, model in table().items():
        ((name, mib),) = whole_gpus()[family]
        assert model == (name if len(sizes[name]) == 1 else f"{name} {mib // 1024} GB"), family
