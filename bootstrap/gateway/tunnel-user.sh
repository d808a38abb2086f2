# shellcheck shell=bash
# The parts of setup.sh: the tunnel-only user, his place, his keys, sshd's drop-in; each made, or taken back.
# Sourced, not run. Reads: here, user, sshd, sshd_config, keys, drop_in, key_lines, dry_run (of setup.sh).
# shellcheck disable=SC2154

# Every change goes through here: change WHAT COMMAND…
change() {
  say "${dry_run:+would }$1"
  [[ -n $dry_run ]] || "${@:2}"
}

# An account that somebody else made is neither changed nor removed.
check_user() {
  local home
  home=$(getent passwd "$user" | cut -d: -f6) || return 0
  [[ $home == "/var/lib/$user" ]] || die "the user $user (home $home) was not made by this script; choose another --user"
}

make_user() {
  if ! getent passwd "$user" >/dev/null; then
    change "add the user $user" useradd --system --user-group --no-create-home --home-dir "/var/lib/$user" \
      --shell /usr/sbin/nologin "$user"
  fi
  # A fresh account is locked ('!'), and with UsePAM no sshd then refuses its keys, too. '*' fits no password.
  if [[ $(getent shadow "$user" | cut -d: -f2) != '*' ]]; then
    change "set an impossible password for $user" usermod --password '*' "$user"
  fi
}

# sshd resolves the targets of forwards inside this place, so that it must know who localhost is.
make_place() {
  if ! grep -qs localhost "/var/lib/$user/etc/hosts"; then
    change "make /var/lib/$user, with nothing in it but etc/hosts" install -d -o root -g root -m 0755 \
      "/var/lib/$user" "/var/lib/$user/etc"
    change "write /var/lib/$user/etc/hosts" put "/var/lib/$user/etc/hosts" '127.0.0.1 localhost'
  fi
}

# put FILE TEXT: at one stroke, readable by all, root's.
put() {
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
  [[ -f $keys && $kept == "$(cat "$keys")" ]] || change "write $keys" put "$keys" "$kept"
}

# The shipped file, for this user and these places; with the sftp subsystem where sshd_config has none.
drop_in_text() {
  local others
  others=$(grep -lisE '^[[:space:]]*Subsystem[[:space:]]+sftp' "$sshd_config" "${drop_in%/*}"/*.conf |
    grep -vxF "$drop_in" || true)
  [[ -n $others ]] || printf 'Subsystem sftp internal-sftp\n\n'
  sed -e "s|/etc/ssh/beta9-tunnel.keys|$keys|; s|/beta9-tunnel$|/$user|; s|User beta9-tunnel|User $user|" \
    "$here/50-beta9-tunnel.conf"
}

install_drop_in() {
  local text before=''
  text=$(drop_in_text)
  [[ $text != "$(cat "$drop_in" 2>/dev/null)" ]] || return 0
  if [[ -n $dry_run ]]; then say "would write $drop_in and reload sshd"; return; fi
  [[ ! -f $drop_in ]] || before=$(cat "$drop_in")
  mkdir -p "${drop_in%/*}"
  change "write $drop_in" put "$drop_in" "$text"
  if ! "$sshd" -t -f "$sshd_config"; then
    if [[ -n $before ]]; then put "$drop_in" "$before"; else rm -f "$drop_in"; fi
    die "sshd refuses its configuration (above); $drop_in is as it was"
  fi
  "$sshd" -T -f "$sshd_config" -C "user=$user,host=localhost,addr=127.0.0.1" | grep -xF "authorizedkeysfile $keys" >/dev/null ||
    die "$sshd_config does not read $drop_in: put 'Include ${drop_in%/*}/*.conf' on its first line, and run this again"
  reload
}

reload() {
  local pid_file
  pid_file=$("$sshd" -T -f "$sshd_config" | sed -n 's/^pidfile //p') ||
    die "sshd refuses its configuration (above), and was not reloaded"
  if [[ $sshd_config == /etc/ssh/sshd_config && -d /run/systemd/system ]]; then
    change 'reload sshd' systemctl reload "$(systemctl cat ssh.service >/dev/null 2>&1 && echo ssh || echo sshd)"
  elif [[ -s $pid_file ]] && kill -0 "$(<"$pid_file")" 2>/dev/null; then
    change 'reload sshd' kill -HUP "$(<"$pid_file")"
  else
    say "no sshd runs with $sshd_config: the settings hold once one is started"
  fi
}

remove_all() {
  local was_there=''
  [[ ! -e $drop_in ]] || { was_there=yes; change "remove $drop_in" rm -f "$drop_in"; }
  [[ ! -e $keys ]] || change "remove $keys" rm -f "$keys"
  if getent passwd "$user" >/dev/null; then
    change "end the sessions of $user" end_sessions
    change "remove the user $user" userdel "$user"
  fi
  [[ ! -d /var/lib/$user ]] || change "remove /var/lib/$user" remove_place
  [[ -z $was_there ]] || reload
}

end_sessions() { pkill -KILL -u "$user" || (($? == 1)); } # 1: there were none

remove_place() {
  rm -f "/var/lib/$user/etc/hosts"
  rmdir "/var/lib/$user/etc" "/var/lib/$user"
}
