"""How QEMU is to run the machine here: by the processor's own virtualisation where that works, else emulated."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from agent.adapters.process.run import CommandFailed, run

EMULATED = ("-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,la57=off,erms=off,fsrm=off,svm=off")
"""Without what is fast on a real processor alone: copying by one repeated instruction is emulated byte by byte, and
five levels of page tables are walked. Nor are there machines in the machine, whose modules the kernel would load."""
EMULATED_KERNEL = "clearcpuid=rep_good,erms,fsrm tsc=reliable mitigations=off norandmaps cryptomgr.notests"
"""The same for the kernel's own copies, which go by the processor's make, too. The time is the host's on every emulated
processor, so that asking for it need not leave the program; detours around a real processor's leaks are only slow here;
a library that is always at the same address is translated once; and ciphers need not prove themselves at each boot."""
NATIVE = ("-accel", "kvm", "-cpu", "host")
PROBE_S = 15.0


def kernel_options(kernel: Path) -> str:
    """What the kernel's command line needs besides."""
    return EMULATED_KERNEL if accelerator(kernel) == EMULATED else ""


def processors(kernel: Path) -> int:
    """How many the machine gets. Two emulated ones take a third more time for the same boot than one does: what is
    atomic there has to be so here, and on a busy host one spins for a lock while the other, which has it, waits."""
    return 1 if accelerator(kernel) == EMULATED else 2


@functools.cache
def accelerator(kernel: Path) -> tuple[str, ...]:
    """The options. /dev/kvm may be there and hang or crash every guest, so a kernel has to say a word first."""
    return NATIVE if _kvm_works(kernel) else EMULATED


def _kvm_works(kernel: Path) -> bool:
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-machine", "q35", *NATIVE, "-m", "512"]
    argv += ["-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", str(kernel)]
    # Without an initrd and a root it panics, which ends QEMU: that is all that the probe waits for.
    try:
        done = run([*argv, "-append", "console=ttyS0 panic=-1"], timeout_s=PROBE_S, ok_codes=range(-64, 256))
    except CommandFailed:
        return False
    return "Kernel panic" in done.stdout
