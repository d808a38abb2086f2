"""The policy evaluator itself, on documents whose result follows from IAM's user guide."""

from __future__ import annotations

import pytest

from tests.terraform.policy import allows

ONE = {"Effect": "Allow", "Action": "s3:Get*", "Resource": "arn:aws:s3:::box/a?c"}


def document(*statements: object) -> dict[str, object]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


@pytest.mark.parametrize(
    ("action", "resource", "allowed"),
    [
        ("s3:GetObject", "arn:aws:s3:::box/abc", True),
        ("S3:getobject", "arn:aws:s3:::box/abc", True),
        ("s3:PutObject", "arn:aws:s3:::box/abc", False),
        ("s3:GetObject", "arn:aws:s3:::box/abbc", False),
        ("s3:GetObject", "arn:aws:s3:::BOX/abc", False),
    ],
)
def test_wildcards_and_case(action: str, resource: str, *, allowed: bool) -> None:
    assert allows(document(ONE), action, resource) is allowed


def test_a_denial_wins() -> None:
    denial = {**ONE, "Effect": "Deny", "Resource": "*"}
    assert not allows(document(ONE, denial), "s3:GetObject", "arn:aws:s3:::box/abc")


def test_a_condition_must_hold() -> None:
    conditional = document({**ONE, "Condition": {"StringEquals": {"kms:ViaService": ["ssm"]}}})
    assert allows(conditional, "s3:GetObject", "arn:aws:s3:::box/abc", {"kms:ViaService": "ssm"})
    assert not allows(conditional, "s3:GetObject", "arn:aws:s3:::box/abc", {"kms:ViaService": "s3"})
    assert not allows(conditional, "s3:GetObject", "arn:aws:s3:::box/abc")


def test_an_unsupported_element_is_an_error() -> None:
    with pytest.raises(AssertionError, match="NotResource"):
        allows(document({**ONE, "NotResource": "*"}), "s3:GetObject", "*")
