"""examples/aws-spot, really applied: HashiCorp's provider makes it at moto's server, boto3 reads it back."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.core.provisioning import cloud_config
from tests.aws.standin import CREDENTIALS, REGION, Aws, serving
from tests.terraform.policy import allows
from tests.terraform.program import Terraform, copy_of_tree
from tests.terraform.providers import given_mirror, newest

pytestmark = pytest.mark.terraform

NAME = "beta9-gpu"
SECRET = {"token": "the-token-that-nobody-may-see", "ssh_key": "the-key-that-nobody-may-see"}
SERVICES = ("autoscaling", "ec2", "iam", "kms", "secretsmanager", "ssm", "sts")
SPOT = {"OnDemandBaseCapacity": 0, "OnDemandPercentageAboveBaseCapacity": 0}


@dataclass
class Applied:
    """The example, in a copy of the tree, with its provider pointed at the stand-in."""

    aws: Aws
    terraform: Terraform
    folder: Path
    variables: dict[str, Any]
    output: str = ""

    def apply(self, **changed: Any) -> str:
        self.output = self.terraform.apply(self.folder, {**self.variables, **changed}).output
        return self.output

    def group(self) -> dict[str, Any]:
        (found,) = self.aws.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
        return dict(found)

    def template(self) -> dict[str, Any]:
        """The launch template's default version: what the next machine starts from."""
        found = self.aws.client("ec2").describe_launch_template_versions(
            LaunchTemplateName=NAME, Versions=["$Default"]
        )["LaunchTemplateVersions"]
        return dict(found[0])

    def user_data(self) -> bytes:
        return base64.b64decode(self.template()["LaunchTemplateData"]["UserData"])

    def role(self) -> dict[str, Any]:
        (found,) = self.aws.client("iam").list_roles()["Roles"]
        return dict(found)

    def policy(self) -> dict[str, Any]:
        iam, name = self.aws.client("iam"), self.role()["RoleName"]
        return dict(iam.get_role_policy(RoleName=name, PolicyName="worker")["PolicyDocument"])


def prepared(aws: Aws, terraform: Terraform, where: Path) -> Applied:
    folder = copy_of_tree(where) / "terraform/examples/aws-spot"
    endpoints = "\n".join(f'    {each} = "{aws.url}"' for each in SERVICES)
    provider = f'provider "aws" {{\n  skip_metadata_api_check = true\n  endpoints {{\n{endpoints}\n  }}\n}}\n'
    (folder / "stand_in_override.tf").write_text(provider)
    subnets = aws.client("ec2").describe_subnets()["Subnets"]
    aws.client("secretsmanager").create_secret(Name="beta9/gpu", SecretString=json.dumps(SECRET))
    variables = {
        "region": REGION,
        "subnet_ids": [each["SubnetId"] for each in subnets],
        "pool_name": "gpu",
        "gateway_host": "gateway.example.com",
        "gateway_host_key_fingerprint": f"SHA256:{'A' * 43}",
        "source_tarball": f"https://example.com/beta9-worker.tar.gz#sha256={'0' * 64}",
        "secret_name": "beta9/gpu",
    }
    own = Applied(aws, terraform.with_environment(**CREDENTIALS), folder, variables)
    own.terraform.init(folder)
    return own


@pytest.fixture(scope="module")
def applied(terraform: Terraform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Applied]:
    """The example with its defaults. Tests only read."""
    with serving() as aws:
        made = prepared(aws, terraform, tmp_path_factory.mktemp("aws-spot"))
        made.apply()
        yield made


# --- What was made ---------------------------------------------------------------------------------------


def test_user_data_is_a_cloud_config_that_names_the_secrets(applied: Applied) -> None:
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


def test_the_metadata_service_wants_session_tokens_over_one_hop(applied: Applied) -> None:
    assert applied.template()["LaunchTemplateData"]["MetadataOptions"] == {
        "HttpEndpoint": "enabled",
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
    }


