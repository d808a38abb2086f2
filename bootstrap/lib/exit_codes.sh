# shellcheck shell=bash
# The exit codes by which a step tells the installer how it ended (0: done, any other: failed).

# shellcheck disable=SC2034 # step.sh ends with them, stages.sh reads them
readonly BETA9_SKIPPED=10 BETA9_REBOOT=11
