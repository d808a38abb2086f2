"""The modules and examples for Crusoe and Lambda conform to the providers' schemas."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import ROOT
from tests.terraform.program import configurations
from tests.terraform.schemas import errors

pytestmark = pytest.mark.terraform

VM = 'name = "a"\n type = "b"\n ssh_key = "c"'
RULE = """
resource "crusoe_vpc_firewall_rule" "out" {
  name = "a"
  network = "n"
  action = "allow"
  direction = "egress"
  protocols = "tcp"
  source = "0.0.0.0/0"
  source_ports = "1-65535"
  destination = "0.0.0.0/0"
  %s
}
"""


@pytest.mark.parametrize("configuration", [pytest.param(each, id=str(each)) for each in configurations()])
def test_a_configuration_conforms_to_the_schemas(configuration: Path) -> None:
    assert errors(ROOT / configuration) == []


def test_the_checked_configurations_use_the_schemas() -> None:
    """Checking nothing would pass as well."""
    texts = "".join(each.read_text() for folder in configurations() for each in (ROOT / folder).glob("*.tf"))
    for kind in (
        "crusoe_compute_instance",
        "crusoe_vpc_network",
        "crusoe_vpc_firewall_rule",
        "restapi_object",
    ):
        assert f'resource "{kind}"' in texts


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (f'resource "crusoe_compute_instance" "a" {{\n {VM}\n spot = true\n}}', "unknown argument spot"),
        (f'resource "crusoe_compute_instance" "a" {{\n {VM}\n fqdn = "x"\n}}', "fqdn is read-only"),
        ('resource "crusoe_compute_instance" "a" {\n name = "a"\n type = "b"\n}', "ssh_key is required"),
        ('resource "crusoe_spot_instance" "a" {\n}', "unknown type"),
        (
            f'resource "crusoe_compute_instance" "a" {{\n {VM}\n location = ["x"]\n}}',
            "is of type string, not list",
        ),
        (
            f'resource "crusoe_compute_instance" "a" {{\n {VM}\n install_crusoe_watch_agent = "no"\n}}',
            "is of type bool, not string",
        ),
        (
            'variable "x" {\n type = list(string)\n}\n'
            f'resource "crusoe_compute_instance" "a" {{\n {VM}\n image = var.x\n}}',
            "is of type string, not list",
        ),
        (
            f'resource "crusoe_compute_instance" "a" {{\n {VM}\n network_interfaces {{\n subnet = "s"\n }}\n}}',
            "but written as a block",
        ),
        (
            f'resource "crusoe_compute_instance" "a" {{\n {VM}\n network_interfaces = [{{ vpc = "s" }}]\n}}',
            "network_interfaces: unknown key vpc",
        ),
        (
            f'resource "crusoe_compute_instance" "a" {{\n {VM}\n'
            ' disks = var.x ? [{ id = "d", mode = "read-only" }] : null\n}',
            "disks: attachment_type is required",
        ),
        (RULE % "", "destination_ports is required"),
        (RULE % "destination_ports = [22, 443]", "is of type string, not list"),
        ('output "a" {\n value = crusoe_compute_instance.a[0].public_ip\n}', "has no [0].public_ip"),
        (
            'output "a" {\n value = crusoe_compute_instance.a.network_interfaces[0].public_ipv4.ip\n}',
            "has no network_interfaces[0].public_ipv4.ip",
        ),
        ('resource "restapi_object" "a" {\n path = "/x"\n}', "data is required"),
        (
            'resource "restapi_object" "a" {\n path = "/x"\n data = "{}"\n retries = 3\n}',
            "unknown argument retries",
        ),
        ('provider "restapi" {\n url = "x"\n}', "unknown argument url"),
        ('provider "restapi" {\n retries {\n max = 3\n }\n}', "retries: unknown argument max"),
    ],
)
def test_an_error_is_found(text: str, error: str, tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text(text)
    assert any(error in each for each in errors(tmp_path)), errors(tmp_path)


def test_a_valid_configuration_has_no_errors(tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text(
        'variable "on" {\n type = bool\n}\n'
        f'resource "crusoe_compute_instance" "a" {{\n {VM}\n install_crusoe_watch_agent = var.on\n count = 1\n'
        ' network_interfaces = var.on ? [{ subnet = "s", public_ipv4 = { type = "dynamic" } }] : null\n}\n'
        'output "ip" {\n value = crusoe_compute_instance.a[0].network_interfaces[0].public_ipv4.address\n}\n'
        'output "seen" {\n value = restapi_object.a.api_data.status\n}\n'
        + RULE
        % 'destination_ports = "22,443"'
    )
    assert errors(tmp_path) == []