def test_a_machine_is_encrypted_ends_when_it_powers_off_and_has_no_key_pair(applied: Applied) -> None:
    data = applied.template()["LaunchTemplateData"]
    (disk,) = data["BlockDeviceMappings"]
    ebs = disk["Ebs"]
    assert (ebs["Encrypted"], ebs["VolumeType"], ebs["DeleteOnTermination"]) == (True, "gp3", True)
    assert data["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert "KeyName" not in data
    assert data["ImageId"].startswith("resolve:ssm:/aws/service/deeplearning/ami/x86_64/")
    assert {each["ResourceType"] for each in data["TagSpecifications"]} == {"instance", "volume"}


def test_nothing_comes_in(applied: Applied) -> None:
    ids = applied.template()["LaunchTemplateData"]["NetworkInterfaces"][0]["Groups"]
    (group,) = applied.aws.client("ec2").describe_security_groups(GroupIds=ids)["SecurityGroups"]
    assert group["IpPermissions"] == []
    assert [each["IpProtocol"] for each in group["IpPermissionsEgress"]] == ["-1"]


def test_machines_are_spot_of_one_gpu_model_over_several_types_and_zones(applied: Applied) -> None:
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


def test_hooks_end_what_never_becomes_ready_and_give_time_to_drain(applied: Applied) -> None:
    hooks = applied.aws.client("autoscaling").describe_lifecycle_hooks(AutoScalingGroupName=NAME)
    said = {
        each["LifecycleTransition"].rpartition("_")[2]: (each["DefaultResult"], each["HeartbeatTimeout"])
        for each in hooks["LifecycleHooks"]
    }
    assert said == {"LAUNCHING": ("ABANDON", 6300), "TERMINATING": ("CONTINUE", 180)}


def test_the_role_may_read_the_one_secret_and_answer_its_group_and_nothing_else(applied: Applied) -> None:
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


def test_no_secret_is_in_the_state_or_was_printed(applied: Applied) -> None:
    kept = (applied.folder / "terraform.tfstate").read_text() + applied.output
    assert "beta9/gpu" in kept
    assert [each for each in SECRET.values() if each in kept] == []


def test_a_second_look_finds_nothing_to_change(applied: Applied) -> None:
    assert "No changes" in applied.terraform.plan(applied.folder, applied.variables).output


# --- What becomes of it ----------------------------------------------------------------------------------


def test_it_grows_is_renewed_and_goes_without_a_trace(
    terraform: Terraform, tmp_path: Path, journal: list[str]
) -> None:
    with serving() as aws:
        made = prepared(aws, terraform, tmp_path)
        added = made.apply()
        made.apply(machines=2)
        before = {each["InstanceId"] for each in made.group()["Instances"]}
        assert len(before) == 2
        assert aws.refreshes == [], "a change of size renews nothing"

        made.apply(machines=2, settings={"BETA9_LOG_LEVEL": "debug"})
        assert b"BETA9_LOG_LEVEL=debug" in made.user_data()
        group = made.group()
        specification = group["MixedInstancesPolicy"]["LaunchTemplate"]["LaunchTemplateSpecification"]
        assert (made.template()["VersionNumber"], specification["Version"]) == (2, "2")
        (refresh,) = aws.refreshes
        assert (refresh["Strategy"], refresh["Preferences"]["MinHealthyPercentage"]) == ("Rolling", 50)
        after = {each["InstanceId"]: each["LaunchTemplate"]["Version"] for each in group["Instances"]}
        assert before.isdisjoint(after)
        assert set(after.values()) == {"2"}

        destroyed = made.terraform.destroy(made.folder, made.variables).output
        assert left(aws) == {}
    journal.append(
        f"examples/aws-spot, AWS provider 3.39.0: {_last(added)} Scaled to 2; renewed as version 2, rolling."
    )
    journal.append(f"examples/aws-spot, AWS provider 3.39.0: {_last(destroyed)} Nothing left.")


def left(aws: Aws) -> dict[str, Any]:
    """What is still there of what the example makes, machines included."""
    ec2, iam = aws.client("ec2"), aws.client("iam")
    machines = [one for each in ec2.describe_instances()["Reservations"] for one in each["Instances"]]
    found = {
        "groups": aws.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"],
        "templates": ec2.describe_launch_templates()["LaunchTemplates"],
        "machines": [each for each in machines if each["State"]["Name"] != "terminated"],
        "security groups": [
            each
            for each in ec2.describe_security_groups()["SecurityGroups"]
            if each["GroupName"] != "default"
        ],
        "roles": iam.list_roles()["Roles"],
        "profiles": iam.list_instance_profiles()["InstanceProfiles"],
    }
    return {name: each for name, each in found.items() if each}


def _last(output: str) -> str:
    return next(line for line in output.splitlines() if "complete!" in line)


@pytest.mark.provider
def test_a_current_provider_makes_and_removes_the_same(
    terraform_with_mirror: Terraform, tmp_path: Path, journal: list[str]
) -> None:
    version = newest("hashicorp/aws", given_mirror())
    if version is None or version[0] < 4:
        pytest.skip("TF_PLUGIN_MIRROR has no hashicorp/aws of today's major versions")
    with serving() as aws:
        made = prepared(aws, terraform_with_mirror, tmp_path)
        added = made.apply()
        assert made.template()["LaunchTemplateData"]["MetadataOptions"]["HttpTokens"] == "required"
        destroyed = made.terraform.destroy(made.folder, made.variables).output
        assert left(aws) == {}
    name = f"examples/aws-spot, AWS provider {'.'.join(map(str, version))}"
    journal.append(f"{name}: {_last(added)} {_last(destroyed)} Nothing left.")


# --- Wrong input -----------------------------------------------------------------------------------------

LONG = "\n".join(f"gateway-{n}.example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5" for n in range(300))
WRONG = {
    "a bad pool name": (
        {"pool_name": "my pool"},
        "pool_name 'my pool' is not a name that the gateway can use",
    ),
    "a secret in plain text": (
        {"settings": {"BETA9_K3S_TOKEN": "K10secret"}},
        "settings: BETA9_K3S_TOKEN holds a secret in plain text",
    ),
    "mixed GPU models": (
        {"instance_types": ["g5.xlarge", "g6.xlarge"]},
        "instance_types mixes GPU models (g5.xlarge: A10G, g6.xlarge: L4)",
    ),
    "17 kB of user data": ({"settings": {"BETA9_SSH_KNOWN_HOSTS": LONG}}, "aws takes 16384"),
    "an unknown type": ({"instance_types": ["p3.2xlarge"]}, "no GPU model is known for p3.2xlarge"),
    "a secret's value for its name": ({"secret_name": "-----BEGIN KEY-----"}, "never the secret itself"),
}


@pytest.mark.parametrize(("wrong", "sentence"), WRONG.values(), ids=WRONG)
def test_wrong_input_fails_while_planning_with_a_sentence_that_helps(
    wrong: dict[str, Any], sentence: str, applied: Applied
) -> None:
    planned = applied.terraform.plan(applied.folder, {**applied.variables, **wrong}, check=False)
    assert planned.code == 1
    assert sentence in planned.text


def test_long_user_data_fits_compressed(applied: Applied, tmp_path: Path) -> None:
    """What the sentence about 17 kB advises."""
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
