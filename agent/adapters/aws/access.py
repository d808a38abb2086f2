"""Access to AWS services from this machine: session, region, credentials, and bounded calls.

A call gets two attempts of a few seconds each, with botocore's own backoff between them; callers decide about further
ones. boto3 is imported inside the functions: it takes 0.7 s and 22 MB.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agent.adapters.aws import imds
from agent.errors import SettingsError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 5
TRIES = 2
METADATA_TIMEOUT_S = 2
LONGEST_S = 30
"""Roughly the longest a call takes: region and credentials from a metadata service that hangs, then two attempts."""

DENIED = {
    "AccessDeniedException",
    "AccessDenied",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "MissingAuthenticationTokenException",
    "ExpiredTokenException",
    "ExpiredToken",
    "OptInRequired",
    "DecryptionFailure",
}
"""Error codes for denied access, from the API references of AWS's services ("Errors")."""


class Access:
    """A session with AWS on behalf of one setting, which every error names.

    Raises: SettingsError if AWS's own configuration cannot be used.
    """

    def __init__(self, setting: str, metadata_endpoint: str) -> None:
        from botocore import exceptions as boto
        from botocore.session import Session

        self._setting = setting
        self._metadata_endpoint = metadata_endpoint
        self._session = Session()
        try:
            for variable, value in self._variables().items():
                self._session.set_config_variable(variable, value)
            self._session.get_scoped_config()
        except boto.BotoCoreError as error:
            raise SettingsError(
                f"{setting}: AWS's configuration cannot be used ({error}); correct it"
            ) from error

    def _variables(self) -> Mapping[str, int | str]:
        bounds: dict[str, int | str] = {
            "metadata_service_timeout": METADATA_TIMEOUT_S,
            "metadata_service_num_attempts": 2,
        }
        if self._metadata_endpoint == imds.DEFAULT_ENDPOINT:
            return bounds
        return {**bounds, "ec2_metadata_service_endpoint": self._metadata_endpoint}

    def region(self, what: str, named: str | None = None) -> str:
        """Return `named`, or else the region from the environment, AWS's configuration file or the metadata service.

        Raises: SettingsError if none of them has one; it names `what` the region was needed for.
        """
        configured = named or os.environ.get("AWS_REGION") or self._session.get_config_variable("region")
        region = configured or imds.region(self._metadata_endpoint, METADATA_TIMEOUT_S)
        if not region:
            raise SettingsError(
                f"{self._setting}: {what}: no AWS region is configured, and no instance metadata service answers;"
                " set AWS_REGION"
            )
        return str(region)

    def client(self, service: str, region: str) -> Any:
        """Return boto3's client for a service, which has no static type here, with bounded calls."""
        from boto3.session import Session as Boto3Session
        from botocore.config import Config

        bounds = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"mode": "standard", "total_max_attempts": TRIES},
        )
        boto3 = Boto3Session(botocore_session=self._session)
        return boto3.client(service, region_name=region, config=bounds)  # type: ignore[call-overload]


def read_reply(error: ClientError) -> tuple[str, int, str]:
    """Return the error code, the HTTP status (0: unknown), and code and message in one text for a person."""
    details = error.response.get("Error", {})
    code = details.get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return code, status, f"{code}: {details.get('Message', '')}".rstrip(": ")


def is_transient(code: str, status: int) -> bool:
    """Return whether the same request may succeed later."""
    return (
        status >= 500
        or status == 429
        or "Throttl" in code
        or code
        in {
            "TooManyRequestsException",
            "RequestLimitExceeded",
            "LimitExceededException",
            "RequestTimeout",
            "InternalServerError",
            "InternalServiceError",
        }
    )
