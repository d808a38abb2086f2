#!/bin/bash
# First boot of a Beta9 worker: downloads the bootstrap that worker.env names, verifies it, and runs it.
# Safe to run at every boot. BETA9_ROOT: used as / (for tests).
set -Eeuo pipefail
umask 077
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin DEBIAN_FRONTEND=noninteractive

root=${BETA9_ROOT:-} etc=$root/etc/beta9-worker opt=$root/opt/beta9-worker state=$root/var/lib/beta9-worker
work='' reason='unexpected error, see the lines above' fix="run $0 again"
declare -A BETA9_SETTINGS=() BETA9_PINS=()

say() { printf 'beta9-boot: %s\n' "$*"; }
fail() { reason=$1 fix=$2; exit 1; }

on_exit() {
  local code=$? now
  [[ -z $work ]] || rm -rf "$work"
  ((code)) || return 0
  say "FAILED: $reason; fix: $fix" >&2
  now=$(date -u +%FT%TZ) fix=$(tr -d '"\\\n\t' <<<"$reason; $fix")
  mkdir -p "$state" && printf '{"version":1,"started_at":"%s","finished_at":"%s","result":"failed","failed_stage":"boot","fix":"%s","stages":[]}\n' \
    "$now" "$now" "$fix" >"$state/bootstrap.json"
  if [[ $(setting BETA9_ON_FAILURE) == poweroff ]] && ! systemctl -q is-active beta9-worker; then
    say 'powering off' >&2
    poweroff
  fi
}

