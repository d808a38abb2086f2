"""examples/aws-spot, applied by HashiCorp's provider to moto's server and read back with boto3; wrong input."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.core.provisioning import cloud_config
from tests.aws.standin import REGION, serving
from tests.terraform.modules.aws_spot import NAME, SECRET, Applied, prepare
from tests.terraform.policy import allows
from tests.terraform.program import Terraform, copy_of_tree

pytestmark = pytest.mark.terraform

SPOT = {"OnDemandBaseCapacity": 0, "OnDemandPercentageAboveBaseCapacity": 0}


@pytest.fixture(scope="module")
def applied(terraform: Terraform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Applied]:
    """The example with its defaults. Tests must not change it."""
    with serving() as aws:
        made = prepare(aws, terraform, tmp_path_factory.mktemp("aws-spot"))
        made.apply()
        yield made


# --- Resources ---------------------------------------------------------------------------------------


def test_user_data_is_a_cloud_config_that_references_the_secrets(applied: Applied) -> None:
    text = applied.user_data().decode()
    config = yaml.safe_load(text)
    assert cloud_config.problems(text, config) == []
    written = cloud_config.written(config, "/etc/beta9-worker/worker.env")
    assert written is not None
    settings = dict(line.split("=", 1) for line in written.splitlines() if line.startswith("BETA9_"))
    assert settings["BETA9_TOKEN"] == "secretsmanager://beta9/gpu#token"
    assert settings["BETA9_SSH_KEY"] == "secretsmanager://beta9/gpu#ssh_key"
    assert settings["BETA9_AWS_LAUNCH_HOOK"] == f"{NAME}/beta9-launch"
    assert settings["BETA9_ON_FAILURE"] == "poweroff"


def test_the_metadata_service_requires_session_tokens_over_one_hop(applied: Applied) -> None:
    assert applied.template()["LaunchTemplateData"]["MetadataOptions"] == {
        "HttpEndpoint": "enabled",
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
    }


def test_a_machine_is_encrypted_terminates_on_power_off_and_has_no_key_pair(applied: Applied) -> None:
    data = applied.template()["LaunchTemplateData"]
    (disk,) = data["BlockDeviceMappings"]
    ebs = disk["Ebs"]
    assert (ebs["Encrypted"], ebs["VolumeType"], ebs["DeleteOnTermination"]) == (True, "gp3", True)
    assert data["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert "KeyName" not in data
    assert data["ImageId"].startswith("resolve:ssm:/aws/service/deeplearning/ami/x86_64/")
    assert {each["ResourceType"] for each in data["TagSpecifications"]} == {"instance", "volume"}


def test_no_inbound_traffic_is_allowed(applied: Applied) -> None:
    ids = applied.template()["LaunchTemplateData"]["NetworkInterfaces"][0]["Groups"]
    (group,) = applied.aws.client("ec2").describe_security_groups(GroupIds=ids)["SecurityGroups"]
    assert group["IpPermissions"] == []
    assert [each["IpProtocol"] for each in group["IpPermissionsEgress"]] == ["-1"]


def test_machines_are_spot_with_one_gpu_model_and_several_types_and_zones(applied: Applied) -> None:
    group = applied.group()
    distribution = group["MixedInstancesPolicy"]["InstancesDistribution"]
    assert {name: distribution[name] for name in SPOT} == SPOT
    assert distribution["SpotAllocationStrategy"] == "price-capacity-optimized"
    overrides = group["MixedInstancesPolicy"]["LaunchTemplate"]["Overrides"]
    assert [each["InstanceType"] for each in overrides] == ["g5.xlarge", "g5.2xlarge", "g5.4xlarge"]
    assert len(group["AvailabilityZones"]) == 3
    assert group["CapacityRebalance"] is False
    assert [each["ProcessName"] for each in group["SuspendedProcesses"]] == ["AZRebalance"]
    assert applied.terraform.outputs(applied.folder)["gpu_model"] == "A10G"


def test_hooks_terminate_what_never_becomes_ready_and_give_time_to_drain(applied: Applied) -> None:
    hooks = applied.aws.client("autoscaling").describe_lifecycle_hooks(AutoScalingGroupName=NAME)
    results = {
        each["LifecycleTransition"].rpartition("_")[2]: (each["DefaultResult"], each["HeartbeatTimeout"])
        for each in hooks["LifecycleHooks"]
    }
    assert results == {"LAUNCHING": ("ABANDON", 6300), "TERMINATING": ("CONTINUE", 180)}


def test_the_role_may_only_read_its_secret_and_answer_its_group(applied: Applied) -> None:
    secrets = applied.aws.client("secretsmanager")
    own = secrets.describe_secret(SecretId="beta9/gpu")["ARN"]
    another = secrets.create_secret(Name="beta9/gpu-prod12", SecretString="{}")["ARN"]
    group = applied.group()["AutoScalingGroupARN"]
    policy = applied.policy()
    for action, resource in (
        ("secretsmanager:GetSecretValue", own),
        ("autoscaling:CompleteLifecycleAction", group),
        ("autoscaling:SetInstanceHealth", group),
    ):
        assert allows(policy, action, resource), (action, resource)
    for action, resource in (
        ("secretsmanager:GetSecretValue", another),
        ("secretsmanager:PutSecretValue", own),
        ("ssm:GetParameter", f"arn:aws:ssm:{REGION}:123456789012:parameter/beta9/gpu"),
        ("kms:Decrypt", f"arn:aws:kms:{REGION}:123456789012:key/1"),
        ("autoscaling:CompleteLifecycleAction", group.replace(NAME, "another")),
        ("autoscaling:UpdateAutoScalingGroup", group),
        ("ec2:DescribeInstances", "*"),
        ("sts:AssumeRole", "*"),
    ):
        assert not allows(policy, action, resource), (action, resource)
    trusted = applied.role()["AssumeRolePolicyDocument"]["Statement"]
    assert [each["Principal"] for each in trusted] == [{"Service": "ec2.amazonaws.com"}]


def test_no_secret_is_in_the_state_or_the_output(applied: Applied) -> None:
    text = (applied.folder / "terraform.tfstate").read_text() + applied.output
    assert "beta9/gpu" in text
    assert [each for each in SECRET.values() if each in text] == []


def test_a_second_plan_has_no_changes(applied: Applied) -> None:
    assert "No changes" in applied.terraform.plan(applied.folder, applied.variables).output


# --- Wrong input -----------------------------------------------------------------------------------------

LONG = "\n".join(f"gateway-{n}.example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5" for n in range(300))
WRONG = {
    "a bad pool name": (
        {"pool_name": "my pool"},
        "pool_name 'my pool' is not a valid pool name",
    ),
    "a secret in plain text": (
        {"settings": {"BETA9_K3S_TOKEN": "K10secret"}},
        "settings: BETA9_K3S_TOKEN contains a secret in plain text",
    ),
    "mixed GPU models": (
        {"instance_types": ["g5.xlarge", "g6.xlarge"]},
        "instance_types mixes GPU models (g5.xlarge: A10G, g6.xlarge: L4)",
    ),
    "17 kB of user data": ({"settings": {"BETA9_SSH_KNOWN_HOSTS": LONG}}, "aws accepts at most 16384"),
    "an unfit type": ({"instance_types": ["p3.2xlarge"]}, "p3.2xlarge: GPUs older than Turing"),
    "a secret's value instead of its name": (
        {"secret_name": "-----BEGIN KEY-----"},
        "never the secret itself",
    ),
}


@pytest.mark.parametrize(("wrong", "message"), WRONG.values(), ids=WRONG)
def test_wrong_input_fails_the_plan_with_a_helpful_message(
    wrong: dict[str, Any], message: str, applied: Applied
) -> None:
    planned = applied.terraform.plan(applied.folder, {**applied.variables, **wrong}, check=False)
    assert planned.code == 1
    assert message in planned.text


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        (["192.168.0.0/19"], "192.168.0.0/19 overlaps 192.168.1.0/24"),
        (["10.40.0.0/16", None], "belong to more than one VPC"),
    ],
)
def test_subnets_in_which_a_worker_cannot_work_fail_the_plan(
    networks: list[str | None], message: str, applied: Applied
) -> None:
    """Field case 12.4: the machines' own network, as EC2 knows it. None: a subnet of another VPC."""
    ec2 = applied.aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock=(networks[0] or "").split("/")[0] + "/16")["Vpc"]["VpcId"]
    for network in networks[1:]:
        if network:
            ec2.associate_vpc_cidr_block(VpcId=vpc, CidrBlock=network)
    ids = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=network)["Subnet"]["SubnetId"]
        if network
        else applied.variables["subnet_ids"][0]
        for network in networks
    ]
    planned = applied.terraform.plan(applied.folder, {**applied.variables, "subnet_ids": ids}, check=False)
    assert planned.code == 1
    assert message in planned.text


