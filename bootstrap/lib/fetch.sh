# shellcheck shell=bash
# Gets a file and proves that it is the right one. Nothing that was fetched is used before that.

# fetch LOCATION DEST [SHA256]: LOCATION is https://…, http://… (only with a sum), file:///… or an absolute path, and
# may end in #sha256=…. A file of that name in BETA9_FILES_DIR is taken instead. DEST appears whole or not at all.
fetch() {
  local location=${1%%#*} dest=$2 sum=${3:-} temporary
  [[ $1 != *'#sha256='* ]] || sum=${1##*#sha256=}
  [[ -z $sum || $sum =~ ^[0-9a-f]{64}$ ]] || fail "the checksum given for $location is not 64 hexadecimal digits"
  if [[ -n $sum ]] && sum_is "$dest" "$sum"; then return 0; fi
  mkdir -p "$(dirname "$dest")"
  temporary=$(mktemp "$dest.XXXXXX")
  if ! transfer "$location" "$temporary" "$sum"; then
    rm -f "$temporary"
    fail "could not get $location" "see that this machine reaches it, or put the file into BETA9_FILES_DIR"
  fi
  if [[ -n $sum ]] && ! sum_is "$temporary" "$sum"; then
    sum="is $(sha256sum <"$temporary" | cut -d' ' -f1), not $sum"
    rm -f "$temporary"
    fail "$location: the checksum $sum" \
      "the file was changed on its way or at its source, or the pin belongs to another version: set URL and sum together"
  fi
  chmod 0644 "$temporary"
  mv -f "$temporary" "$dest"
}

sum_is() { [[ -f $1 && $(sha256sum <"$1" | cut -d' ' -f1) == "$2" ]]; }

# transfer LOCATION FILE SUM: bounded in time and tries.
transfer() {
  local location=$1 file=$2 local_copy
  local_copy=$(setting BETA9_FILES_DIR)/${location##*/}
  if [[ $local_copy == /?*/* && -f $local_copy ]]; then
    say "taking ${location##*/} from $(setting BETA9_FILES_DIR)"
    cp "$local_copy" "$file"
    return
  fi
  case $location in
    /*) cp "$location" "$file" ;;
    file:///*) cp "${location#file://}" "$file" ;;
    http://*) [[ -n $3 ]] || fail "$location: http without a checksum proves nothing" "use https, or add #sha256=…"
      download "$location" "$file" http,https ;;
    https://*) download "$location" "$file" https ;;
    *) fail "'$location' is not https://…, file:///… or an absolute path" ;;
  esac
}

# Nothing of ~/.curlrc; a redirect cannot leave TLS; 1 kB/s for a minute counts as dead. BETA9_RETRY_DELAY in the
# environment (tests): whole seconds between two tries, instead of curl's own 1, 2, 4, 8 and 16.
download() {
  curl --disable --fail --silent --show-error --location --proto "=$3" --proto-redir "=$3" --tlsv1.2 \
    --connect-timeout 15 --speed-limit 1024 --speed-time 60 --retry 5 --retry-all-errors --retry-max-time 300 \
    --retry-delay "${BETA9_RETRY_DELAY:-0}" --output "$2" -- "$1"
}

# fetch_pinned NAME LOCATION SHA256 DEST [SUMS]: as fetch. Without a pin, the sums that the release publishes beside
# the file (SUMS, a `sha256sum` listing) show that it arrived whole, not whose it is: that is said on the console, and
# refused where BETA9_REQUIRE_PINS is set.
fetch_pinned() {
  local name=$1 location=$2 sum=$3 dest=$4 sums=${5:-} listing
  [[ -z $sum && $location == *'#sha256='* ]] && sum=${location##*#sha256=}
  if [[ -n $sum ]]; then
    fetch "${location%%#*}" "$dest" "$sum"
    return
  fi
  unpinned "$name" "${location##*/}"
  [[ -n $sums ]] || fail "$name: neither a pin nor published sums to check $location by" "set the checksum in worker.env"
  listing=$(mktemp)
  fetch "$sums" "$listing"
  sum=$(awk -v file="${location##*/}" '$2 == file || $2 == "*" file { print $1; exit }' "$listing")
  rm -f "$listing"
  [[ $sum =~ ^[0-9a-f]{64}$ ]] || fail "$sums has no line for ${location##*/}" "check the URLs in worker.env"
  fetch "$location" "$dest" "$sum"
}

# unpinned NAME WHAT [HOW]: where no pin is known. Ends the step if pins are required.
unpinned() {
  if enabled BETA9_REQUIRE_PINS; then
    fail "$1 is not pinned, and BETA9_REQUIRE_PINS is set" "fill the pins in with bootstrap/pin.sh, or set it in worker.env"
  fi
  console "warning: the origin of $2 is not pinned ($1 ${3:-is empty}): it was taken as its publisher serves it now"
}
