# shellcheck shell=bash
# The parts of setup.sh: create or remove the tunnel-only user, its chroot and its keys.
# Sourced, not run. Reads from setup.sh: user, keys, drop_in, key_lines, dry_run, any_port.
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
  if [[ -n $any_port ]]; then kept=$(with_relay_port <<<"$kept"); fi
  [[ -f $keys && $kept == "$(cat "$keys")" ]] || change "write $keys" write_file "$keys" "$kept"
}

# Lines from before `authorize` knew the relay have permitlisten for port 6443 alone.
with_relay_port() {
  sed -E 's/,permitlisten="[^"]*:1080"//g; s/permitlisten="([^"]*):6443"/&,permitlisten="\1:1080"/g'
}

remove_all() {
  remove_drop_in
  [[ ! -e $keys ]] || change "remove $keys" rm -f "$keys"
  if getent passwd "$user" >/dev/null; then
    change "end the sessions of $user" end_processes_of "$user"
    change "remove the user $user" userdel "$user"
  fi
  [[ ! -d /var/lib/$user ]] || change "remove /var/lib/$user" remove_chroot
  apply
}

end_processes_of() { pkill -KILL -u "$1" || (($? == 1)); } # 1: there were no processes

remove_chroot() {
  rm -f "/var/lib/$user/etc/hosts"
  rmdir "/var/lib/$user/etc" "/var/lib/$user"
}
