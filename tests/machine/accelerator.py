"""How QEMU runs the machine here: with hardware virtualization where that works, otherwise emulated."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from agent.adapters.process.run import CommandFailed, run

EMULATED = ("-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,la57=off,erms=off,fsrm=off,svm=off")
"""Without features that are fast only on a real processor: repeated-string instructions are emulated byte by byte, and
five-level page tables have to be walked. Nested virtualization is off, so that the kernel does not load its modules."""
EMULATED_KERNEL = "clearcpuid=rep_good,erms,fsrm tsc=reliable mitigations=off norandmaps cryptomgr.notests"
"""The same for the kernel's own copy routines, which also depend on the CPU vendor. All emulated processors use the
host's clock, so reading it needs no system call; mitigations for hardware vulnerabilities only cost time; a library
that is always at the same address is translated once; and the self-tests of ciphers are skipped."""
NATIVE = ("-accel", "kvm", "-cpu", "host")
PROBE_S = 15.0


def kernel_options(kernel: Path) -> str:
    """Return additional options for the kernel's command line."""
    return EMULATED_KERNEL if accelerator(kernel) == EMULATED else ""


def processors(kernel: Path) -> int:
    """Return the number of processors. Two emulated ones boot a third more slowly than one: atomic operations have to
    be atomic on the host as well, and on a busy host one spins for a lock whose holder is not running."""
    return 1 if accelerator(kernel) == EMULATED else 2


@functools.cache
def accelerator(kernel: Path) -> tuple[str, ...]:
    """Return QEMU's options. /dev/kvm may exist and still hang or crash every guest, so a kernel is tried first."""
    return NATIVE if _kvm_works(kernel) else EMULATED


def _kvm_works(kernel: Path) -> bool:
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-machine", "q35", *NATIVE, "-m", "512"]
    argv += ["-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", str(kernel)]
    # Without an initrd and a root the kernel panics, which ends QEMU: that is all that the probe waits for.
    try:
        done = run([*argv, "-append", "console=ttyS0 panic=-1"], timeout_s=PROBE_S, ok_codes=range(-64, 256))
    except CommandFailed:
        return False
    return "Kernel panic" in done.stdout
