# shellcheck shell=bash
# The parts of setup.sh: sshd's drop-in for the tunnel-only user, and how sshd comes to use it.
# Sourced, not run. Reads from setup.sh: script_dir, user, sshd, sshd_config, keys, drop_in, exempt, dry_run.
# shellcheck disable=SC2154

# A worker's connection, for `sshd -T`. Match blocks may ask for any of these; 192.0.2.1 is an address of nobody.
CONNECTION=host=192.0.2.1,addr=192.0.2.1,laddr=127.0.0.1,lport=22

# sshd refuses to judge a configuration while its privilege separation directory is missing. Its unit creates that, so
# with socket activation, or before the first start, it may not exist yet.
make_privsep_dir() {
  local missing
  missing=$("$sshd" -t -f "$sshd_config" 2>&1 | tr -d '\r' |
    sed -n 's/^Missing privilege separation directory: //p') || true
  [[ -z $missing ]] || change "create $missing" install -d -o root -g root -m 0755 "$missing"
}

# knows LINE: whether this sshd understands a line of the global part of sshd_config.
knows() { [[ $("$sshd" -t -f /dev/null -o "$1" 2>&1) != *command-line* ]]; }

# Print the drop-in for this user, these paths and this sshd.
drop_in_text() {
  [[ -z $(sftp_elsewhere) ]] && printf 'Subsystem sftp internal-sftp\n\n'
  sed -e "s|/etc/ssh/beta9-tunnel.keys|$keys|; s|/beta9-tunnel$|/$user|; s|User beta9-tunnel|User $user|" \
    "$script_dir/50-beta9-tunnel.conf" | for_this_sshd
}

