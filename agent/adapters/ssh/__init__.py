"""OpenSSH on this machine: the tunnel's child processes, host keys, private keys, local ports."""
