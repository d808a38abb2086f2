# shellcheck shell=bash
# Messages to people: in the stage's log, in the installer's own output, and on the machine's console.
#
# A step's stdout and stderr go to its log file; file descriptor 3, if open, is the installer's output.
# Never pass a secret to these functions: messages end up in cloud consoles.

say() {
  local line="beta9-worker ${BETA9_STAGE:-bootstrap}: $*"
  printf '%s\n' "$line" >&2
  if [[ -n ${BETA9_STAGE:-} ]] && { : >&3; } 2>/dev/null; then printf '%s\n' "$line" >&3; fi
}

warn() { say "warning: $*"; }

# console TEXT: also show TEXT on the machine's screen or serial console.
console() {
  local device=${BETA9_CONSOLE:-/dev/console}
  say "$*"
  # The machine may have no console, or writing to it may fail; the log still has the message.
  { printf 'beta9-worker %s: %s\r\n' "${BETA9_STAGE:-bootstrap}" "$*" >>"$device"; } 2>/dev/null || return 0
}
