# shellcheck shell=bash
# Download files and verify their checksums before anything uses them.

# fetch LOCATION DEST [SHA256]: LOCATION is https://…, http://… (only with a checksum), s3://BUCKET/KEY, file:///… or an
# absolute path, and may end in #sha256=…. A file of the same name in BETA9_FILES_DIR takes precedence. DEST is replaced
# atomically.
fetch() {
  local location=${1%#sha256=*} dest=$2 sum=${3:-} name temporary
  name=$(shown "$location")
  [[ $1 != *'#sha256='* ]] || sum=${1##*#sha256=}
  sum=${sum,,}
  [[ -z $sum || $sum =~ ^[0-9a-f]{64}$ ]] || fail "the checksum given for $name is not 64 hexadecimal digits"
  if [[ -n $sum ]] && checksum_matches "$dest" "$sum"; then return 0; fi
  mkdir -p "$(dirname "$dest")"
  temporary=$(mktemp "$dest.XXXXXX")
  if ! transfer "$location" "$temporary" "$sum"; then
    rm -f "$temporary"
    fail "could not download $name" "make sure that this machine can reach it (docs/bootstrap.md, \"Behind a proxy\"), or put the file into BETA9_FILES_DIR"
  fi
  if [[ -n $sum ]] && ! checksum_matches "$temporary" "$sum"; then
    sum="is $(sha256sum <"$temporary" | cut -d' ' -f1), not $sum"
    rm -f "$temporary"
    fail "$name: the checksum $sum" \
      "the file was modified in transit or at its source, or the checksum belongs to another version: set URL and checksum together"
  fi
  chmod 0644 "$temporary"
  mv -f "$temporary" "$dest"
}

# checksum_matches FILE SHA256: in small or capital letters.
checksum_matches() { [[ -f $1 && $(sha256sum <"$1" | cut -d' ' -f1) == "${2,,}" ]]; }

# transfer LOCATION FILE SUM: copy or download, with bounded time and retries.
transfer() {
  local location=$1 file=$2 name local_copy
  name=$(shown "$location")
  if local_copy=$(replacement "$location"); then
    say "using $local_copy"
    cp "$local_copy" "$file"
    return
  fi
  case $location in
    /*) cp "$location" "$file" ;;
    file:///*) cp "${location#file://}" "$file" ;;
    http*://*'#'*) fail "$name: what follows its # is not a checksum" "append #sha256= and the checksum, or nothing" ;;
    http://*) [[ -n $3 ]] || fail "$name: http requires a checksum" "use https, or append #sha256=…"
      again request "$location" "$file" ;;
    https://* | s3://*/*) again request "$location" "$file" ;;
    *) fail "'$name' is not https://…, s3://…, file:///… or an absolute path" ;;
  esac
}

# The following functions are the same in cloud-init/boot.sh; a test compares them.

