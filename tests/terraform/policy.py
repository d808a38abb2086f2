"""Whether an IAM policy document allows a call: the part of IAM's evaluation that our policies use.

Contract (IAM user guide, "Policy evaluation logic"): refused unless a statement allows it, an explicit Deny wins;
`*` and `?` stand for any characters in actions (whose case does not count) and resources; every condition operator,
and every key in it, must hold for one of its values. Anything else in a document is an error here, so that nothing is
waved through unread.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_READ = {"Sid", "Effect", "Action", "Resource", "Condition"}


def allows(
    document: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str] | None = None
) -> bool:
    """Return whether the document alone allows `action` on `resource`; `context` holds the request's keys."""
    matching = {
        statement["Effect"]
        for statement in _list(document["Statement"])
        if _matches(statement, action, resource, context or {})
    }
    return matching == {"Allow"}


def _matches(statement: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str]) -> bool:
    unread = set(statement) - _READ
    assert not unread, f"this does not evaluate {unread}"
    return (
        any(_like(each.lower(), action.lower()) for each in _list(statement["Action"]))
        and any(_like(each, resource) for each in _list(statement["Resource"]))
        and all(_holds(operator, keys, context) for operator, keys in statement.get("Condition", {}).items())
    )


def _holds(operator: str, keys: Mapping[str, Any], context: Mapping[str, str]) -> bool:
    assert operator == "StringEquals", f"this does not evaluate {operator}"
    return all(context.get(key) in _list(values) for key, values in keys.items())


def _like(pattern: str, text: str) -> bool:
    written = "".join({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in pattern)
    return re.fullmatch(written, text, re.DOTALL) is not None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
