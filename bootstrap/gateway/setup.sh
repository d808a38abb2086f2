#!/usr/bin/env bash
# Prepares the gateway's host for workers that dial in: a user that can only forward ports, and its keys.
#
#   sudo ./setup.sh --machine-id 1165a9b6 --public-key worker.pub    one machine (see also --target, --forward)
#   sudo ./setup.sh --pool-key --public-key pool.pub                 machines whose ids are not known in advance
#   sudo ./setup.sh --key-line 'restrict,… ssh-ed25519 AAAA…'        a line that `beta9-worker authorize` printed
#   sudo ./setup.sh --relay --names beta9.tailnet.example            also the relay: any port of a worker, by name
#   sudo ./setup.sh --any-port                                       let installed keys listen for the relay (--relay does)
#   sudo ./setup.sh --remove                                         remove everything again (--relay: the relay only)
#
#   --dry-run            show what would be changed, change nothing
#   --user NAME          default beta9-tunnel (BETA9_SSH_USER of the workers)
#   --sshd-config FILE   default /etc/ssh/sshd_config
#   --exempt NETWORKS    addresses that sshd never shuts out, comma-separated: those of a NAT with many workers behind it
#                        (OpenSSH 9.8 or later). Kept by later runs; 'none' ends it
#   with --relay; all but --relay-user are kept by later runs, and 'none' ends each:
#   --names DOMAIN       the gateway's tailscale.user and tailscale.hostName, joined by a dot: answer for these names
#   --names-address A:P  where DNS is answered (default 127.0.0.1:9053)
#   --pods-dial RANGE/10, --pods-from NETWORK, --names-for-pods A:P    for a gateway in pods: see docs/gateway-setup.md
#   --packet-filter nft|iptables    default nft, where the kernel can
#   --tcp-retries2 N     a setting of the whole host; 'default' puts the former value back
#   --relay-user NAME    default beta9-relay
#
# Safe to run any number of times. A key that is already installed gets its new line. Creates the user,
# /etc/ssh/NAME.keys, /etc/ssh/sshd_config.d/50-NAME.conf and /var/lib/NAME (the chroot of its sessions); with --relay
# the user beta9-relay, /usr/local/lib/beta9-relay, /etc/beta9-relay and beta9-relay.service.
# Exit 0: done, 1: failed (with a message), 2: usage error.
set -Eeuo pipefail

script_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
user=beta9-tunnel sshd_config=/etc/ssh/sshd_config
relay_user=beta9-relay tcp_retries2=''
dry_run='' remove='' public_key='' exempt='' relay='' any_port=''
key_lines=() authorize_options=() relay_options=()

say() { printf '%s\n' "$*"; }
die() { printf 'setup.sh: %s\n' "$*" >&2; exit 1; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

parse_arguments() {
  while (($#)); do
    case $1 in
      --dry-run) dry_run=yes ;;
      --remove) remove=yes ;;
      --relay) relay=yes any_port=yes ;;
      --any-port) any_port=yes ;;
      --pool-key) authorize_options+=("$1") ;;
      --help | -h) usage; exit 0 ;;
      --machine-id | --target | --forward | --key-line | --public-key | --user | --sshd-config | --exempt | \
        --names | --names-address | --names-for-pods | --pods-dial | --pods-from | --packet-filter | \
        --relay-user | --tcp-retries2)
        (($# > 1)) || { usage >&2; exit 2; }
        case $1 in
          --key-line) key_lines+=("$2") ;;
          --public-key) public_key=$2 ;;
          --user) user=$2 ;;
          --sshd-config) sshd_config=$2 ;;
          --exempt) exempt=$2 ;;
          --relay-user) relay_user=$2 ;;
          --tcp-retries2) tcp_retries2=$2 ;;
          --names* | --pods-* | --packet-filter) relay_options+=("$1" "$2") ;;
          *) authorize_options+=("$1" "$2") ;;
        esac
        shift
        ;;
      *) printf 'setup.sh: unknown option %s\n' "$1" >&2; usage >&2; exit 2 ;;
    esac
    shift
  done
  [[ $user =~ ^[a-z_][a-z0-9_-]{0,31}$ ]] || die "--user '$user' is not a valid name for a system user"
  check_relay_arguments
  # sshd would take a host name for a pattern, which exempts nobody.
  [[ $exempt =~ ^(none|[0-9A-Fa-f]*[.:][0-9A-Fa-f.:]*(/[0-9]+)?(,[0-9A-Fa-f]*[.:][0-9A-Fa-f.:]*(/[0-9]+)?)*)?$ ]] ||
    die "--exempt '$exempt': give addresses or networks, comma-separated without blanks, or none"
}

