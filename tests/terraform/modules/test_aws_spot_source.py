"""examples/aws-spot from a clone, with nothing hosted and nothing named that AWS or the clone can tell."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.aws.standin import REGION, serving
from tests.shell.boot.boot_machine import INSTALL, Machine
from tests.shell.common.s3_standin import serving_s3
from tests.terraform.modules.aws_spot import Applied, prepare, remaining
from tests.terraform.policy import allows
from tests.terraform.program import Terraform, commit

pytestmark = pytest.mark.terraform

REQUIRED = ("pool_name", "gateway_host", "gateway_host_key_fingerprint")


@pytest.fixture(scope="module")
def applied(terraform: Terraform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Applied]:
    """The example with what it cannot find out, and no more. Tests must not change it."""
    with serving() as aws:
        root = tmp_path_factory.mktemp("clone")
        made = prepare(aws, terraform, root)
        (root / "bootstrap/install.sh").write_text(INSTALL)
        commit(root, "an installer that changes nothing")
        made.variables = {name: made.variables[name] for name in REQUIRED}
        made.apply()
        yield made


def source(applied: Applied) -> tuple[str, str, str]:
    """Return the bucket, the key and the checksum that the user data names."""
    found = re.search(r"BETA9_SOURCE=s3://([^/]+)/(\S+)#sha256=(\w{64})\n", applied.user_data().decode())
    assert found
    return found[1], found[2], found[3]


def statements(applied: Applied) -> dict[str, Any]:
    bucket, _, _ = source(applied)
    policy = json.loads(applied.aws.client("s3").get_bucket_policy(Bucket=bucket)["Policy"])
    return {each["Sid"]: each for each in policy["Statement"]}


def test_the_machines_get_the_last_commit_from_a_private_object(applied: Applied) -> None:
    """One apply from a clone: what is in S3 is what `make source` builds, and the user data has its checksum."""
    bucket, key, checksum = source(applied)
    s3 = applied.aws.client("s3")
    stored = s3.get_object(Bucket=bucket, Key=key)
    assert hashlib.sha256(stored["Body"].read()).hexdigest() == checksum
    assert stored["ServerSideEncryption"] == "AES256"
    blocked = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert len(blocked) == 4
    assert all(blocked.values())
    encryption = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]
    assert encryption["Rules"][0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    denied = statements(applied)["OnlyOverTls"]
    assert (denied["Effect"], denied["Action"], denied["Principal"]) == ("Deny", "s3:*", {"AWS": "*"})
    assert denied["Condition"]["Bool"]["aws:SecureTransport"] in ("false", ["false"])
    assert set(denied["Resource"]) == {f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"}


def test_the_role_may_read_that_object_and_nothing_else_in_s3(applied: Applied) -> None:
    bucket, key, _ = source(applied)
    policy, arn = applied.policy(), f"arn:aws:s3:::{bucket}"
    assert allows(policy, "s3:GetObject", f"{arn}/{key}")
    for action, resource in (
        ("s3:GetObject", f"{arn}/another"),
        ("s3:GetObject", f"{arn}-another/{key}"),
        ("s3:PutObject", f"{arn}/{key}"),
        ("s3:DeleteObject", f"{arn}/{key}"),
        ("s3:GetObjectVersion", f"{arn}/{key}"),
        ("s3:ListBucket", arn),
        ("s3:GetBucketPolicy", arn),
        ("s3:ListAllMyBuckets", "*"),
    ):
        assert not allows(policy, action, resource), (action, resource)


def test_subnets_region_and_secret_are_found_out(applied: Applied) -> None:
    group = applied.group()
    subnets = applied.aws.client("ec2").describe_subnets()["Subnets"]
    default = {each["SubnetId"] for each in subnets if each["DefaultForAz"]}
    assert set(group["VPCZoneIdentifier"].split(",")) == default
    assert "BETA9_TOKEN=secretsmanager://beta9/gpu#token\n" in applied.user_data().decode()
    look = applied.terraform.outputs(applied.folder)["look"]
    assert f"--region {REGION} " in look["machines"]
    assert "No changes" in applied.terraform.plan(applied.folder, applied.variables).output


def test_a_machine_fetches_it_and_starts_the_installer(applied: Applied, tmp_path: Path) -> None:
    """The user data, booted: boot.sh signs its request with the role's credentials."""
    (tmp_path / "root").mkdir()
    machine = Machine(tmp_path / "root", tmp_path / "bin")
    config = yaml.safe_load(applied.user_data())
    machine.settings({})
    (machine.root / "etc/beta9-worker/worker.env").write_text(config["write_files"][0]["content"])
    with serving_s3() as s3:
        done = machine.boot(AWS_ENDPOINT_URL_S3=applied.aws.url, BETA9_METADATA_ENDPOINT=s3.metadata.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("installer of")


def test_the_next_commit_replaces_the_object_and_the_machines(terraform: Terraform, tmp_path: Path) -> None:
    """Nothing of it is left after a destroy, although the bucket is not empty."""
    with serving() as aws:
        made = prepare(aws, terraform, tmp_path)
        made.variables = {name: made.variables[name] for name in REQUIRED}
        made.apply()
        bucket, old, _ = source(made)
        commit(tmp_path, "two")
        made.apply()
        assert (source(made)[0], source(made)[1] == old) == (bucket, False)
        listed = aws.client("s3").list_objects_v2(Bucket=bucket)["Contents"]
        assert [each["Key"] for each in listed] == [source(made)[1]]
        assert len(aws.refreshes) == 1
        aws.client("s3").put_object(Bucket=bucket, Key="left-over", Body=b"")
        made.terraform.destroy(made.folder, made.variables)
        assert remaining(aws) == {}
