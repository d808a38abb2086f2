#!/bin/sh
# Stands in for k3s' installation script: creates the unit and the uninstaller in the configured directories.
set -eu
[ "$INSTALL_K3S_SKIP_DOWNLOAD" = true ]
[ "$INSTALL_K3S_SKIP_START" = true ]
echo run >>"$STUB_STATE/k3s-install.calls"
echo "[Service]" >"$INSTALL_K3S_SYSTEMD_DIR/k3s.service"
cat >"$INSTALL_K3S_BIN_DIR/k3s-uninstall.sh" <<EOT
#!/bin/sh
systemctl stop k3s
rm -rf "$INSTALL_K3S_SYSTEMD_DIR/../../rancher/k3s"
rm -f "$INSTALL_K3S_SYSTEMD_DIR/k3s.service" "$INSTALL_K3S_BIN_DIR/k3s-uninstall.sh" "$INSTALL_K3S_BIN_DIR/k3s"
EOT
chmod +x "$INSTALL_K3S_BIN_DIR/k3s-uninstall.sh"
