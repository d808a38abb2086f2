"""A throw-away OpenSSH server on loopback: a real sshd, restricted as a gateway's should be, gone afterwards.

    python -m agent.demo.sshd --dir D --ready-file F --machine-id 1165a9b6 --target 127.0.0.1:1994

It needs no root; whoever starts it is the one user who can log in (root, too: sshd could not become somebody
else who is sure to exist). Host key, user key, known_hosts and authorized_keys are its own.
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
from agent.demo.process import wait_for_a_signal, write_ready_file
from agent.demo.sshd.config import Option, defaults, merged, rendered
from agent.demo.sshd.program import find_sshd, free_port, own_name, version_of
from agent.demo.sshd.sessions import Session, Sessions
from agent.errors import SettingsError, TransientError

if TYPE_CHECKING:
    from typing_extensions import Self

HOST = "127.0.0.1"
START_TIMEOUT_S = 20.0
PORT_TRIES = 5
"""A free port can be taken by somebody else between being found and being bound."""


class ThrowAwaySshd:
    """A running sshd, as a context manager. `grant` is what its own key may do; None: nothing yet.

    `options` override any line of its configuration (None leaves one out). `port` 0 takes a free one. `prefix`
    goes before sshd's own command, such as `ip netns exec NAME`, where `host` then has to be an address.
    Raises: SettingsError where there is no sshd or it refuses the options; TransientError where it doesn't start.
    """

    def __init__(  # noqa: PLR0913 - keywords, most of them left out
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

    # --- What a client needs -----------------------------------------------------------------------------

    def public_key(self, key_path: Path | None = None) -> str:
        """The public half of a key, by default of its own user key."""
        return _public_path(key_path or self.key_path).read_text(encoding="utf-8").strip()

    @property
    def known_hosts(self) -> str:
        """One line for each host key, as a client's known_hosts has it."""
        keys = [self.public_key(path).split()[:2] for path in self._host_keys]
        return "".join(f"[{self.host}]:{self.port} {kind} {key}\n" for kind, key in keys)

    @property
    def known_hosts_path(self) -> Path:
        """A file that holds `known_hosts`, kept current; there once the server was started."""
        return self.directory / "known_hosts"

    @property
    def fingerprint(self) -> str:
        """`SHA256:…` of the first host key."""
        return fingerprint(self.public_key(self._host_keys[0]).split()[1]) or ""

    def make_key(self, name: str, kind: str = "ed25519") -> Path:
        """Make a key pair in the directory, where there is none of that name; return the private half's path."""
        path = self.directory / name
        if not path.exists():
            run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", name, "-f", str(path)], timeout_s=60)
        return path

    def authorize(self, *lines: str) -> None:
        """Let in the keys on these lines and no others, from the next login on."""
        _replace(self._authorized_keys, "".join(f"{line}\n" for line in lines))

    # --- Life --------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start listening; returns once it does."""
        chosen, said = self.port, ""
        for _ in range(1 if chosen else PORT_TRIES):
            self.port = chosen or free_port(self.host)
            self._write_files()
            seen = len(self.log())
            argv = [*self._prefix, self._sshd, "-D", "-f", str(self._configuration), "-E", str(self._log)]
            self._child = spawn(argv, name="sshd")
            if self._listens(seen):
                return self
            self._end_listener(keep_sessions=False)
            said = self.log()[seen:].strip()
            if "Address already in use" not in said:
                break
        raise TransientError(f"sshd did not start on {self.host}:{self.port}: {said[-500:] or 'not a word'}")

    def stop(self) -> None:
        """End the listener and every session; remove the directory if it was made here. Safe to call twice."""
        self._end_listener(keep_sessions=False)
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def restart(self, *, keep_sessions: bool = False) -> None:
        """End and start again on the same port, as a service manager would (which keeps the sessions)."""
        self._end_listener(keep_sessions=keep_sessions)
        self.start()

    def reconfigure(self, options: Mapping[str, Option]) -> None:
        """Change options for new connections; sessions go on as they are, as on `systemctl reload ssh`."""
        self._options = merged(self._options, options)
        self._write_files()
        seen = len(self.log())
        if self._child is not None:
            os.kill(self._child.pid, signal.SIGHUP)
            if not self._listens(seen):
                raise TransientError(f"sshd did not come back from a reload: {self.log()[seen:][-500:]}")

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

    # --- What goes on inside -----------------------------------------------------------------------------

    @property
    def listener_pid(self) -> int:
        """The process that accepts connections. Raises: TransientError when it does not run."""
        if self._child is None or self._child.code is not None:
            raise TransientError("the throw-away sshd is not running")
        return self._child.pid

    def sessions(self) -> tuple[Session, ...]:
        """The connections of now, those still logging in included, in the order in which they came."""
        running = self._child is not None and self._child.code is None
        return self._sessions.of(self.listener_pid if running else None, self.port)

    def log(self) -> str:
        """What sshd has logged since the directory was made."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    # --- Inner parts -------------------------------------------------------------------------------------

    @property
    def _configuration(self) -> Path:
        return self.directory / "sshd_config"

    def _write_files(self) -> None:
        places: dict[str, Option] = {
            "Port": str(self.port),
            "ListenAddress": self.host,
            "HostKey": [str(path) for path in self._host_keys],
            "AuthorizedKeysFile": str(self._authorized_keys),
        }
        _replace(self._configuration, rendered(merged(places, self._options)))
        _replace(self.known_hosts_path, self.known_hosts)
        check = [self._sshd, "-t", "-f", str(self._configuration)]
        try:
            said = run(check, timeout_s=START_TIMEOUT_S, ok_codes=(0, 255)).stderr
            missing = re.search(r"Missing privilege separation directory: (\S+)", said)
            if missing:  # made by the service manager elsewhere; nothing else is ever put into it
                Path(missing[1]).mkdir(mode=0o755, parents=True, exist_ok=True)
            run(check, timeout_s=START_TIMEOUT_S)
        except CommandFailed as error:
            raise SettingsError(f"sshd refuses its configuration: {error.stderr.strip()}") from error

    def _listens(self, seen: int) -> bool:
        """Wait until the log says, after what was seen of it, that it listens; False if it ended or never did."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if f"Server listening on {self.host} port {self.port}." in self.log()[seen:]:
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
    """Write at one stroke, for readers that may come at any time; no secret, so readable by who logs in."""
    partial = path.with_name(f".{path.name}.new")
    partial.write_text(text, encoding="utf-8")
    partial.chmod(0o644)
    partial.replace(path)


def _public_path(key_path: Path) -> Path:
    return key_path.with_name(f"{key_path.name}.pub")


def main(argv: list[str] | None = None) -> int:
    """Run as a process until SIGTERM or SIGINT."""
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
        print(f"sshd listens on {server.host}:{server.port}, log in {server.directory}/sshd.log", flush=True)
        wait_for_a_signal()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m agent.demo.sshd", description="A throw-away OpenSSH server."
    )
    parser.add_argument(
        "--dir", type=Path, metavar="D", help="where its files go (default: a temporary place)"
    )
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--ready-file", type=Path, metavar="F", help="written as JSON once it listens")
    parser.add_argument(
        "--machine-id", action="append", default=[], metavar="ID", help="default: a pool's key"
    )
    parser.add_argument("--target", action="append", metavar="HOST:PORT", help=f"default: {DEFAULT_TARGET}")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="sshd_config(5)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
