"""A throwaway OpenSSH server on loopback: a real sshd, restricted as a gateway's should be, and removed afterwards.

    python -m agent.demo.sshd --dir D --ready-file F --machine-id 1165a9b6 --target 127.0.0.1:1994

It does not need root. Only the user who starts it can log in, even if that is root: no other account is sure to exist.
It has its own host key, user key, known_hosts and authorized_keys.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from agent.adapters.process.run import Child, CommandFailed, run, spawn
from agent.core.provisioning.authorized_keys import DEFAULT_TARGET, Grant, key_line
from agent.core.tunnel.key_formats import fingerprint
from agent.demo.process import wait_for_signal, write_ready_file
from agent.demo.sshd.config import Option, defaults, merged, rendered
from agent.demo.sshd.program import find_sshd, free_port, own_name, version_of
from agent.demo.sshd.sessions import Session, Sessions
from agent.errors import SettingsError, TransientError

if TYPE_CHECKING:
    from typing_extensions import Self

HOST = "127.0.0.1"
START_TIMEOUT_S = 20.0
PORT_TRIES = 5
"""Another process can take a free port between the search and the bind."""


class ThrowAwaySshd:
    """A running sshd, as a context manager. `grant` is what its user key may do; None: it cannot log in yet.

    `options` override lines of the configuration (None omits one). `port` 0 picks a free one. `prefix` is put before
    sshd's command, such as `ip netns exec NAME`; `host` must be an address there.
    Raises: SettingsError if sshd is missing or rejects the options; TransientError if it does not start.
    """

    def __init__(  # noqa: PLR0913 - keyword arguments, most of them optional
        self,
        directory: Path | None = None,
        *,
        grant: Grant | None = None,
        port: int = 0,
        user: str | None = None,
        options: Mapping[str, Option] | None = None,
        host: str = HOST,
        prefix: Sequence[str] = (),
    ) -> None:
        self.host = host
        self.port = port
        self._prefix = tuple(prefix)
        self.user = user or own_name()
        self._sshd = find_sshd()
        self._temporary = directory is None
        self.directory = (directory or Path(tempfile.mkdtemp(prefix="sshd-"))).absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o711)  # sshd reads authorized_keys as the user who logs in
        self.key_path = self.make_key("user_key")
        self._host_keys = [self.make_key("host_key")]
        self._authorized_keys = self.directory / "authorized_keys"
        self._log = self.directory / "sshd.log"
        self._options = merged(defaults(version_of(self._sshd)), options or {})
        self._child: Child | None = None
        self._sessions = Sessions()
        self.authorize(*([key_line(self.public_key(), grant)] if grant else []))

    # --- For clients -------------------------------------------------------------------------------------

    def public_key(self, key_path: Path | None = None) -> str:
        """Return the public half of a key, by default of the user key."""
        return _public_path(key_path or self.key_path).read_text(encoding="utf-8").strip()

    @property
    def known_hosts(self) -> str:
        """One known_hosts line per host key."""
        keys = [self.public_key(path).split()[:2] for path in self._host_keys]
        return "".join(f"[{self.host}]:{self.port} {kind} {key}\n" for kind, key in keys)

    @property
    def known_hosts_path(self) -> Path:
        """The file with `known_hosts`; it exists once the server was started, and is kept current."""
        return self.directory / "known_hosts"

    @property
    def fingerprint(self) -> str:
        """The `SHA256:…` fingerprint of the first host key."""
        return fingerprint(self.public_key(self._host_keys[0]).split()[1]) or ""

    def make_key(self, name: str, kind: str = "ed25519") -> Path:
        """Create a key pair of that name in the directory unless it exists. Return the private key's path."""
        path = self.directory / name
        if not path.exists():
            run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", name, "-f", str(path)], timeout_s=60)
        return path

    def authorize(self, *lines: str) -> None:
        """Accept only the keys on these lines, from the next login on."""
        _replace(self._authorized_keys, "".join(f"{line}\n" for line in lines))

    # --- Lifecycle ---------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start sshd and return once it listens."""
        requested, output = self.port, ""
        for _ in range(1 if requested else PORT_TRIES):
            self.port = requested or free_port(self.host)
            self._write_files()
            log_length = len(self.log())
            argv = [*self._prefix, self._sshd, "-D", "-f", str(self._configuration), "-E", str(self._log)]
            self._child = spawn(argv, name="sshd")
            if self._wait_for_listener(log_length):
                return self
            self._end_listener(keep_sessions=False)
            output = self.log()[log_length:].strip()
            if "Address already in use" not in output:
                break
        raise TransientError(f"sshd did not start on {self.host}:{self.port}: {output[-500:] or 'no output'}")

    def stop(self) -> None:
        """End the listener and every session; remove the directory if it is temporary. Safe to call twice."""
        self._end_listener(keep_sessions=False)
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def restart(self, *, keep_sessions: bool = False) -> None:
        """Restart on the same port; with `keep_sessions` as a service manager does, which ends only the listener."""
        self._end_listener(keep_sessions=keep_sessions)
        self.start()

    def reconfigure(self, options: Mapping[str, Option]) -> None:
        """Change options for new connections; existing sessions are kept, as with `systemctl reload ssh`."""
        self._options = merged(self._options, options)
        self._write_files()
        log_length = len(self.log())
        if self._child is not None:
            os.kill(self._child.pid, signal.SIGHUP)
            if not self._wait_for_listener(log_length):
                raise TransientError(f"sshd did not survive a reload: {self.log()[log_length:][-500:]}")

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- Inspection --------------------------------------------------------------------------------------

    @property
    def listener_pid(self) -> int:
        """The process that accepts connections. Raises: TransientError if it is not running."""
        if self._child is None or self._child.code is not None:
            raise TransientError("the throwaway sshd is not running")
        return self._child.pid

    def sessions(self) -> tuple[Session, ...]:
        """Return the current connections, including those still logging in, oldest first."""
        running = self._child is not None and self._child.code is None
        return self._sessions.of(self.listener_pid if running else None, self.port)

    def log(self) -> str:
        """Return everything that sshd has logged since the directory was created."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    # --- Internals ---------------------------------------------------------------------------------------

    @property
    def _configuration(self) -> Path:
        return self.directory / "sshd_config"

    def _write_files(self) -> None:
        own: dict[str, Option] = {
            "Port": str(self.port),
            "ListenAddress": self.host,
            "HostKey": [str(path) for path in self._host_keys],
            "AuthorizedKeysFile": str(self._authorized_keys),
        }
        _replace(self._configuration, rendered(merged(own, self._options)))
        _replace(self.known_hosts_path, self.known_hosts)
        check = [self._sshd, "-t", "-f", str(self._configuration)]
        try:
            stderr = run(check, timeout_s=START_TIMEOUT_S, ok_codes=(0, 255)).stderr
            missing = re.search(r"Missing privilege separation directory: (\S+)", stderr)
            if missing:  # normally created by the service manager; it always stays empty
                Path(missing[1]).mkdir(mode=0o755, parents=True, exist_ok=True)
            run(check, timeout_s=START_TIMEOUT_S)
        except CommandFailed as error:
            raise SettingsError(f"sshd rejects its configuration: {error.stderr.strip()}") from error

    def _wait_for_listener(self, log_length: int) -> bool:
        """Wait until the log says that sshd listens, after its first `log_length` characters; False if it fails."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if f"Server listening on {self.host} port {self.port}." in self.log()[log_length:]:
                return True
            if self._child is None or self._child.wait(0.01) is not None:
                return False
        return False

    def _end_listener(self, *, keep_sessions: bool) -> None:
        child, self._child = self._child, None
        listener = child.pid if child is not None and child.code is None else None
        self._sessions.end(listener, keep_sessions=keep_sessions)
        if child is not None:
            child.stop(0)


