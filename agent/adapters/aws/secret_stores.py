"""Secrets from AWS: `ssm:///name` (Parameter Store) and `secretsmanager://id#json-key`.

boto3 is imported inside the functions; access.py opens the session and bounds the calls.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agent.adapters.aws.access import DENIED, Access, is_transient, read_reply
from agent.core.text.describe import nearest
from agent.core.text.pasted import decoded, visible
from agent.errors import AgentError, RejectedError, SettingsError, TransientError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

MISSING = {"ParameterNotFound", "ParameterVersionNotFound", "ResourceNotFoundException"}
"""Error codes of both services, from their API references ("Errors")."""


class Store:
    """AWS's two secret stores, read on behalf of one setting, which every error names."""

    def __init__(self, setting: str, metadata_endpoint: str) -> None:
        self._setting = setting
        self._metadata_endpoint = metadata_endpoint

    def fetch(self, reference: str) -> str:
        """Return the secret that a reference names.

        Raises:
            SettingsError: no such entry, no such JSON key, no region.
            RejectedError: access denied, no credentials, or expired ones.
            TransientError: throttled, the service is failing, or no network.
        """
        from botocore import exceptions as boto

        scheme, _, rest = reference.partition("://")
        name, _, key = rest.partition("#")
        access = Access(self._setting, self._metadata_endpoint)
        arn_region = name.split(":")[3] if name.startswith("arn:") and name.count(":") >= 5 else None
        region = access.region(reference, arn_region)
        where = f"{self._setting}: {reference} in {region}"
        try:
            if scheme == "ssm":
                return self._parameter(access.client("ssm", region), name)
            return self._secret(access.client("secretsmanager", region), name, key, where)
        except boto.ClientError as error:
            raise _from_reply(where, scheme, error) from error
        except boto.BotoCoreError as error:
            raise _from_client(where, error) from error

    def _parameter(self, client: Any, name: str) -> str:
        return str(client.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"])

    def _secret(self, client: Any, name: str, key: str, where: str) -> str:
        reply = client.get_secret_value(SecretId=name)
        text = reply.get("SecretString")
        if text is None:
            text = _decode(reply.get("SecretBinary", b""), where)
        return _json_value(text, key, where) if key else str(text)


def _decode(content: bytes, where: str) -> str:
    try:
        return decoded(content)
    except UnicodeDecodeError as error:
        raise SettingsError(f"{where}: the entry is binary, not text; store it as text") from error


def _json_value(text: str, key: str, where: str) -> str:
    try:
        entry = json.loads(visible(text))
    except ValueError:
        entry = None
    # Neither chained nor shown: a JSON error quotes the text it could not parse, which is the secret.
    if not isinstance(entry, dict):
        raise SettingsError(
            f"{where}: the entry is not a JSON object, so it has no key '{key}'; leave out #{key}, or store it as JSON"
        )
    if key not in entry:
        near = nearest(key, entry)
        hint = f"did you mean '{near}'?" if near else f"it has {len(entry)} other keys"
        raise SettingsError(f"{where}: the entry has no key '{key}' ({hint}); correct the part after the #")
    value = entry[key]
    if not isinstance(value, str):
        raise SettingsError(
            f"{where}: the value of '{key}' in the entry is not text; store the secret as a JSON string"
        )
    return value


def _from_reply(where: str, scheme: str, error: ClientError) -> AgentError:
    """Classify an error reply of the service."""
    code, status, message = read_reply(error)
    if code in MISSING:
        return SettingsError(
            f"{where}: there is no such entry ({message}); check the name, the region and the account"
        )
    if code in DENIED:
        action = "ssm:GetParameter" if scheme == "ssm" else "secretsmanager:GetSecretValue"
        return RejectedError(
            f"{where}: refused ({message}); allow this machine's role {action} on the entry, and kms:Decrypt on its"
            " key; if the credentials are right, check this machine's clock"
        )
    if is_transient(code, status):
        return TransientError(f"{where}: temporarily unavailable ({message}); will retry")
    return SettingsError(f"{where}: the request was not accepted ({message}); correct the reference")


def _from_client(where: str, error: Exception) -> AgentError:
    """Classify an error that botocore raised without a reply of the service."""
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
            " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or put the secret in a file"
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
            f"{where}: the store cannot be reached ({error}); will retry. Check this machine's outbound access"
            " (port 443), its DNS and the region"
        )
    return SettingsError(f"{where}: {error}; correct the reference or AWS's configuration")
