"""Resolves a SecretRef to its current value: given directly, in a file, or in one of AWS's secret stores.

Nothing is cached: files are read and references fetched again each time, so a running agent picks up a rotated secret
without a restart.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.adapters.aws import imds
from agent.adapters.ssh.private_key import PrivateKey, private_key_copy
from agent.core.text.describe import shape
from agent.errors import SettingsError
from agent.settings.secret_files import read_secret_file
from agent.settings.secret_refs import usable_secret
from agent.settings.values import SecretRef

__all__ = ["PrivateKey", "Secrets", "private_key_copy"]


class Secrets:
    """Resolves secrets. Thread-safe.

    `learned` is called with every secret before it is used, even with one that is then refused; pass `Redactor.add`.
    """

    def __init__(
        self,
        metadata_endpoint: str = imds.DEFAULT_ENDPOINT,
        learned: Callable[[str], object] | None = None,
    ) -> None:
        self._metadata_endpoint = metadata_endpoint
        self._learned = learned

    def resolve(self, ref: SecretRef) -> str:
        """Return the current secret. Takes up to aws/access.py's LONGEST_S for a reference.

        Byte order marks, and white space that was added or lost on the way, are put right.

        Raises:
            SettingsError: the file or entry does not exist, or its content is invalid for the setting.
            RejectedError: the store refused this machine's credentials, or there are none.
            TransientError: the store did not answer or is temporarily unavailable.
        """
        text, origin = self._read(ref)
        self._learn(ref, text)
        try:
            usable = usable_secret(ref.setting, text)
        except ValueError as error:
            raise SettingsError(f"{ref.setting}: {origin or shape(text)} {error}") from error
        if usable != text:
            self._learn(ref, usable)
        return usable

    def _learn(self, ref: SecretRef, text: str) -> None:
        if self._learned and ref.setting != "BETA9_SSH_KNOWN_HOSTS":
            self._learned(text)

    def _read(self, ref: SecretRef) -> tuple[str, str]:
        """Return the text, and for messages where it came from ("" for a plain value)."""
        if ref.value is not None:
            return ref.value, ""
        if ref.file is not None:
            try:
                return read_secret_file(ref.file), str(ref.file)
            except SettingsError as error:
                raise SettingsError(f"{ref.setting}_FILE: {error}") from error
        if ref.reference is None:
            raise SettingsError(f"{ref.setting}: not set; give a value, a file or a reference")
        from agent.adapters.aws.secret_stores import Store  # boto3: 0.7 s and 22 MB

        return Store(ref.setting, self._metadata_endpoint).fetch(ref.reference), ref.reference
