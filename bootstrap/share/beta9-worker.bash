# Completion of beta9-worker for bash. Made by `beta9-worker completion bash`; do not edit.
_beta9_worker() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command='' each
    # bash splits --option=value into three words.
    if [[ $word == = ]]; then word=''; elif [[ $before == = ]]; then before=${COMP_WORDS[COMP_CWORD - 2]}; fi
    for each in "${COMP_WORDS[@]:1:COMP_CWORD - 1}"; do
        case $each in
            run | user-data | push-secrets | boot-report | authorize | relay | demo | doctor | install | leave | simulate-interruption | health | status | completion) command=$each; break ;;
            -*) command=run; break ;;
        esac
    done
    COMPREPLY=()
    case "${command:-run} $before" in
        'run --token' | 'run --pool-name' | 'run --machine-id' | 'run --provider-name' | 'run --gateway-host' | 'run --gateway-port' | 'run --hostname' | 'run --tailscale-url' | 'run --tailscale-auth' | 'run --k3s-token' | 'run --keepalive-interval' | 'user-data --token' | 'user-data --pool-name' | 'user-data --machine-id' | 'user-data --provider-name' | 'user-data --gateway-host' | 'user-data --gateway-port' | 'user-data --hostname' | 'user-data --tailscale-url' | 'user-data --tailscale-auth' | 'user-data --k3s-token' | 'user-data --keepalive-interval' | 'push-secrets --port' | 'push-secrets --fingerprint' | 'push-secrets --wait' | 'authorize --machine-id' | 'authorize --target' | 'authorize --forward' | 'relay --user' | 'relay --port' | 'relay --queue' | 'relay --target' | 'relay --pods-dial' | 'relay --pods-from' | 'relay --names' | 'relay --names-address' | 'relay --names-for-pods' | 'relay --metrics' | 'doctor --token' | 'doctor --pool-name' | 'doctor --machine-id' | 'doctor --provider-name' | 'doctor --gateway-host' | 'doctor --gateway-port' | 'doctor --hostname' | 'doctor --tailscale-url' | 'doctor --tailscale-auth' | 'doctor --k3s-token' | 'doctor --keepalive-interval' | 'doctor --outbound' | 'simulate-interruption --in' | 'health --address' | 'status --every' | 'status --address') :; return ;;
        'run --env-file' | 'user-data --check' | 'user-data --env-file' | 'push-secrets --identity' | 'push-secrets --known-hosts' | 'push-secrets --token-file' | 'push-secrets --ssh-key-file' | 'push-secrets --tailscale-auth-file' | 'push-secrets --env-file' | 'boot-report --file' | 'doctor --env-file' | 'install --env-file') compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
        'user-data --cloud') mapfile -t COMPREPLY < <(compgen -W 'aws crusoe lambda generic' -- "$word"); return ;;
        'user-data --format') mapfile -t COMPREPLY < <(compgen -W 'cloud-config script gzip base64' -- "$word"); return ;;
        'user-data --set') compopt -o nospace; mapfile -t COMPREPLY < <(compgen -W 'BETA9_TOKEN= BETA9_POOL_NAME= BETA9_MACHINE_ID= BETA9_PROVIDER_NAME= BETA9_GATEWAY_HOST= BETA9_GATEWAY_PORT= BETA9_CONNECTION= BETA9_SSH_HOST= BETA9_SSH_PORT= BETA9_SSH_USER= BETA9_SSH_JUMP= BETA9_SSH_KEY= BETA9_SSH_KNOWN_HOSTS= BETA9_SSH_HOST_KEY_FINGERPRINT= BETA9_SSH_TARGET= BETA9_SSH_FORWARDS= BETA9_REVERSE_BIND= BETA9_REVERSE= BETA9_HAIRPIN= BETA9_HOSTNAME= BETA9_TAILSCALE_URL= BETA9_TAILSCALE_AUTH= BETA9_TAILSCALE_SOCKET= BETA9_K3S= BETA9_KUBECONFIG= BETA9_K3S_TOKEN= BETA9_K3S_API= BETA9_KEEPALIVE_INTERVAL= BETA9_EXPECTED_GPUS= BETA9_RESERVE_CPU= BETA9_RESERVE_MEMORY= BETA9_INTERRUPTION= BETA9_REBALANCE= BETA9_AWS_LAUNCH_HOOK= BETA9_AWS_TERMINATION_HOOK= BETA9_METADATA_ENDPOINT= BETA9_DRAIN_TIMEOUT= BETA9_STATE_DIR= BETA9_STATUS_ADDR= BETA9_LOG_FORMAT= BETA9_LOG_LEVEL= BETA9_TUNING= BETA9_TOKEN_FILE= BETA9_SSH_KEY_FILE= BETA9_SSH_KNOWN_HOSTS_FILE= BETA9_TAILSCALE_AUTH_FILE= BETA9_K3S_TOKEN_FILE= BETA9_SOURCE= BETA9_AGENT_IMAGE= BETA9_BASE_IMAGE= BETA9_FILES_DIR= BETA9_ON_FAILURE= BETA9_REGISTRY_AUTH_FILE= BETA9_REGISTRIES_FILE= BETA9_SECRETS_TIMEOUT= BETA9_HOST_KEY_NONCE= BETA9_K3S_ALLOW_FROM= BETA9_K3S_CLUSTER_CIDR= BETA9_K3S_SERVICE_CIDR= BETA9_REQUIRE_PINS= BETA9_OWN_DRIVER= BETA9_GPU_TIMEOUT= BETA9_MIG_STRATEGY= BETA9_K3S_VERSION= BETA9_K3S_URL= BETA9_K3S_SHA256= BETA9_K3S_SUMS_URL= BETA9_K3S_INSTALL_URL= BETA9_K3S_INSTALL_SHA256= BETA9_K3S_IMAGES_URL= BETA9_K3S_IMAGES_SHA256= BETA9_TOOLKIT_VERSION= BETA9_TOOLKIT_REPOSITORY= BETA9_TOOLKIT_KEY_URL= BETA9_TOOLKIT_KEY_FINGERPRINT= BETA9_NVIDIA_BRANCH= BETA9_NVIDIA_DEBIAN_BRANCH= BETA9_NVIDIA_REPOSITORY= BETA9_NVIDIA_KEY_FINGERPRINT= BETA9_DEVICE_PLUGIN_IMAGE= BETA9_TAILSCALE_REPOSITORY= BETA9_TAILSCALE_KEY_URL= BETA9_TAILSCALE_KEY_FINGERPRINT= BETA9_TAILSCALE_VERSION= BETA9_MIN_FREE_MIB= BETA9_SCRATCH_DISK= BETA9_DEADLINE_SCALE= BETA9_PIP_INDEX_URL= BETA9_PIP_EXTRA_INDEX_URL= BETA9_PIP_TRUSTED_HOST= http_proxy= HTTP_PROXY= https_proxy= HTTPS_PROXY= no_proxy= NO_PROXY=' -- "$word"); return ;;
        'push-secrets --directory' | 'install --host' | 'leave --state-dir' | 'simulate-interruption --state-dir') compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
        'relay --packet-filter') mapfile -t COMPREPLY < <(compgen -W 'nft iptables' -- "$word"); return ;;
        'simulate-interruption --kind') mapfile -t COMPREPLY < <(compgen -W 'terminate rebalance' -- "$word"); return ;;
    esac
    local words=''
    case $command in
        '') words='run user-data push-secrets boot-report authorize relay demo doctor install leave simulate-interruption health status completion -h --help --version --token --pool-name --machine-id --provider-name --gateway-host --gateway-port --hostname --tailscale-url --tailscale-auth --k3s-token --keepalive-interval --env-file --debug --once --dry-run --rejoin' ;;
        run) words='-h --help --token --pool-name --machine-id --provider-name --gateway-host --gateway-port --hostname --tailscale-url --tailscale-auth --k3s-token --keepalive-interval --env-file --debug --once --dry-run --rejoin' ;;
        user-data) words='-h --help --cloud --format --allow-plain-secrets --check --set --env-file --token --pool-name --machine-id --provider-name --gateway-host --gateway-port --hostname --tailscale-url --tailscale-auth --k3s-token --keepalive-interval' ;;
        push-secrets) words='-h --help --port --identity --known-hosts --fingerprint --token-file --ssh-key-file --tailscale-auth-file --env-file --wait --directory' ;;
        boot-report) words='-h --help --json --file' ;;
        authorize) words='-h --help --machine-id --pool-key --target --forward --cert-authority' ;;
        relay) words='-h --help --dry-run --apply --remove --check --user --port --queue --target --packet-filter --pods-dial --pods-from --names --names-address --names-for-pods --metrics' ;;
        demo) words='-h --help --once' ;;
        doctor) words='-h --help --token --pool-name --machine-id --provider-name --gateway-host --gateway-port --hostname --tailscale-url --tailscale-auth --k3s-token --keepalive-interval --env-file --debug --once --dry-run --json --outbound' ;;
        install) words='-h --help --env-file --dry-run --host' ;;
        leave) words='-h --help --when-idle --state-dir' ;;
        simulate-interruption) words='-h --help --in --kind --state-dir' ;;
        health) words='-h --help --ready --address' ;;
        status) words='-h --help --json --watch --every --address' ;;
        completion) words='-h --help' ;;
    esac
    if [[ $word != -* ]]; then
        case $command in
            push-secrets) :; return ;;
            authorize) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
            completion) mapfile -t COMPREPLY < <(compgen -W 'bash zsh' -- "$word"); return ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _beta9_worker beta9-worker
