# shellcheck shell=bash
# The parts of setup.sh: the relay, which takes the gateway's dials to any port of a worker, and its service.
# Sourced, not run. Reads from setup.sh: script_dir, dry_run, relay_user, relay_options.
# shellcheck disable=SC2154

# Everything is named after the relay's user, beta9-relay by default.
relay_paths() {
  relay_lib=/usr/local/lib/$relay_user relay_conf=/etc/$relay_user
  relay_unit=/etc/systemd/system/$relay_user.service relay_sysctl=/etc/sysctl.d/60-$relay_user.conf
}

# Print a Python that can run the relay. Only the system's: the relay's user cannot enter root's home.
relay_python() {
  local name
  for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
    name=$(PATH=/usr/bin:/usr/local/bin:/bin command -v "$name") || continue
    if "$name" -I -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
      printf '%s\n' "$name"
      return
    fi
  done
  die 'the relay needs Python 3.10 or later in /usr/bin or /usr/local/bin: install one (python3.11, for example)'
}

# Fail before anything is changed if the relay cannot be installed here.
check_relay() {
  local home
  [[ -f $script_dir/../../agent/commands/relay.py ]] ||
    die '--relay needs the whole release, not the folder bootstrap/gateway alone: copy its tree to this host'
  python=$(relay_python) || exit 1
  home=$(getent passwd "$relay_user" | cut -d: -f6) || home=$relay_lib
  [[ $home == "$relay_lib" ]] ||
    die "the user $relay_user (home $home) was not created by this script; choose another --relay-user"
  # The relay itself judges its options, and whether this host's packet filter takes its rules.
  read -ra relay_options < <(merged_options)
  PYTHONPATH=$script_dir/../.. PYTHONDONTWRITEBYTECODE=1 "$python" -m agent relay --user 65534 \
    ${relay_options[@]+"${relay_options[@]}"} --dry-run >/dev/null || die 'the relay cannot run here (see above)'
}

install_relay() {
  local text
  changed=''
  make_relay_user
  install_program
  text="RELAY_OPTIONS=\"${relay_options[*]}\""
  [[ $text == "$(cat "$relay_conf/options" 2>/dev/null)" ]] || install_file "$relay_conf/options" "$text"
  text=$(start_text)
  [[ $text == "$(cat "$relay_lib/start" 2>/dev/null)" ]] || install_file "$relay_lib/start" "$text" 0755
  set_retries
  start_relay
}

make_relay_user() {
  getent passwd "$relay_user" >/dev/null ||
    change "add the user $relay_user" useradd --system --user-group --no-create-home --home-dir "$relay_lib" \
      --shell /usr/sbin/nologin "$relay_user"
}

# The relay needs nothing but Python: its program is the release's modules, as they are.
install_program() {
  local sum
  sum=$(program_sum "$script_dir/../..")
  if [[ $sum != "$(cat "$relay_lib/program.sum" 2>/dev/null)" ]]; then
    changed=yes
    change "install the program in $relay_lib" copy_program "$sum"
  fi
}

# program_sum ROOT: print a digest of the modules and of the Python that they are compiled for.
program_sum() {
  (cd "$1" && find agent -name '*.py' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; "$python" -VV) | sha256sum | cut -d' ' -f1
}

# copy_program SUM: put the new program in place of the old one, whole, and compiled so that it starts fast.
copy_program() {
  local new=$relay_lib/agent.new
  install -d -o root -g root -m 0755 "$relay_lib"
  rm -rf "$new"
  mkdir "$new"
  (cd "$script_dir/../../agent" && find . -name '*.py' -print0 | tar -c --null -T - --owner=0 --group=0) | tar -x -C "$new"
  chmod -R u=rwX,go=rX "$new"
  rm -rf "$relay_lib/agent"
  mv "$new" "$relay_lib/agent"
  "$python" -I -m compileall -q "$relay_lib/agent"
  write_file "$relay_lib/__main__.py" 'import sys; from agent.cli import main; sys.exit(main())'
  write_file "$relay_lib/program.sum" "$1"
}

# install_file FILE TEXT [MODE]
install_file() {
  changed=yes
  change "write $1" write_with_mode "$@"
}

write_with_mode() {
  mkdir -p "${1%/*}"
  write_file "$1" "$2"
  chmod "${3:-0644}" "$1"
}

stored_options() {
  local text
  text=$(sed -n 's/^RELAY_OPTIONS="\(.*\)"$/\1/p' "$relay_conf/options" 2>/dev/null || true)
  printf '%s\n' "$text"
}

