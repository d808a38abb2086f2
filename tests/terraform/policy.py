"""Evaluate whether an IAM policy document allows a call: the part of IAM's logic that our policies use.

Contract (IAM user guide, "Policy evaluation logic"): a call is denied unless a statement allows it, and an explicit
Deny wins; `*` and `?` are wildcards in actions (case-insensitive) and resources; every condition operator, and every
key in it, must match one of its values. Anything else in a document raises AssertionError, so that nothing passes
unchecked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SUPPORTED = {"Sid", "Effect", "Action", "Resource", "Condition"}


def allows(
    document: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str] | None = None
) -> bool:
    """Return whether the document alone allows `action` on `resource`; `context` has the request's condition keys."""
    matching = {
        statement["Effect"]
        for statement in _list(document["Statement"])
        if _matches(statement, action, resource, context or {})
    }
    return matching == {"Allow"}


def _matches(statement: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str]) -> bool:
    unsupported = set(statement) - _SUPPORTED
    assert not unsupported, f"unsupported: {unsupported}"
    return (
        any(_like(each.lower(), action.lower()) for each in _list(statement["Action"]))
        and any(_like(each, resource) for each in _list(statement["Resource"]))
        and all(_holds(operator, keys, context) for operator, keys in statement.get("Condition", {}).items())
    )


def _holds(operator: str, keys: Mapping[str, Any], context: Mapping[str, str]) -> bool:
    assert operator == "StringEquals", f"unsupported: {operator}"
    return all(context.get(key) in _list(values) for key, values in keys.items())


def _like(pattern: str, text: str) -> bool:
    expression = "".join({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in pattern)
    return re.fullmatch(expression, text, re.DOTALL) is not None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
