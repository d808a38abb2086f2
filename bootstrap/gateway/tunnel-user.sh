# shellcheck shell=bash
# The parts of setup.sh: create or remove the tunnel-only user, its chroot, its keys, and sshd's drop-in.
# Sourced, not run. Reads from setup.sh: script_dir, user, sshd, sshd_config, keys, drop_in, key_lines, dry_run.
# shellcheck disable=SC2154

# change WHAT COMMAND…: announce and run COMMAND, or only announce it with --dry-run. Every change uses it.
change() {
  say "${dry_run:+would }$1"
  [[ -n $dry_run ]] || "${@:2}"
}

# An existing account that this script did not create is neither changed nor removed.
check_user() {
  local home
  home=$(getent passwd "$user" | cut -d: -f6) || return 0
  [[ $home == "/var/lib/$user" ]] || die "the user $user (home $home) was not created by this script; choose another --user"
}

make_user() {
  if ! getent passwd "$user" >/dev/null; then
    change "add the user $user" useradd --system --user-group --no-create-home --home-dir "/var/lib/$user" \
      --shell /usr/sbin/nologin "$user"
  fi
  # A new account is locked ('!'), and without PAM sshd then refuses its keys as well. '*' matches no password either.
  if [[ $(getent shadow "$user" | cut -d: -f2) != '*' ]]; then
    change "set an impossible password for $user" usermod --password '*' "$user"
  fi
}

# sshd resolves the targets of forwards inside the chroot, which therefore needs an entry for localhost.
make_chroot() {
  if ! grep -qs localhost "/var/lib/$user/etc/hosts"; then
    change "create /var/lib/$user, with etc/hosts only" install -d -o root -g root -m 0755 \
      "/var/lib/$user" "/var/lib/$user/etc"
    change "write /var/lib/$user/etc/hosts" write_file "/var/lib/$user/etc/hosts" '127.0.0.1 localhost'
  fi
}

# write_file FILE TEXT: atomically, owned by root, readable by all.
write_file() {
  printf '%s\n' "$2" >"$1.new"
  chmod 0644 "$1.new"
  mv -f "$1.new" "$1"
}

install_keys() {
  local line blob kept
  kept=$(cat "$keys" 2>/dev/null || true)
  for line in ${key_lines[@]+"${key_lines[@]}"}; do
    blob=$(grep -oE '(ssh|ecdsa)-[A-Za-z0-9-]+ AAAA[A-Za-z0-9+/=]+' <<<"$line")
    kept=$(grep -vF -- "${blob%%$'\n'*}" <<<"$kept" || true)
    kept=${kept:+$kept$'\n'}$line
  done
  [[ -f $keys && $kept == "$(cat "$keys")" ]] || change "write $keys" write_file "$keys" "$kept"
}

# Print the shipped drop-in with this user and these paths; add the sftp subsystem if sshd_config has none.
drop_in_text() {
  local others
  others=$(grep -lisE '^[[:space:]]*Subsystem[[:space:]]+sftp' "$sshd_config" "${drop_in%/*}"/*.conf |
    grep -vxF "$drop_in" || true)
  [[ -n $others ]] || printf 'Subsystem sftp internal-sftp\n\n'
  sed -e "s|/etc/ssh/beta9-tunnel.keys|$keys|; s|/beta9-tunnel$|/$user|; s|User beta9-tunnel|User $user|" \
    "$script_dir/50-beta9-tunnel.conf"
}

install_drop_in() {
  local text before=''
  text=$(drop_in_text)
  [[ $text != "$(cat "$drop_in" 2>/dev/null)" ]] || return 0
  if [[ -n $dry_run ]]; then say "would write $drop_in and reload sshd"; return; fi
  [[ ! -f $drop_in ]] || before=$(cat "$drop_in")
  mkdir -p "${drop_in%/*}"
  change "write $drop_in" write_file "$drop_in" "$text"
  if ! "$sshd" -t -f "$sshd_config"; then
    if [[ -n $before ]]; then write_file "$drop_in" "$before"; else rm -f "$drop_in"; fi
    die "sshd rejects the new configuration (see above); $drop_in was restored"
  fi
  "$sshd" -T -f "$sshd_config" -C "user=$user,host=localhost,addr=127.0.0.1" | grep -xF "authorizedkeysfile $keys" >/dev/null ||
    die "$sshd_config does not include $drop_in: add 'Include ${drop_in%/*}/*.conf' as its first line and run this again"
  reload
}

reload() {
  local pid_file
  pid_file=$("$sshd" -T -f "$sshd_config" | sed -n 's/^pidfile //p') ||
    die "sshd rejects its configuration (see above) and was not reloaded"
  if [[ $sshd_config == /etc/ssh/sshd_config && -d /run/systemd/system ]]; then
    change 'reload sshd' systemctl reload "$(systemctl cat ssh.service >/dev/null 2>&1 && echo ssh || echo sshd)"
  elif [[ -s $pid_file ]] && kill -0 "$(<"$pid_file")" 2>/dev/null; then
    change 'reload sshd' kill -HUP "$(<"$pid_file")"
  else
    say "no sshd is running with $sshd_config: the settings apply once it is started"
  fi
}

remove_all() {
  local had_drop_in=''
  [[ ! -e $drop_in ]] || { had_drop_in=yes; change "remove $drop_in" rm -f "$drop_in"; }
  [[ ! -e $keys ]] || change "remove $keys" rm -f "$keys"
  if getent passwd "$user" >/dev/null; then
    change "end the sessions of $user" end_sessions
    change "remove the user $user" userdel "$user"
  fi
  [[ ! -d /var/lib/$user ]] || change "remove /var/lib/$user" remove_chroot
  [[ -z $had_drop_in ]] || reload
}

end_sessions() { pkill -KILL -u "$user" || (($? == 1)); } # 1: there were no processes

remove_chroot() {
  rm -f "/var/lib/$user/etc/hosts"
  rmdir "/var/lib/$user/etc" "/var/lib/$user"
}
