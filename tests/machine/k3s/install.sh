#!/bin/sh
# Stands in for k3s's installation script where that cannot be downloaded: it takes the same variables, installs the same
# files (unit, its environment file, links, killall and uninstall scripts), and restarts under the same conditions.
# Limited to what a bootstrap with its own binary uses: INSTALL_K3S_SKIP_DOWNLOAD=true is required.
set -eu

BIN=${INSTALL_K3S_BIN_DIR:-/usr/local/bin}
UNITS=${INSTALL_K3S_SYSTEMD_DIR:-/etc/systemd/system}
UNIT=$UNITS/k3s.service

main() {
    if [ "${INSTALL_K3S_SKIP_DOWNLOAD:-}" != true ] || [ ! -x "$BIN/k3s" ]; then
        echo "[ERROR] this stand-in downloads nothing: INSTALL_K3S_SKIP_DOWNLOAD=true and $BIN/k3s are needed" >&2
        exit 1
    fi
    # As in the real script, flags alone mean "server".
    case "${INSTALL_K3S_EXEC:-}" in
    '' | -*) command="server ${INSTALL_K3S_EXEC:-}" ;;
    *) command=$INSTALL_K3S_EXEC ;;
    esac
    [ $# -eq 0 ] || command="$command $*"
    before=$(state)
    for name in kubectl crictl ctr; do
        if [ "${INSTALL_K3S_SYMLINK:-}" != skip ] && ! command -v "$name" >/dev/null 2>&1; then
            ln -s k3s "$BIN/$name"
        fi
    done
    write_scripts
    write_unit
    [ "${INSTALL_K3S_SKIP_ENABLE:-}" != true ] || return 0
    systemctl enable --quiet "$UNIT"
    systemctl daemon-reload
    [ "${INSTALL_K3S_SKIP_START:-}" != true ] || return 0
    if [ "$before" = "$(state)" ] && [ "${INSTALL_K3S_FORCE_RESTART:-}" != true ]; then
        echo '[INFO]  No change detected so skipping service start'
        return 0
    fi
    systemctl restart k3s
}

state() {
    sha256sum "$BIN/k3s" "$UNIT" "$UNIT.env" 2>/dev/null || true
}

write_unit() {
    touch "$UNIT.env"
    chmod 0600 "$UNIT.env"
    env | grep '^K3S_' >"$UNIT.env" || true
    cat >"$UNIT" <<EOT
[Unit]
Description=Lightweight Kubernetes (a stand-in)
Wants=network-online.target
After=network-online.target

[Install]
WantedBy=multi-user.target

[Service]
Type=notify
NotifyAccess=all
EnvironmentFile=-/etc/default/%N
EnvironmentFile=-/etc/sysconfig/%N
EnvironmentFile=-$UNIT.env
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s
ExecStart=$BIN/k3s $command
EOT
}

write_scripts() {
    cat >"$BIN/k3s-killall.sh" <<EOT
#!/bin/sh
systemctl stop k3s.service
EOT
    cat >"$BIN/k3s-uninstall.sh" <<EOT
#!/bin/sh
$BIN/k3s-killall.sh
systemctl disable k3s
rm -f $UNIT $UNIT.env
systemctl daemon-reload
systemctl reset-failed k3s
for name in kubectl crictl ctr; do
    if [ -L $BIN/\$name ]; then rm -f $BIN/\$name; fi
done
rm -rf /etc/rancher/k3s /run/k3s /run/flannel /var/lib/rancher/k3s /var/lib/kubelet
rm -f $BIN/k3s $BIN/k3s-killall.sh $BIN/k3s-uninstall.sh
EOT
    chmod 0755 "$BIN/k3s-killall.sh" "$BIN/k3s-uninstall.sh"
}

main "$@"