# shown LOCATION: print it without what may be secret: a login and the query of a URL.
shown() {
  local text=$1
  if [[ $text != /* && $text != file:///* ]]; then
    [[ ! $text =~ ^([A-Za-z0-9+.-]+://)[^/?#]*@(.*)$ ]] || text=${BASH_REMATCH[1]}${BASH_REMATCH[2]}
    text=${text%%[?#]*}
  fi
  printf %s "$text"
}

# replacement LOCATION: print the file in BETA9_FILES_DIR with the location's name; return 1 if there is none.
replacement() {
  local name file
  name=$(shown "$1") file=$(setting BETA9_FILES_DIR)/${name##*/}
  [[ $file == /?*/?* && -f $file ]] && printf %s "$file"
}

# request URL FILE: download it once. Ignores ~/.curlrc; redirects may not downgrade from TLS. Less than 1 kB/s for a
# minute ends it, and so does half an hour. The URL may contain a signature, so it is not an argument of curl.
request() {
  local protocols='=http,https' url=$1
  [[ $url != s3:* ]] || url=$(signed "$url") || return 1
  url=${url//\\/%5C}
  [[ $url != https:* ]] || protocols='=https'
  url=${url//\"/%22} url=${url//$'\n'/%0A}
  printf 'url = "%s"\n' "$url" | curl --disable --config - --globoff --fail --silent --show-error --location \
    --proto "$protocols" --proto-redir "$protocols" --tlsv1.2 --connect-timeout 15 --speed-limit 1024 --speed-time 60 \
    --max-time 1800 --output "$2"
}

# signed s3://BUCKET/KEY[?region=REGION]: print an https URL for it that is signed with the role of this EC2 instance; the
# region is the instance's by default. Not left to `curl --aws-sigv4`: before 7.86 it does not sign what S3 requires.
# AWS_ENDPOINT_URL_S3 in the environment: another address of S3, as the AWS SDKs read it.
signed() {
  python3 - "$1" "$(setting BETA9_METADATA_ENDPOINT http://169.254.169.254)/latest/" <<'PYTHON'
import hashlib, hmac, json, os, sys, time
from urllib.parse import quote, urlencode
from urllib.request import ProxyHandler, Request, build_opener
sys.excepthook = lambda kind, error, _: sys.stderr.write("s3: no role of an EC2 instance to sign with: %r\n" % error)
def ask(path, header, value, method="GET"):
    asked = Request(sys.argv[2] + path, None, {"X-aws-ec2-metadata-token" + header: value}, method=method)
    return build_opener(ProxyHandler({})).open(asked, None, 10).read().decode()
token = ask("api/token", "-ttl-seconds", "60", "PUT")
def data(path): return ask("meta-data/" + path, "", token)
role = "iam/security-credentials/"
login = json.loads(data(role + data(role).split()[0]))
path, _, region = sys.argv[1][4:].partition("?region=")
path, region = quote(path), region or data("placement/region")
base = os.environ.get("AWS_ENDPOINT_URL_S3") or "https://s3.%s.%s" % (region, data("services/domain"))
now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
scope = [now[:8], region, "s3", "aws4_request"]
query = urlencode({
    "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
    "X-Amz-Credential": "/".join([login["AccessKeyId"]] + scope),
    "X-Amz-Date": now,
    "X-Amz-Expires": 3600,
    "X-Amz-Security-Token": login["Token"],
    "X-Amz-SignedHeaders": "host",
}, quote_via=quote)
text = "\n".join(["GET", path, query, "host:" + base.split("/")[2], "", "host", "UNSIGNED-PAYLOAD"])
text = "\n".join(["AWS4-HMAC-SHA256", now, "/".join(scope), hashlib.sha256(text.encode()).hexdigest()])
key = ("AWS4" + login["SecretAccessKey"]).encode()
for part in scope + [text]:
    key = hmac.new(key, part.encode(), "sha256").digest()
print(base + path + "?" + query + "&X-Amz-Signature=" + key.hex())
PYTHON
}

# again COMMAND…: up to six times, as long as it fails, but not after five minutes. BETA9_RETRY_DELAY in the environment
# (for tests): seconds between attempts. This is not left to curl: before 7.71 it does not repeat what was cut off.
again() {
  local pause end=$((SECONDS + 300))
  for pause in 1 2 4 8 16 0; do
    ! "$@" || return 0
    ((pause && SECONDS < end)) || break
    sleep "${BETA9_RETRY_DELAY:-$pause}"
  done
  return 1
}

# fetch_pinned NAME LOCATION SHA256 DEST [SUMS]: like fetch. Without a pin, the checksums that the release publishes
# next to the file (SUMS, a `sha256sum` listing) prove integrity but not origin: the console shows a warning, and
# BETA9_REQUIRE_PINS turns it into a failure.
fetch_pinned() {
  local name=$1 location=$2 sum=$3 dest=$4 sums=${5:-} listing file
  [[ -z $sum && $location == *'#sha256='* ]] && sum=${location##*#sha256=}
  if [[ -n $sum ]]; then
    fetch "${location%#sha256=*}" "$dest" "$sum"
    return
  fi
  location=$(shown "$2") file=${location##*/}
  report_unpinned "$name" "$file"
  [[ -n $sums ]] || fail "$name is empty, and no published checksums are known for $location" "set the checksum in worker.env"
  listing=$(mktemp)
  fetch "$sums" "$listing"
  sum=$(awk -v file="$file" '$2 == file || $2 == "*" file { print $1; exit }' "$listing")
  rm -f "$listing"
  [[ $sum =~ ^[0-9a-fA-F]{64}$ ]] || fail "$(shown "$sums") has no entry for $file" "check the URLs in worker.env"
  fetch "$2" "$dest" "$sum"
}

# report_unpinned NAME WHAT [REASON]: warn that NAME does not pin WHAT, or fail the step if pins are required.
report_unpinned() {
  if enabled BETA9_REQUIRE_PINS; then
    fail "$1 is not pinned, and BETA9_REQUIRE_PINS is set" "fill in the pins with bootstrap/pin.sh, or set $1 in worker.env"
  fi
  console "warning: the origin of $2 is not pinned ($1 ${3:-is empty}): using what its publisher serves now"
}
