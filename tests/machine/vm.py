"""A virtual machine for one test run: QEMU, a disposable disk overlay, a serial console, and SSH logins.

Its network is QEMU's user-mode network: the guest reaches the host's loopback at 10.0.2.2, and the host reaches the
guest's sshd on a loopback port. Nothing is bridged, and the machine is not visible to others. It ends with the test
process.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from agent.adapters.process.run import Child, CommandFailed, Completed, run, spawn
from agent.demo.sshd.program import free_port
from tests.integration.lab import wait_for
from tests.machine.accelerator import accelerator, kernel_options, processors

HOST = "127.0.0.1"
HOST_SEEN_FROM_INSIDE = "10.0.2.2"
"""QEMU's user network, net/slirp.c: the host's loopback."""
USER = "debian"
"""The default user of Debian's cloud-init, with sudo and the key from the seed's meta-data."""
MEMORY_MIB = 3072
BOOT_DEADLINE_S = 600.0
"""Emulated on two shared cores, a boot until sshd answers takes half a minute to two minutes."""


@dataclass(frozen=True)
class Disk:
    """The disk image, kernel and initrd made by scripts/machine_disk.sh."""

    directory: Path

    @property
    def image(self) -> Path:
        return self.directory / "disk.raw"

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd.img"


@dataclass
class VirtualMachine:
    """One machine. `seed` is its NoCloud disk; `key` is the login key of USER."""

    directory: Path
    disk: Disk
    seed: Path
    key: Path
    scratch_gib: int = 0
    """Size of a second, empty NVMe disk; 0 for none."""
    lines: list[str] = field(default_factory=list)
    """The lines of its serial console."""
    child: Child | None = None
    ssh_port: int = 0
    k3s_port: int = 0
    """The port of this host that is forwarded to the machine's port 6443."""

    def start(self) -> VirtualMachine:
        """Power it on. Writes go to an overlay, which survives a reboot and a power cycle."""
        self.directory.mkdir(parents=True, exist_ok=True)
        overlay = self.directory / "disk.qcow2"
        if not overlay.exists():
            base = ["-b", str(self.disk.image.absolute()), "-F", "raw"]
            run(["qemu-img", "create", "-q", "-f", "qcow2", *base, str(overlay)], timeout_s=60)
        self.ssh_port, self.k3s_port = self.ssh_port or free_port(HOST), self.k3s_port or free_port(HOST)
        argv = ["nice", "-n", "5", *self._argv(overlay)]
        self.child = spawn(argv, name="qemu", on_line=self._printed, on_stdout=self._printed)
        return self

    def _printed(self, line: str) -> None:
        self.lines.append(line)
        with (self.directory / "console.log").open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def _argv(self, overlay: Path) -> list[str]:
        argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-machine", "q35"]
        argv += accelerator(self.disk.kernel)
        argv += ["-smp", str(processors(self.disk.kernel)), "-m", str(MEMORY_MIB)]
        argv += ["-display", "none", "-serial", "stdio"]
        # noinit_itable: do not initialize the empty part of the disk, which would take an hour.
        append = "root=LABEL=root rw rootflags=noinit_itable console=ttyS0 systemd.show_status=1 panic=-1"
        append += f" {kernel_options(self.disk.kernel)}"
        argv += ["-kernel", str(self.disk.kernel), "-initrd", str(self.disk.initrd), "-append", append]
        argv += ["-drive", f"file={overlay},if=virtio,cache=unsafe,discard=unmap"]
        argv += ["-drive", f"file={self.seed},if=virtio,format=raw,readonly=on"]
        if self.scratch_gib:
            with self._scratch.open("ab") as file:
                file.truncate(self.scratch_gib << 30)
            argv += [
                "-drive",
                f"file={self._scratch},if=none,id=scratch,format=raw,cache=unsafe,discard=unmap",
            ]
            argv += ["-device", "nvme,drive=scratch,serial=scratch"]
        ports = ((self.ssh_port, 22), (self.k3s_port, 6443))
        network = ",".join(("user,id=net", *(f"hostfwd=tcp:{HOST}:{near}-:{far}" for near, far in ports)))
        argv += ["-netdev", network, "-device", "virtio-net-pci,netdev=net"]
        return [*argv, "-device", "virtio-rng-pci"]

    @property
    def _scratch(self) -> Path:
        return self.directory / "scratch.raw"

    def empty_scratch(self) -> None:
        """Lose the content of the NVMe disk, while the machine is off."""
        self._scratch.unlink()

    # --- The console -----------------------------------------------------------------------------------------

    def console(self) -> str:
        """Return the console output so far."""
        return "\n".join(list(self.lines))

    def wait_console(self, text: str, deadline_s: float = BOOT_DEADLINE_S, *, after: int = 0) -> None:
        """Wait until a line from index `after` on contains `text`. Raises: AssertionError with the last lines."""
        self.wait_for(
            f"console: {text}", lambda: any(text in line for line in self.lines[after:]), deadline_s
        )

    def wait_off(self, deadline_s: float = BOOT_DEADLINE_S) -> None:
        """Wait until it has powered itself off."""
        assert self.child is not None
        code = self.child.wait(deadline_s)
        assert code == 0, f"still on after {deadline_s:g} s, or QEMU failed ({code}): {self.tail()}"

    def tail(self, count: int = 40) -> str:
        return "\n".join(self.lines[-count:])

    # --- Inside ----------------------------------------------------------------------------------------------

    def ssh_argv(self, *options: str) -> list[str]:
        """Return the ssh command line, without the remote command."""
        config = [
            "StrictHostKeyChecking=no",
            f"UserKnownHostsFile={self.directory}/known_hosts",
            "LogLevel=ERROR",
        ]
        config += ["BatchMode=yes", "IdentitiesOnly=yes", "ConnectTimeout=30", "ServerAliveInterval=15"]
        argv = ["ssh", "-F", "none", "-i", str(self.key), "-p", str(self.ssh_port)]
        return [*argv, *(word for each in config for word in ("-o", each)), *options, f"{USER}@{HOST}"]

    def run(self, command: str, timeout_s: float = 300, *, ok: bool = True) -> Completed:
        """Run a shell command as root. Raises: AssertionError with its output if it fails, unless `ok` is False."""
        argv = [*self.ssh_argv(), "sudo", "-n", "bash", "-s"]
        done = run(argv, timeout_s=timeout_s, input=f"{command}\n", ok_codes=range(256))
        assert done.code == 0 or not ok, f"{command!r} ended with {done.code}: {done.stdout}\n{done.stderr}"
        return done

    def output(self, command: str, timeout_s: float = 300) -> str:
        """Return the standard output of a command, without the trailing line break."""
        return self.run(command, timeout_s).stdout.rstrip("\n")

    def answers(self) -> bool:
        """Return whether its sshd accepts the login."""
        try:
            return run([*self.ssh_argv(), "true"], timeout_s=60, ok_codes=range(256)).code == 0
        except CommandFailed:
            return False

    def wait_ssh(self, deadline_s: float = BOOT_DEADLINE_S) -> None:
        self.wait_for("sshd accepts the login", self.answers, deadline_s)

    def boot_id(self) -> str:
        return self.output("cat /proc/sys/kernel/random/boot_id")

    def reboot(self, deadline_s: float = BOOT_DEADLINE_S) -> None:
        """Reboot it cleanly, and wait until the next boot accepts the login."""
        before = self.boot_id()
        self.run("systemctl reboot", ok=False)

        def has_rebooted() -> bool:
            if not self.answers():
                return False
            return self.run("cat /proc/sys/kernel/random/boot_id", ok=False).stdout.strip() not in {
                "",
                before,
            }

        self.wait_for("the next boot accepts the login", has_rebooted, deadline_s)

    def wait_for(self, what: str, condition: Callable[[], bool], deadline_s: float) -> None:
        """Like lab.wait_for, but fail at once if the machine is off, and include the last lines of the console."""

        def holds() -> bool:
            if condition():
                return True
            assert self.child is not None
            assert self.child.code is None, f"the machine is off: {self.tail()}"
            time.sleep(0.5)
            return False

        try:
            wait_for(what, holds, deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; console: {self.tail()}") from error

    # --- The end ---------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Power it off immediately."""
        if self.child is not None and self.child.code is None:
            self.child.signal(signal.SIGCONT)
            self.child.stop(5)
