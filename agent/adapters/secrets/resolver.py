"""The secret behind a SecretRef, as it is at this moment: a value, a file, or an entry of AWS's secret stores.

Nothing is kept: a file is read again and a reference fetched again each time, so that a rotated secret heals a
running agent without a restart.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.adapters.aws import imds
from agent.adapters.ssh.private_key import PrivateKey, private_key_copy
from agent.core.text.describe import shape
from agent.errors import SettingsError
from agent.settings.secret_files import read_secret_file
from agent.settings.secret_refs import secret_problem
from agent.settings.values import SecretRef

__all__ = ["PrivateKey", "Secrets", "private_key_copy"]


class Secrets:
    """Resolves secrets. May be used from several threads.

    `learned` hears every secret before anybody else does, also one that is then refused; give it
    `Redactor.add`.
    """

    def __init__(
        self,
        metadata_endpoint: str = imds.DEFAULT_ENDPOINT,
        learned: Callable[[str], object] | None = None,
    ) -> None:
        self._metadata_endpoint = metadata_endpoint
        self._learned = learned

    def resolve(self, ref: SecretRef) -> str:
        """Return the secret as it is now. May take as long as aws_access.LONGEST_S for a reference.

        Blanks and line breaks at the ends of a token from a file or a store are taken off; keys and host key
        lines come as they are.

        Raises:
            SettingsError: the file or entry is not there, or what it holds cannot serve for its setting.
            RejectedError: the store refused this machine's credentials, or there are none.
            TransientError: the store did not answer, or not now.
        """
        text, origin = self._read(ref)
        if ref.is_token and ref.value is None:
            text = text.strip()
        if self._learned and ref.setting != "BETA9_SSH_KNOWN_HOSTS":
            self._learned(text)
        problem = secret_problem(ref.setting, text)
        if problem:
            raise SettingsError(f"{ref.setting}: {origin or shape(text)} {problem}")
        return text

    def _read(self, ref: SecretRef) -> tuple[str, str]:
        """Return the text, and where it came from for messages ("" for a plain value)."""
        if ref.value is not None:
            return ref.value, ""
        if ref.file is not None:
            try:
                return read_secret_file(ref.file), str(ref.file)
            except SettingsError as error:
                raise SettingsError(f"{ref.setting}_FILE: {error}") from error
        if ref.reference is None:
            raise SettingsError(f"{ref.setting}: not set; give a value, a file or a reference")
        from agent.adapters.aws.secret_stores import Store  # boto3: 0.7 s and 22 MB, for those who use it

        return Store(ref.setting, self._metadata_endpoint).fetch(ref.reference), ref.reference