check_relay_arguments() {
  local word
  [[ $relay_user =~ ^[a-z_][a-z0-9_-]{0,31}$ && $relay_user != "$user" ]] ||
    die "--relay-user '$relay_user' is not a valid name for a system user of its own"
  [[ $tcp_retries2 =~ ^([3-9]|1[0-9]|default)?$ ]] || die "--tcp-retries2 '$tcp_retries2': give 3 to 19, or default"
  for word in ${relay_options[@]+"${relay_options[@]}"}; do
    [[ $word =~ ^[A-Za-z0-9._:/-]+$ ]] || die "'$word' is not a name, an address or a network"
  done
  [[ -n $relay || ( ${#relay_options[@]} -eq 0 && -z $tcp_retries2 ) ]] ||
    die "${relay_options[0]:---tcp-retries2} requires --relay"
}

# Compute the line for a public key with the agent's code, from this checkout or an installed package.
authorize() {
  if [[ -f $script_dir/../../agent/commands/authorize.py ]]; then
    PYTHONPATH=$script_dir/../.. PYTHONDONTWRITEBYTECODE=1 python3 -m agent.commands.authorize "$@"
  elif command -v beta9-worker >/dev/null; then
    beta9-worker authorize "$@"
  else
    die "beta9-worker is not installed: run 'beta9-worker authorize …' on another machine and pass its line with --key-line"
  fi
}

# Refuse lines that permit more than forwards.
check_key_line() {
  [[ $1 =~ ^(cert-authority,)?restrict,port-forwarding,permitopen=.*,permitlisten= && $1 != *$'\n'* ]] ||
    die "--key-line: not a line as printed by 'beta9-worker authorize' (restrict,port-forwarding,permitopen=…,permitlisten=…)"
  ssh-keygen -lf - <<<"$1" >/dev/null 2>&1 || die "--key-line: contains no public key that ssh-keygen can read"
}

main() {
  parse_arguments "$@"
  [[ $sshd_config == /* ]] || sshd_config=$PWD/$sshd_config
  keys=${sshd_config%/*}/$user.keys drop_in=${sshd_config%/*}/sshd_config.d/50-$user.conf
  unapplied=/run/$user.unapplied # exists while sshd may be running with an older configuration
  sshd=$(PATH=$PATH:/usr/sbin:/usr/local/sbin command -v sshd) || die 'sshd not found: install openssh-server'
  # shellcheck source=bootstrap/gateway/tunnel-user.sh
  source "$script_dir/tunnel-user.sh"
  # shellcheck source=bootstrap/gateway/sshd-config.sh
  source "$script_dir/sshd-config.sh"
  # shellcheck source=bootstrap/gateway/relay.sh
  source "$script_dir/relay.sh"
  relay_paths
  [[ -f $sshd_config ]] || die "$sshd_config does not exist; give the right file with --sshd-config"
  ((EUID == 0)) || die 'must be run as root (sudo)'
  check_user
  if [[ -n $remove ]]; then
    remove_relay
    [[ -n $relay ]] || remove_all
    return
  fi
  [[ -z $relay ]] || check_relay
  if [[ -n $public_key ]]; then
    line=$(authorize "${authorize_options[@]}" "$public_key") || exit 1
    key_lines+=("$line")
  elif ((${#authorize_options[@]})); then
    die '--machine-id, --pool-key, --target and --forward require --public-key'
  fi
  for line in ${key_lines[@]+"${key_lines[@]}"}; do check_key_line "$line"; done
  make_user
  make_chroot
  install_keys
  install_drop_in
  [[ -z $relay ]] || install_relay
  if [[ -n $dry_run ]]; then say 'nothing was changed (--dry-run)'; else say_next; fi
}

# Print the command that checks this host, with all options that this run had.
say_next() {
  local command=(python3 "$script_dir/check.py" --user "$user" --sshd-config "$sshd_config") target
  [[ $relay_user == beta9-relay ]] || command+=(--relay-user "$relay_user")
  while IFS= read -r target; do command+=(--target "$target"); done < <(targets)
  say "done; check the rest of this host with: ${SUDO_USER:+sudo }$(printf '%q ' "${command[@]}")"
}

# Print the gateway's address in each key's line, which is the first permitopen.
targets() {
  grep -v '^#' "$keys" 2>/dev/null | sed -n 's/^[^"]*permitopen="\([^"]*\)".*/\1/p' | sort -u
}

main "$@"
