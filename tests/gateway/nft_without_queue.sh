#!/usr/bin/env bash
# nft on a kernel that has no queue statement for it: everything goes to the real nft but that one rule, for which
# iptables' queue stands in, one step earlier at the same hook.
set -Eeuo pipefail

REAL=$(PATH=${PATH#*:} command -v nft)
MACHINES=(-i lo -d 127.64.0.0/10 -p tcp --syn -m mark --mark 0)

main() {
    case $1 in
    --check) cat >/dev/null ;;
    -f)
        local rules queue
        rules=$(cat)
        sed -e '/queue flags bypass/d' -e 's/hook prerouting priority mangle/& + 1/' <<<"$rules" | "$REAL" -f -
        queue=$(sed -n 's/.*queue flags bypass to \([0-9]*\).*/\1/p' <<<"$rules")
        iptables -w -t mangle -F PREROUTING
        [[ -z $queue ]] || stand_in "$queue"
        ;;
    list)
        local listing
        listing=$("$REAL" "$@")
        printf '%s\n' "$listing"
        # The rule that iptables has.
        grep -om1 'comment ".*"' <<<"$listing"
        ;;
    esac
}

stand_in() {
    iptables -w -t mangle -A PREROUTING "${MACHINES[@]}" -m socket -j ACCEPT
    iptables -w -t mangle -A PREROUTING "${MACHINES[@]}" --dport 1080 -j ACCEPT
    iptables -w -t mangle -A PREROUTING "${MACHINES[@]}" -j NFQUEUE --queue-num "$1" --queue-bypass
}

main "$@"