# As in bootstrap/lib/settings.sh and fetch.sh, which explain them.
# shellcheck disable=SC2004,SC2034,SC2059,SC2094
read_settings() {
  local LC_ALL=C lines=() line name value quote rest char wrong at=0 next
  local -n into=$2
  SETTINGS_PROBLEM=''
  [[ ! -d $1 ]] && mapfile -t lines <"$1" && tr -d '\0' <"$1" | iconv -f UTF-8 -t UTF-8 2>/dev/null | cmp -s - "$1" ||
    SETTINGS_PROBLEM="$1 cannot be read as UTF-8 text"
  line=${lines[0]-} lines[0]=${line#$'\xef\xbb\xbf'}
  while ((at < ${#lines[@]})); do
    line=${lines[at]%$'\r'} at=$((at + 1)) wrong=''
    next=$at rest=$line
    if [[ $line =~ ^[[:blank:]]*(export[[:blank:]]+)?([A-Za-z0-9_.-]+)[[:blank:]]*=(.*)$ ]]; then
      name=${BASH_REMATCH[2]} value=${BASH_REMATCH[3]}
      quote=${value#"${value%%[![:blank:]]*}"} rest=${quote:1} quote=${quote:0:1}
      if [[ $quote == [\"\'] ]]; then
        until [[ ${rest//\\?/} == *"$quote"* ]] || ((next == ${#lines[@]})); do
          rest+=$'\n'${lines[next]%$'\r'} next=$((next + 1))
        done
        [[ $rest =~ ^((\\.|[^\\${quote}])*)${quote}[[:blank:]]*(#.*)?$ ]] ||
          wrong="the quotes around $name are not closed, or text follows them"
        line=${BASH_REMATCH[1]-} value=''
        while [[ $line == *\\* ]]; do
          value+=${line%%\\*} line=${line#*\\}
          char=${line:0:1} line=${line:1}
          case $quote$char in
            \"[abfnrtv]) printf -v char "\\$char" ;;
            ?\\ | ?\' | \"\") ;;
            *) char=\\$char ;;
          esac
          value+=$char
        done
        value+=$line
      else
        rest=$value value=${value%%[[:blank:]]#*} value=${value#"${value%%[![:blank:]]*}"}
        value=${value%"${value##*[![:blank:]]}"}
      fi
    elif [[ ! $line =~ ^[[:blank:]]*(#|$) ]]; then
      wrong='not NAME=value'
    else
      name=''
    fi
    [[ ${rest//[$'\t\n']/} != *[[:cntrl:]]* ]] || wrong='a control character'
    if [[ -n $wrong ]]; then
      : "${SETTINGS_PROBLEM:=$1, line $at: $wrong}"
    elif [[ -n $name ]]; then
      into[$name]=$value at=$next
    fi
  done
  [[ -z $SETTINGS_PROBLEM ]]
}
use_proxy() {
  local lower upper value any=''
  local direct=localhost,127.0.0.1,127.0.0.0/8,::1,169.254.169.254,fd00:ec2::254,10.42.0.0/16,10.43.0.0/16,.svc,.cluster.local
  for lower in http_proxy https_proxy no_proxy; do
    upper=${lower^^}
    value=${!lower:-${!upper:-${BETA9_SETTINGS[$lower]:-${BETA9_SETTINGS[$upper]:-}}}} value=${value//[[:blank:]]/}
    if [[ $lower != no_proxy ]]; then
      [[ -z $value || $value == *://* ]] || value=http://$value
      any+=$value
    elif [[ -n $any && $value != *"$direct" ]]; then
      value+=${value:+,}$direct
    fi
    [[ -z $value ]] || export "$lower=$value" "$upper=$value"
  done
}
setting() {
  local name=$1 value
  value=${!name:-}
  [[ -n $value ]] || value=${BETA9_SETTINGS[$name]:-}
  [[ -n $value ]] || value=${BETA9_PINS[$name]:-}
  printf %s "${value:-${2:-}}"
}
shown() {
  local text=$1
  if [[ $text != /* && $text != file:///* ]]; then
    [[ ! $text =~ ^([A-Za-z0-9+.-]+://)[^/?#]*@(.*)$ ]] || text=${BASH_REMATCH[1]}${BASH_REMATCH[2]}
    text=${text%%[?#]*}
  fi
  printf %s "$text"
}
replacement() {
  local name file
  name=$(shown "$1") file=$(setting BETA9_FILES_DIR)/${name##*/}
  [[ $file == /?*/?* && -f $file ]] && printf %s "$file"
}
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
again() {
  local pause end=$((SECONDS + 300))
  for pause in 1 2 4 8 16 0; do
    ! "$@" || return 0
    ((pause && SECONDS < end)) || break
    sleep "${BETA9_RETRY_DELAY:-$pause}"
  done
  return 1
}

# ensure COMMAND PACKAGE: waits five minutes for another apt, and less for other failures. Sources may fail.
ensure() {
  local tries=0 log
  command -v "$1" >/dev/null || until log=$({ apt-get -q update; apt-get -qy install "$2"; } 2>&1); do
    printf '%s\n' "$log"
    [[ $log == *lock* ]] || ((tries += 14))
    ((++tries < 60)) || fail "$2 could not be installed" 'use an image that has it'
    sleep "${BETA9_RETRY_DELAY:-5}"
  done
}

# arrive FILE: wait for a file in the directory to which Terraform sends it over ssh.
arrive() {
  local left
  [[ $1 == "$opt"/source/* && ! -e $1 ]] || return 0
  left=$(setting BETA9_SECRETS_TIMEOUT 1800)
  [[ $left =~ ^(0|[1-9][0-9]{0,3})$ ]] || left=1800
  say "waiting up to $left s for $1, to be sent over ssh"
  until [[ -e $1 ]] || ((left-- <= 0)); do sleep 1; done
}

# fetch VARIABLE LOCATION#sha256=HEX: to $work/file; sets id, the release's name.
fetch() {
  local url=${2%#sha256=*} sum=${2##*#sha256=} name file
  sum=${sum,,} name=$(shown "$url")
  [[ $2 == *#sha256=* && $sum =~ ^[0-9a-f]{64}$ ]] || fail "$1 has no checksum" 'use LOCATION#sha256=HEX'
  id=${sum:0:12}
  [[ ! -e $opt/releases/$id ]] || return 0
  if file=$(replacement "$url"); then url=$file name=$file; fi
  say "fetching $name"
  case $url in
    https://* | http://* | s3://*/*)
      ensure curl curl
      [[ $url != s3:* ]] || ensure python3 python3
      again request "$url" "$work/file" || fail "$1: cannot download $name" 'check the URL, and that this machine can reach it' ;;
    file:///* | /*)
      arrive "${url#file://}"
      cp "${url#file://}" "$work/file" || fail "$1: cannot read $name" 'put the file there' ;;
    *) fail "$1 is not a valid location" 'use https://..., s3://..., file:///... or an absolute path' ;;
  esac
  [[ $(sha256sum <"$work/file") == "$sum "* ]] ||
    fail "$1: wrong checksum of $name" 'correct the file or the setting'
}

# Copy /opt/beta9-worker out of the agent's image.
from_image() {
  local image=$1 auth container
  if [[ $image =~ ^[^#]+@sha256:([0-9a-f]{64})$ ]]; then
    id=${BASH_REMATCH[1]:0:12}
  else
    fetch BETA9_AGENT_IMAGE "$image"
  fi
  [[ ! -e $opt/releases/$id ]] || return 0
  ensure docker docker.io
  if [[ -e $work/file ]]; then
    image=$(timeout 900 docker load -qi "$work/file") && image=${image##*: }
  else
    auth=$(setting BETA9_REGISTRY_AUTH_FILE)
    [[ -z $auth ]] || install -D "$auth" "$work/docker/config.json"
    docker_proxy
    DOCKER_CONFIG=$work/docker again timeout 900 docker pull -q "$image" >/dev/null
  fi || fail "Docker cannot get $(shown "$1")" 'check BETA9_AGENT_IMAGE and BETA9_REGISTRY_AUTH_FILE'
  container=$(docker create "$image") && docker cp "$container:/opt/beta9-worker/." "$work/tree" && docker rm "$container" >/dev/null
}

# Docker's daemon pulls. Give it the proxy until the next boot; the installer does so for good.
docker_proxy() {
  local dir=$root/run/systemd/system/docker.service.d
  if [[ -z ${http_proxy:-}${https_proxy:-} || -n $(docker info -f '{{.HTTPProxy}}{{.HTTPSProxy}}'; docker ps -q) ]]; then return 0; fi
  mkdir -p "$dir"
  env | grep -E '^(HTTPS?|NO)_PROXY=' >"$dir/proxy.env"
  printf '[Service]\nEnvironmentFile=%s\n' "$dir/proxy.env" >"$dir/beta9-proxy.conf"
  systemctl daemon-reload && systemctl restart docker
}

main() {
  local env=$etc/worker.env source image
  trap on_exit EXIT
  if [[ -e $env || -L $env ]]; then
    chmod 0700 "$etc"
    read_settings "$env" BETA9_SETTINGS || fail "$SETTINGS_PROBLEM" "correct it, and run $0 again"
  fi
  use_proxy
  source=$(setting BETA9_SOURCE) image=$(setting BETA9_AGENT_IMAGE)
  mkdir -p "$opt/releases"
  work=$(mktemp -d "$opt/.boot.XXXXXX")
  mkdir "$work/tree"
  if [[ -n $source ]]; then
    fetch BETA9_SOURCE "$source"
    [[ ! -e $work/file ]] || tar -xzf "$work/file" -C "$work/tree" --strip-components=1 --no-same-owner
  elif [[ -n $image ]]; then
    from_image "$image"
  else
    fail 'no bootstrap to run' "set BETA9_SOURCE or BETA9_AGENT_IMAGE in $env"
  fi
  if [[ ! -e $opt/releases/$id ]]; then
    [[ -f $work/tree/bootstrap/install.sh ]] || fail 'the download has no bootstrap/install.sh' 'use a release'
    mv -T "$work/tree" "$opt/releases/$id"
  fi
  ln -s "releases/$id" "$work/current"
  mv -T "$work/current" "$opt/current"
  rm -rf "$work"
  say "starting bootstrap $id"
  exec bash "$opt/current/bootstrap/install.sh" --env-file "$env"
}

main "$@"
