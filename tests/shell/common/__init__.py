"""What boot.sh and the installer have in common: one reading of worker.env, one way to download, one proxy."""
