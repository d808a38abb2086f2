#!/usr/bin/env bash
# Prepares the gateway's host for workers that dial in: a user who can do nothing but forward, and his keys.
#
#   sudo ./setup.sh --machine-id 1165a9b6 --public-key worker.pub    one machine (see also --target, --forward)
#   sudo ./setup.sh --pool-key --public-key pool.pub                 machines not known beforehand
#   sudo ./setup.sh --key-line 'restrict,… ssh-ed25519 AAAA…'        a line that `beta9-worker authorize` printed
#   sudo ./setup.sh --remove                                         take everything back
#
#   --dry-run            say what would be changed, change nothing
#   --user NAME          default beta9-tunnel (BETA9_SSH_USER of the workers)
#   --sshd-config FILE   default /etc/ssh/sshd_config
#
# May be run any number of times. A key that is there already gets its new line. What is made: the user,
# /etc/ssh/NAME.keys, /etc/ssh/sshd_config.d/50-NAME.conf, /var/lib/NAME (an empty place to be locked into).
# Exit 0: done, 1: not done (and why), 2: called wrongly.
set -Eeuo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
user=beta9-tunnel sshd_config=/etc/ssh/sshd_config
dry_run='' remove='' public_key=''
key_lines=() authorize_options=()

say() { printf '%s\n' "$*"; }
die() { printf 'setup.sh: %s\n' "$*" >&2; exit 1; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

parse() {
  while (($#)); do
    case $1 in
      --dry-run) dry_run=yes ;;
      --remove) remove=yes ;;
      --pool-key) authorize_options+=("$1") ;;
      --help | -h) usage; exit 0 ;;
      --machine-id | --target | --forward | --key-line | --public-key | --user | --sshd-config)
        (($# > 1)) || { usage >&2; exit 2; }
        case $1 in
          --key-line) key_lines+=("$2") ;;
          --public-key) public_key=$2 ;;
          --user) user=$2 ;;
          --sshd-config) sshd_config=$2 ;;
          *) authorize_options+=("$1" "$2") ;;
        esac
        shift
        ;;
      *) printf 'setup.sh: %s is not an option\n' "$1" >&2; usage >&2; exit 2 ;;
    esac
    shift
  done
  [[ $user =~ ^[a-z_][a-z0-9_-]{0,31}$ ]] || die "--user '$user' is not a name for a system user"
}

# The line for a public key is computed by the agent's own code: this checkout's, or an installed package's.
authorize() {
  if [[ -f $here/../../agent/commands/authorize.py ]]; then
    PYTHONPATH=$here/../.. PYTHONDONTWRITEBYTECODE=1 python3 -m agent.commands.authorize "$@"
  elif command -v beta9-worker >/dev/null; then
    beta9-worker authorize "$@"
  else
    die "no beta9-worker here: run 'beta9-worker authorize …' elsewhere and give its line by --key-line"
  fi
}

# A line that gives more than forwards is not installed, whoever wrote it.
check_key_line() {
  [[ $1 =~ ^(cert-authority,)?restrict,port-forwarding,permitopen=.*,permitlisten= && $1 != *$'\n'* ]] ||
    die "--key-line: not as 'beta9-worker authorize' prints it (restrict,port-forwarding,permitopen=…,permitlisten=…)"
  ssh-keygen -lf - <<<"$1" >/dev/null 2>&1 || die "--key-line: holds no public key that ssh-keygen can read"
}

main() {
  parse "$@"
  keys=${sshd_config%/*}/$user.keys drop_in=${sshd_config%/*}/sshd_config.d/50-$user.conf
  sshd=$(PATH=$PATH:/usr/sbin:/usr/local/sbin command -v sshd) || die 'no sshd here: install openssh-server'
  # shellcheck source=bootstrap/gateway/tunnel-user.sh
  source "$here/tunnel-user.sh"
  [[ -f $sshd_config ]] || die "there is no $sshd_config; give the right one by --sshd-config"
  ((EUID == 0)) || die 'must be run by root (sudo)'
  check_user
  if [[ -n $remove ]]; then
    remove_all
    return
  fi
  if [[ -n $public_key ]]; then
    line=$(authorize "${authorize_options[@]}" "$public_key") || exit 1
    key_lines+=("$line")
  elif ((${#authorize_options[@]})); then
    die '--machine-id, --pool-key, --target and --forward go with --public-key'
  fi
  for line in ${key_lines[@]+"${key_lines[@]}"}; do check_key_line "$line"; done
  make_user
  make_place
  install_keys
  install_drop_in
  say "done; look for what else is in the way with: python3 $here/check.py --user $user"
}

main "$@"
