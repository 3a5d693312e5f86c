# shellcheck shell=bash
# What `docker/up`, `docker/down` and `docker/local/build` share. Sourced, not run.

info() { printf 'airflow-entrypoint: info: %s\n' "$*" >&2; }
warn() { printf 'airflow-entrypoint: warning: %s\n' "$*" >&2; }

# fail MESSAGE HINT [STATUS]
fail() {
    printf 'airflow-entrypoint: error: %s\nairflow-entrypoint: hint: %s\n' "$1" "$2" >&2
    exit "${3:-1}"
}

# logged COMMAND...: shows the end of what a command says only if it fails.
logged() {
    local log status=0
    log=$(mktemp)
    "$@" >"$log" 2>&1 || status=$?
    [ "$status" = 0 ] || tail -n 30 "$log" >&2
    rm -f "$log"
    return "$status"
}

# aside COMMAND...: runs a command beside what follows. `await` waits for all of them, and fails if one has failed. Each is a
# process group of its own, which ends with this script: a shell's background commands do not hear Ctrl-C.
asides=()
aside() {
    trap 'kill -- "${asides[@]/#/-}" 2>/dev/null || true' EXIT
    set -m
    "$@" &
    set +m
    asides+=("$!")
}

await() {
    local job status=0
    for job in "${asides[@]}"; do wait "$job" || status=$?; done
    asides=()
    trap - EXIT
    return "$status"
}

need_docker() {
    local said
    [ -n "$(type -P docker)" ] ||
        fail 'cannot find `docker` on PATH' 'install Docker, https://docs.docker.com/engine/install/' 127
    said=$(docker version --format '{{.Server.Version}}' 2>&1) ||
        fail "cannot reach the Docker engine: ${said##*$'\n'}" \
            'start the engine, or run this as a user who may use it (root, or one in the group `docker`)' 69
}

# Sets the array COMPOSE to Compose v2 where it is installed, to docker-compose 1.x otherwise.
# shellcheck disable=SC2034 # used by who sources this
need_compose() {
    if docker compose version >/dev/null 2>&1; then
        COMPOSE=(docker compose)
    elif [ -n "$(type -P docker-compose)" ]; then
        COMPOSE=(docker-compose)
    else
        fail 'cannot find `docker compose` nor `docker-compose`' \
            'install one, https://docs.docker.com/compose/install/ (on Debian 12: `apt-get install docker-compose`)' 127
    fi
}
