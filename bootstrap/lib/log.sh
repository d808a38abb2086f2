# shellcheck shell=bash
# What a person is told, and where: the stage's log, the installer's own output, and the machine's console.
#
# A step's stdout and stderr go to its log file; file descriptor 3, where it is open, is the installer's output.
# No function here is ever given a secret: what is said ends up in cloud consoles.

say() {
  local line="beta9-worker ${BETA9_STAGE:-bootstrap}: $*"
  printf '%s\n' "$line" >&2
  if [[ -n ${BETA9_STAGE:-} ]] && { : >&3; } 2>/dev/null; then printf '%s\n' "$line" >&3; fi
}

warn() { say "warning: $*"; }

# console TEXT: what must be seen by whoever looks at the machine's screen or serial console.
console() {
  local device=${BETA9_CONSOLE:-/dev/console}
  say "$*"
  # A machine may have no console, or one that answers with an error: then the log has to do.
  { printf 'beta9-worker %s: %s\r\n' "${BETA9_STAGE:-bootstrap}" "$*" >>"$device"; } 2>/dev/null || return 0
}
