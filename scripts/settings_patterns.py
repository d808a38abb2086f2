"""What the machine accepts as the value of each setting, as regular expressions that Terraform can check at plan time.

modules/user-data reads them from known_variables.json. They are valid in RE2, which Terraform uses, and may accept more
than the machine does, but must never refuse what it accepts: tests/unit/provisioning/test_settings_patterns.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import Enum

from agent.core.hairpin.layout import RANGE, parse_range
from agent.provisioning.bootstrap_settings import ADDRESSES, NETWORK, PROXY
from agent.settings import amounts, parsers
from agent.settings.fields import BOOTSTRAP_VARIABLES, FIELDS

ANYTHING = ""
_PORT = "[0-9]{1,4}|[0-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
_POSITIVE_PORT = _PORT.replace("[0-9]{1,4}", "0{0,3}[1-9]|0{0,2}[1-9][0-9]|0?[1-9][0-9]{2}|[1-9][0-9]{3}")
_HOST = r"\[?[0-9A-Fa-f.]*:[0-9A-Za-z:.%_-]*\]?|[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?"
_SECONDS = r"[0-9]{1,9}(\.[0-9]{1,9})?s?"
_JUMP_HOST = r"\s*[^,\s]*\s*"
_FORWARD = r"\s*(([^,]*:)?[0-9]{1,5}:[^,]+:[0-9]{1,5})?\s*"

_BY_PARSER: dict[Callable[[str], object], str] = {
    parsers.text: ANYTHING,
    parsers.path: r"[^\x00-\x1f\x7f]*",
    parsers.state_dir: r'[^%":\\\x00-\x1f\x7f]*',
    parsers.name: parsers._NAME,
    parsers.machine_id: "[0-9a-f]{8}",
    parsers.port: _POSITIVE_PORT,
    parsers.host: _HOST,
    parsers.user: parsers._USER,
    parsers.bind_address: _HOST,
    parsers.host_port: f"({_HOST}):({_POSITIVE_PORT})",
    parsers.listen_address: f"({_HOST}):({_PORT})",
    parsers.forwards: f"{_FORWARD}(,{_FORWARD})*",
    parsers.jump_hosts: rf"{_JUMP_HOST}(,{_JUMP_HOST})*",
    # It has an input of its own, with a rule of its own.
    parsers.fingerprints: ANYTHING,
    parsers.lifecycle_hook: r"[^\s/]{1,255}/[A-Za-z0-9_/-]{1,255}",
    amounts.seconds: _SECONDS,
    amounts.seconds_or_none: _SECONDS,
    amounts.count: amounts.COUNT,
    amounts.cpu_millicores: r"[0-9]{1,9}m|[0-9]{1,6}(\.[0-9]{1,3})?",
    amounts.memory_mib: "[0-9]{1,12}(Ki|Mi|Gi|Ti)|0",
    parse_range: RANGE,
    parsers.url: r"https?://[^\s/?#@]+(/[^\s?#]*)?",
}

_ABSOLUTE = r"/[^\x00-\x1f\x7f]*"
_OF_BOOTSTRAP = {
    **dict.fromkeys(("BETA9_FILES_DIR", "BETA9_REGISTRY_AUTH_FILE", "BETA9_REGISTRIES_FILE"), _ABSOLUTE),
    **dict.fromkeys(("BETA9_GPU_TIMEOUT", "BETA9_MIN_FREE_MIB"), amounts.COUNT),
    "BETA9_SECRETS_TIMEOUT": "0|[1-9][0-9]{0,2}|[12][0-9]{3}|3[0-4][0-9]{2}|3500",
    "BETA9_DEADLINE_SCALE": "[1-9][0-9]{0,6}",
    "BETA9_MIG_STRATEGY": "none|single|mixed",
    "BETA9_K3S_ALLOW_FROM": ADDRESSES,
    **dict.fromkeys(("BETA9_K3S_CLUSTER_CIDR", "BETA9_K3S_SERVICE_CIDR"), NETWORK),
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), PROXY),
}
"""The inputs source_tarball, agent_image and on_failure of modules/user-data have rules of their own."""


def patterns() -> dict[str, str]:
    """Return the expression for the whole value of each variable, "" where any text is valid.

    Raises: KeyError for a parser without an expression.
    """
    found = {}
    for field in FIELDS:
        found[field.variable] = ANYTHING if field.file_variant else _of_parser(field.parse)
        if field.file_variant:
            found[f"{field.variable}_FILE"] = "/.*"
    for variable in BOOTSTRAP_VARIABLES:
        is_checksum = variable.endswith("_SHA256")
        found[variable] = "[0-9A-Fa-f]{64}" if is_checksum else _OF_BOOTSTRAP.get(variable, ANYTHING)
    return found


def _of_parser(parse: Callable[[str], object]) -> str:
    given = inspect.getclosurevars(parse).nonlocals
    if "words" in given:
        return f"(?i:{'|'.join(given['words'])})"
    if "kind" in given:
        kind: type[Enum] = given["kind"]
        return f"(?i:{'|'.join(str(member.value) for member in kind)})"
    return _BY_PARSER[parse]
