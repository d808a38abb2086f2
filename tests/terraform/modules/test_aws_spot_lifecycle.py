"""examples/aws-spot over its life: scaled out, refreshed and destroyed, with the oldest and with a current provider."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.aws.standin import serving
from tests.terraform.modules.aws_spot import prepare, remaining, summary
from tests.terraform.program import Terraform
from tests.terraform.providers import given_mirror, newest

pytestmark = pytest.mark.terraform


def test_it_scales_out_is_refreshed_and_leaves_nothing_behind(
    terraform: Terraform, tmp_path: Path, journal: list[str]
) -> None:
    with serving() as aws:
        made = prepare(aws, terraform, tmp_path)
        added = made.apply()
        made.apply(machines=2)
        before = {each["InstanceId"] for each in made.group()["Instances"]}
        assert len(before) == 2
        assert aws.refreshes == [], "a change of size refreshes nothing"

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
        assert remaining(aws) == {}
    journal.append(
        f"examples/aws-spot, AWS provider 3.39.0: {summary(added)} Scaled to 2; refreshed to version 2, rolling."
    )
    journal.append(f"examples/aws-spot, AWS provider 3.39.0: {summary(destroyed)} Nothing left.")


@pytest.mark.provider
def test_a_current_provider_creates_and_removes_the_same(
    terraform_with_mirror: Terraform, tmp_path: Path, journal: list[str]
) -> None:
    version = newest("hashicorp/aws", given_mirror())
    if version is None or version[0] < 4:
        pytest.skip("TF_PLUGIN_MIRROR has no hashicorp/aws of version 4 or later")
    with serving() as aws:
        made = prepare(aws, terraform_with_mirror, tmp_path)
        added = made.apply()
        assert made.template()["LaunchTemplateData"]["MetadataOptions"]["HttpTokens"] == "required"
        destroyed = made.terraform.destroy(made.folder, made.variables).output
        assert remaining(aws) == {}
    name = f"examples/aws-spot, AWS provider {'.'.join(map(str, version))}"
    journal.append(f"{name}: {summary(added)} {summary(destroyed)} Nothing left.")
