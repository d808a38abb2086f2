# shellcheck shell=bash
# Exit codes of steps (besides 0: done, and any other code: failed).

# shellcheck disable=SC2034 # used by step.sh and stages.sh
readonly BETA9_SKIPPED=10 BETA9_REBOOT=11
