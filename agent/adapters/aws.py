"""Secrets from AWS: `ssm:///name` (Parameter Store) and `secretsmanager://id#json-key`.

boto3 is imported by this module's functions only. Calls are bounded: two tries of a few seconds each, with
botocore's own back-off between them; who asks for the secret decides about more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agent.adapters import metadata
from agent.core.text import nearest
from agent.errors import AgentError, RejectedError, SettingsError, TransientError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from botocore.session import Session

CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 5
TRIES = 2
METADATA_TIMEOUT_S = 2
LONGEST_S = 30
"""About the most: region and credentials from a metadata service that hangs, then two tries of the call."""

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
MISSING = {"ParameterNotFound", "ParameterVersionNotFound", "ResourceNotFoundException"}
"""Error codes of both services, and those common to all of AWS, from their API references ("Errors")."""


class Store:
    """AWS's two secret stores, asked on behalf of one setting, which every message names."""

    def __init__(self, setting: str, metadata_endpoint: str) -> None:
        self._setting = setting
        self._metadata_endpoint = metadata_endpoint

    def fetch(self, reference: str) -> str:
        """Return what a reference names.

        Raises:
            SettingsError: no such entry, no such JSON key, no region.
            RejectedError: access denied, no credentials, credentials expired.
            TransientError: throttled, the service in trouble, or no network.
        """
        from botocore import exceptions as boto

        scheme, _, rest = reference.partition("://")
        name, _, key = rest.partition("#")
        session = self._session()
        region = self._region(session, name, reference)
        where = f"{self._setting}: {reference} in {region}"
        try:
            if scheme == "ssm":
                return self._parameter(session, region, name)
            return self._secret(session, region, name, key, where)
        except boto.ClientError as error:
            raise _from_reply(where, scheme, error) from error
        except boto.BotoCoreError as error:
            raise _from_client(where, error) from error

    def _session(self) -> Session:
        from botocore import exceptions as boto
        from botocore.session import Session

        session = Session()
        try:
            for variable, value in self._variables().items():
                session.set_config_variable(variable, value)
            session.get_scoped_config()
        except boto.BotoCoreError as error:
            raise SettingsError(
                f"{self._setting}: AWS's configuration cannot be used ({error}); correct it"
            ) from error
        return session

    def _variables(self) -> Mapping[str, Any]:
        bounds = {"metadata_service_timeout": METADATA_TIMEOUT_S, "metadata_service_num_attempts": 2}
        if self._metadata_endpoint == metadata.DEFAULT_ENDPOINT:
            return bounds
        return {**bounds, "ec2_metadata_service_endpoint": self._metadata_endpoint}

    def _region(self, session: Session, name: str, reference: str) -> str:
        """From the entry's ARN, the environment, AWS's configuration file, or the metadata service."""
        in_arn = name.split(":")[3] if name.startswith("arn:") and name.count(":") >= 5 else None
        configured = in_arn or os.environ.get("AWS_REGION") or session.get_config_variable("region")
        region = configured or metadata.region(self._metadata_endpoint, METADATA_TIMEOUT_S)
        if not region:
            raise SettingsError(
                f"{self._setting}: {reference}: no AWS region is known (no metadata service answers here);"
                " set AWS_REGION"
            )
        return str(region)

    def _client(self, session: Session, service: str, region: str) -> Any:
        from boto3.session import Session as Boto3Session
        from botocore.config import Config

        bounds = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"mode": "standard", "total_max_attempts": TRIES},
        )
        boto3 = Boto3Session(botocore_session=session)
        return boto3.client(service, region_name=region, config=bounds)  # type: ignore[call-overload]

    def _parameter(self, session: Session, region: str, name: str) -> str:
        client = self._client(session, "ssm", region)
        return str(client.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"])

    def _secret(self, session: Session, region: str, name: str, key: str, where: str) -> str:
        answer = self._client(session, "secretsmanager", region).get_secret_value(SecretId=name)
        text = answer.get("SecretString")
        if text is None:
            text = _decoded(answer.get("SecretBinary", b""), where)
        return _json_value(text, key, where) if key else str(text)


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise SettingsError(f"{where}: the entry is binary and no text; store it as text") from error


def _json_value(text: str, key: str, where: str) -> str:
    try:
        entry = json.loads(text)
    except ValueError:
        entry = None
    # Not chained and not shown: a JSON error quotes what it could not read, which is the secret.
    if not isinstance(entry, dict):
        raise SettingsError(
            f"{where}: the entry is no JSON object, so it has no key '{key}'; leave out #{key}, or store it as JSON"
        )
    if key not in entry:
        near = nearest(key, entry)
        hint = f"did you mean '{near}'?" if near else f"it has {len(entry)} others"
        raise SettingsError(
            f"{where}: the entry has no key '{key}' ({hint}); correct what stands behind the #"
        )
    value = entry[key]
    if not isinstance(value, str):
        raise SettingsError(
            f"{where}: what the entry has under '{key}' is no text; store the secret as a JSON string"
        )
    return value


def _from_reply(where: str, scheme: str, error: ClientError) -> AgentError:
    """Classify an error that the service answered with."""
    details = error.response.get("Error", {})
    code = details.get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    said = f"{code}: {details.get('Message', '')}".rstrip(": ")
    if code in MISSING:
        return SettingsError(
            f"{where}: there is no such entry ({said}); check the name, the region and the account"
        )
    if code in DENIED:
        action = "ssm:GetParameter" if scheme == "ssm" else "secretsmanager:GetSecretValue"
        return RejectedError(
            f"{where}: refused ({said}); allow this machine's role {action} on the entry, and kms:Decrypt on its"
            " key; if the credentials are right, check this machine's clock"
        )
    if _is_passing(code, status):
        return TransientError(f"{where}: not answered now ({said}); tried again later")
    return SettingsError(f"{where}: the request was not accepted ({said}); correct the reference")


def _is_passing(code: str, status: int) -> bool:
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


def _from_client(where: str, error: Exception) -> AgentError:
    """Classify an error that botocore found before, or instead of, an answer."""
    from botocore import exceptions as boto

    no_credentials = (
        boto.NoCredentialsError,
        boto.PartialCredentialsError,
        boto.NoAuthTokenError,
        boto.TokenRetrievalError,
        boto.UnauthorizedSSOTokenError,
    )
    if isinstance(error, no_credentials):
        return RejectedError(
            f"{where}: this machine has no AWS credentials ({error}); give it an instance role, or set"
            " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or put the secret into a file"
        )
    if isinstance(
        error,
        (
            boto.HTTPClientError,
            boto.ConnectionError,
            boto.CredentialRetrievalError,
            boto.MetadataRetrievalError,
        ),
    ):
        return TransientError(
            f"{where}: the store cannot be reached ({error}); tried again later. Check the way out of this machine"
            " (port 443), its DNS and the region"
        )
    return SettingsError(f"{where}: {error}; correct the reference or AWS's configuration")