@pytest.mark.parametrize("network", ["10.42.8.0/24", "10.43.0.0/20", "10.40.0.0/16"])
def test_subnets_in_k3s_s_usual_networks_are_mentioned(network: str, applied: Applied) -> None:
    """Field case 12.4: the bootstrap takes other networks for k3s there, so the plan goes on."""
    ec2 = applied.aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock=network.rpartition("/")[0] + "/16")["Vpc"]["VpcId"]
    ids = [ec2.create_subnet(VpcId=vpc, CidrBlock=network)["Subnet"]["SubnetId"]]
    planned = applied.terraform.plan(applied.folder, {**applied.variables, "subnet_ids": ids})
    warning = f"The machine's own network ({network}) overlaps 10.42.0.0/16 or 10.43.0.0/16"
    assert (warning in planned.text) == (network != "10.40.0.0/16")


def test_long_user_data_fits_when_compressed(applied: Applied, tmp_path: Path) -> None:
    """The error for 17 kB of user data advises this."""
    folder = copy_of_tree(tmp_path) / "terraform/modules/user-data"
    applied.terraform.init(folder)
    given = {
        "cloud": "aws",
        "compress": True,
        "pool_name": "gpu",
        "source_tarball": applied.variables["source_tarball"],
        "settings": {"BETA9_SSH_KNOWN_HOSTS": LONG},
    }
    applied.terraform.apply(folder, given)
    made = applied.terraform.outputs(folder)
    packed = base64.b64decode(made["user_data_base64"])
    assert len(packed) <= 16384 < len(made["cloud_config"])
    assert gzip.decompress(packed).decode() == made["cloud_config"]