# Print the relay's options: those of this run, and of earlier runs what this one does not say; 'none' ends one.
merged_options() {
  local -A values=()
  local words word name
  read -ra words < <(stored_options)
  set -- "${words[@]}" ${relay_options[@]+"${relay_options[@]}"}
  while (($# > 1)); do
    values[$1]=$2
    shift 2
  done
  for name in --names --names-address --names-for-pods --pods-dial --pods-from --packet-filter; do
    word=${values[$name]:-none}
    [[ $word == none ]] || printf '%s %s ' "$name" "$word"
  done
  echo
}

# Print a script that starts the relay without systemd, with the one capability that it needs, as the unit does.
start_text() {
  cat <<END
#!/bin/sh
# Written by setup.sh: starts the relay in the foreground, for a service manager other than systemd. Needs root.
set -eu
. $relay_conf/options
$python -I $relay_lib relay --user $relay_user --apply \$RELAY_OPTIONS
exec setpriv --reuid $relay_user --regid $relay_user --clear-groups --no-new-privs \\
  --inh-caps -all,+net_admin --ambient-caps -all,+net_admin --bounding-set -all,+net_admin \\
  $python -I $relay_lib relay --user $relay_user \$RELAY_OPTIONS
END
}

relay_by_systemd() { [[ -d /run/systemd/system ]] && command -v systemctl >/dev/null; }

start_relay() {
  local unit=$relay_user.service text
  if ! relay_by_systemd; then
    say "${dry_run:+would not start the relay: }no systemd here; let your service manager run $relay_lib/start${changed:+ (anew)}"
    return
  fi
  text=$(sed "s|@PYTHON@|$python|g; s|@LIB@|$relay_lib|g; s|@CONF@|$relay_conf|g; s|@USER@|$relay_user|g" \
    "$script_dir/beta9-relay.service")
  if [[ $text != "$(cat "$relay_unit" 2>/dev/null)" ]]; then
    install_file "$relay_unit" "$text"
    change 'let systemd read its units' systemctl daemon-reload
  fi
  systemctl is-enabled --quiet "$unit" 2>/dev/null || change "enable $unit" systemctl enable --quiet "$unit"
  if [[ -n $changed ]] || ! systemctl is-active --quiet "$unit"; then
    change "restart $unit, which ends the connections through it" systemctl restart "$unit"
  fi
}

# --tcp-retries2 N: how often the kernel repeats what a dead peer does not acknowledge, for all TCP of this host.
set_retries() {
  local key=net.ipv4.tcp_retries2 before
  case $tcp_retries2 in
    '') ;;
    default) restore_retries ;;
    *)
      grep -qsxF "$key = $tcp_retries2" "$relay_sysctl" && return
      before=$(sed -n 's/^# before: //p' "$relay_sysctl" 2>/dev/null || true)
      change "write $relay_sysctl" write_file "$relay_sysctl" \
        "# before: ${before:-$(sysctl -n "$key")}"$'\n'"$key = $tcp_retries2"
      change "set $key to $tcp_retries2" sysctl -q -w "$key=$tcp_retries2"
      ;;
  esac
}

restore_retries() {
  local before
  [[ -e $relay_sysctl ]] || return 0
  before=$(sed -n 's/^# before: //p' "$relay_sysctl")
  change "set net.ipv4.tcp_retries2 to ${before:-15} again" sysctl -q -w "net.ipv4.tcp_retries2=${before:-15}"
  change "remove $relay_sysctl" rm -f "$relay_sysctl"
}

# The rules go last: while they are there and the relay is not, dials are refused, and nobody else answers them.
remove_relay() {
  if [[ -e $relay_unit ]]; then
    change "stop and disable $relay_user.service" systemctl disable --quiet --now "$relay_user.service"
    change "remove $relay_unit" rm -f "$relay_unit"
    change 'let systemd read its units' systemctl daemon-reload
  fi
  if getent passwd "$relay_user" >/dev/null; then
    pgrep -u "$relay_user" >/dev/null && change "end the processes of $relay_user" end_processes_of "$relay_user"
    [[ ! -d $relay_lib/agent ]] || change "remove the relay's packet filter rules" remove_rules
    change "remove the user $relay_user" userdel "$relay_user"
  fi
  restore_retries
  [[ ! -d $relay_lib ]] || change "remove $relay_lib" rm -rf "$relay_lib"
  [[ ! -d $relay_conf ]] || change "remove $relay_conf" rm -rf "$relay_conf"
}

remove_rules() {
  local options
  read -ra options < <(stored_options)
  "$(relay_python)" -I "$relay_lib" relay --user "$relay_user" ${options[@]+"${options[@]}"} --remove ||
    die "the relay's rules were not removed (see above); correct that and run this again"
}