def _replace(path: Path, text: str) -> None:
    """Write atomically, for concurrent readers. The file is world-readable, so it must hold no secret."""
    partial = path.with_name(f".{path.name}.new")
    partial.write_text(text, encoding="utf-8")
    partial.chmod(0o644)
    partial.replace(path)


def _public_path(key_path: Path) -> Path:
    return key_path.with_name(f"{key_path.name}.pub")


def main(argv: list[str] | None = None) -> int:
    """Run an sshd until SIGTERM or SIGINT."""
    args = _parser().parse_args(argv)
    options: dict[str, Option] = dict(option.split("=", 1) for option in args.option)
    grant = Grant(tuple(args.machine_id), tuple(args.target or [DEFAULT_TARGET]))
    with ThrowAwaySshd(args.dir, grant=grant, port=args.port, options=options) as server:
        facts = {
            "host": server.host,
            "port": server.port,
            "user": server.user,
            "key": str(server.key_path),
            "known_hosts": str(server.known_hosts_path),
            "fingerprint": server.fingerprint,
            "pid": server.listener_pid,
        }
        write_ready_file(args.ready_file, facts)
        print(
            f"sshd listens on {server.host}:{server.port}; its log is {server.directory}/sshd.log", flush=True
        )
        wait_for_signal()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m agent.demo.sshd", description="Run a throwaway OpenSSH server."
    )
    parser.add_argument(
        "--dir", type=Path, metavar="D", help="directory for its files (default: a temporary one)"
    )
    parser.add_argument("--port", type=int, default=0, help="default: a free port")
    parser.add_argument("--ready-file", type=Path, metavar="F", help="written as JSON once sshd listens")
    parser.add_argument(
        "--machine-id",
        action="append",
        default=[],
        metavar="ID",
        help="limit the key to this machine; may be repeated",
    )
    parser.add_argument("--target", action="append", metavar="HOST:PORT", help=f"default: {DEFAULT_TARGET}")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="sshd_config(5)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
