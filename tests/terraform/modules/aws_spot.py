"""examples/aws-spot in a copy of the tree, applied to the stand-in for AWS."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.aws.standin import CREDENTIALS, REGION, Aws
from tests.terraform.program import Terraform, checkout_of_tree

NAME = "beta9-gpu"
SECRET = {"token": "the-token-that-must-not-leak", "ssh_key": "the-key-that-must-not-leak"}
SERVICES = ("autoscaling", "ec2", "iam", "kms", "s3", "secretsmanager", "ssm", "sts")


@dataclass
class Applied:
    """The example, with its provider pointed at the stand-in."""

    aws: Aws
    terraform: Terraform
    folder: Path
    variables: dict[str, Any]
    output: str = ""

    def apply(self, **changed: Any) -> str:
        self.output = self.terraform.apply(self.folder, {**self.variables, **changed}).output
        return self.output

    def group(self) -> dict[str, Any]:
        (group,) = self.aws.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
        return dict(group)

    def template(self) -> dict[str, Any]:
        """Return the launch template's default version, from which the next machine starts."""
        found = self.aws.client("ec2").describe_launch_template_versions(
            LaunchTemplateName=NAME, Versions=["$Default"]
        )["LaunchTemplateVersions"]
        return dict(found[0])

    def user_data(self) -> bytes:
        return base64.b64decode(self.template()["LaunchTemplateData"]["UserData"])

    def role(self) -> dict[str, Any]:
        (role,) = self.aws.client("iam").list_roles()["Roles"]
        return dict(role)

    def policy(self) -> dict[str, Any]:
        iam, name = self.aws.client("iam"), self.role()["RoleName"]
        return dict(iam.get_role_policy(RoleName=name, PolicyName="worker")["PolicyDocument"])


def prepare(aws: Aws, terraform: Terraform, where: Path) -> Applied:
    """Clone the tree to `where`, create the secret that the example needs, and run `terraform init`."""
    folder = checkout_of_tree(where) / "terraform/examples/aws-spot"
    endpoints = "\n".join(f'    {each} = "{aws.url}"' for each in SERVICES)
    options = "skip_metadata_api_check = true\n  s3_force_path_style = true"
    provider = f'provider "aws" {{\n  {options}\n  endpoints {{\n{endpoints}\n  }}\n}}\n'
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
    example = Applied(aws, terraform.with_environment(**CREDENTIALS), folder, variables)
    example.terraform.init(folder)
    return example


def remaining(aws: Aws) -> dict[str, Any]:
    """Return the remaining resources that the example creates, including machines, by kind; {} if none are left."""
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
        "buckets": aws.client("s3").list_buckets()["Buckets"],
    }
    return {name: each for name, each in found.items() if each}


def summary(output: str) -> str:
    """Return the line in which Terraform sums up an apply or destroy."""
    return next(line for line in output.splitlines() if "complete!" in line)