# Print the files that define the sftp subsystem already: sshd refuses a second definition.
sftp_elsewhere() {
  grep -lisE '^[[:space:]]*Subsystem[[:space:]]+sftp' "$sshd_config" "${drop_in%/*}"/*.conf | grep -vxF "$drop_in" || true
}

# Copy the drop-in from stdin: without the global lines that this sshd does not know, with the exempt networks, and with
# one probe less where sshd probes half as often as configured.
for_this_sshd() {
  local line in_match=''
  while IFS= read -r line; do
    case $line in
      Match\ User*)
        in_match=yes
        [[ -z $exempt || $exempt == none ]] || printf 'PerSourcePenaltyExemptList %s\n\n' "$exempt"
        ;;
      *ClientAliveCountMax*) [[ $("$sshd" -V 2>&1) != *OpenSSH_9.[234]* ]] || line=${line/%2/1} ;;
      [A-Z]*) [[ -n $in_match ]] || knows "$line" || continue ;;
    esac
    printf '%s\n' "$line"
  done
}

# Which networks are exempt from penalties: as given, else as in the drop-in that is there.
choose_exempt() {
  local given=$exempt
  exempt=${exempt:-$(sed -n 's/^PerSourcePenaltyExemptList //p' "$drop_in" 2>/dev/null || true)}
  [[ ${exempt:-none} != none ]] || return 0
  if ! knows 'PerSourcePenalties yes'; then
    [[ -z $given ]] || say "--exempt $exempt: not needed, this sshd has no penalties (OpenSSH 9.8 brought them)"
    exempt=none
  fi
}

install_drop_in() {
  local text before=''
  make_privsep_dir
  choose_exempt
  text=$(drop_in_text)
  if [[ $text != "$(cat "$drop_in" 2>/dev/null)" ]]; then
    if [[ -n $dry_run ]]; then say "would write $drop_in and reload sshd"; return; fi
    [[ ! -f $drop_in ]] || before=$(cat "$drop_in")
    mkdir -p "${drop_in%/*}"
    : >"$unapplied"
    change "write $drop_in" write_file "$drop_in" "$text"
  fi
  [[ -n $dry_run ]] || { check_config "$before"; apply; }
}

# check_config BEFORE: let sshd judge its configuration; if it refuses, put the drop-in back as it was.
check_config() {
  local complaint
  if ! complaint=$("$sshd" -t -f "$sshd_config" 2>&1); then
    printf '%s\n' "$complaint" >&2
    [[ $complaint != *'no hostkeys available'* ]] ||
      die "this host has no SSH host keys: create them with 'ssh-keygen -A' and run this again"
    if [[ -n $1 ]]; then write_file "$drop_in" "$1"; else rm -f "$drop_in"; fi
    rm -f "$unapplied"
    die "sshd rejects the new configuration (see above); $drop_in was restored"
  fi
  "$sshd" -T -f "$sshd_config" -C "user=$user,$CONNECTION" | grep -xF "authorizedkeysfile $keys" >/dev/null ||
    die "$sshd_config does not include $drop_in: add 'Include ${drop_in%/*}/*.conf' as its first line and run this again"
}

remove_drop_in() {
  [[ -e $drop_in ]] || return 0
  [[ -n $dry_run ]] || : >"$unapplied"
  change "remove $drop_in" rm -f "$drop_in"
}

# Let a running sshd read a configuration that changed, in this run or in one that failed before it came to this.
apply() {
  [[ -e $unapplied ]] || return 0
  reload
  [[ -n $dry_run ]] || rm -f "$unapplied"
}

reload() {
  local unit pid
  make_privsep_dir
  "$sshd" -t -f "$sshd_config" || die 'sshd rejects its configuration (see above) and was not reloaded'
  unit=$(running_unit)
  if [[ -n $unit ]]; then
    change "reload $unit" reload_unit "$unit"
    return
  fi
  pid=$(running_pid)
  if [[ -n $pid ]]; then
    change 'reload sshd' kill -HUP "$pid"
  elif waiting_socket >/dev/null; then
    say "sshd is not running: $(waiting_socket) starts it with the new settings at the next connection"
  else
    say "no sshd is running with $sshd_config: the settings apply once it is started$(start_command)"
  fi
}

# Whether systemd is in charge of the sshd with this configuration.
by_systemd() {
  [[ $sshd_config == /etc/ssh/sshd_config && -d /run/systemd/system ]] && command -v systemctl >/dev/null
}

# first_active UNIT…: print the first unit that is active. Debian calls sshd's unit ssh, others sshd.
first_active() {
  local unit
  by_systemd || return 1
  for unit in "$@"; do
    case $(systemctl is-active "$unit" 2>/dev/null) in active | reloading) printf '%s\n' "$unit"; return ;; esac
  done
  return 1
}

running_unit() { first_active ssh.service sshd.service || true; }

waiting_socket() { first_active ssh.socket sshd.socket; }

# Print how to start sshd, if systemd has a unit for it.
start_command() {
  local unit
  by_systemd || return 0
  for unit in ssh.service sshd.service; do
    case $(systemctl is-enabled "$unit" 2>/dev/null) in
      masked*) printf ' (systemctl unmask %s; systemctl enable --now %s)' "$unit" "$unit"; return ;;
      enabled* | disabled | static | indirect | generated) printf ' (systemctl enable --now %s)' "$unit"; return ;;
    esac
  done
}

# A unit without ExecReload cannot be reloaded by systemd; what Debian's does is this signal.
reload_unit() {
  local pid
  if ! systemctl reload "$1"; then
    pid=$(systemctl show --property MainPID --value "$1")
    [[ $pid -gt 1 ]] || die "$1 cannot be reloaded (see above): restart it; its sessions stay"
    kill -HUP "$pid"
  fi
}

# Print the pid of the sshd with this configuration, by its pid file. A stale file may name another program.
running_pid() {
  local file pid
  file=$("$sshd" -T -f "$sshd_config" -C "user=$user,$CONNECTION" | sed -n 's/^pidfile //p')
  [[ -s $file ]] || return 0
  pid=$(<"$file")
  [[ $(cat "/proc/$pid/comm" 2>/dev/null) != sshd* ]] || printf '%s\n' "$pid"
}
