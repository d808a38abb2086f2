"""OpenSSH on this machine: the tunnel's children, host keys, private keys, local ports."""
