#!/usr/bin/env bash
# RabbitMQ for the demo and the tests, on Debian and Ubuntu.
#
#   rabbitmq.sh install   installs rabbitmq-server if it is missing; its own service is neither
#                         started nor enabled
#   rabbitmq.sh install-promtool | install-haproxy | install-faketime
#                         the same for Prometheus, whose promtool the tests use, for HAProxy,
#                         behind which they put replicas, and for libfaketime, with which they set
#                         a replica's clock
#   rabbitmq.sh install-nchan | install-mmdebstrap
#                         the same for nginx with nchan, which the benchmarks set beside Blockcast,
#                         and for mmdebstrap, with which tests get other releases' RabbitMQ
#   rabbitmq.sh run DIR   runs a private broker, on loopback only, until SIGTERM or SIGINT; all its
#                         files are in DIR, and DIR/uri says where it is as soon as it answers
#
# None touches a broker that runs on this machine, nor any file below /etc/rabbitmq.

set -euo pipefail

# The real script: the one in /usr/sbin insists on the system's own user and directories.
readonly SERVER=/usr/lib/rabbitmq/bin/rabbitmq-server
readonly HAPROXY=/usr/sbin/haproxy
# In a directory that is named for the machine's kind.
readonly FAKETIME='/usr/lib/*/faketime/libfaketimeMT.so.1'
readonly NCHAN=/usr/lib/nginx/modules/ngx_nchan_module.so
readonly POLICY=/usr/sbin/policy-rc.d
# What the broker prints when it has booted: its port is open a moment before its queues are there.
readonly BOOTED='completed with'
# A cold start takes 8 s on two cores.
readonly START_SECONDS=120
readonly STOP_SECONDS=20

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -- "$@"; fi
}

# ---------------------------------------------------------------- install

install() {
    if [ -x "$SERVER" ]; then return; fi
    if ! command -v apt-get >/dev/null; then
        fail "RabbitMQ is missing, and without apt-get it cannot be installed from here." \
            "Install rabbitmq-server (3.9 or newer) so that $SERVER exists, or use a broker that" \
            "runs elsewhere:  BLOCKCAST_AMQP__URIS=amqp://user:password@host:5672/%2f make run"
    fi
    # What comes with it now, its own service and Erlang's, was not wanted before.
    local units=(rabbitmq-server.service)
    if ! dpkg-query -W -f '${Status}' erlang-base 2>/dev/null | grep -q 'ok installed'; then
        units+=(epmd.service epmd.socket)
    fi
    install_package rabbitmq-server "${units[@]}"
    [ -x "$SERVER" ] || fail "rabbitmq-server is installed, but $SERVER is missing."
}

install_promtool() {
    if command -v promtool >/dev/null; then return; fi
    if ! command -v apt-get >/dev/null; then
        fail "promtool is missing: the tests check the metrics with it. It comes with Prometheus."
    fi
    install_package prometheus prometheus.service
}

install_haproxy() {
    if [ -x "$HAPROXY" ]; then return; fi
    if ! command -v apt-get >/dev/null; then
        fail "HAProxy is missing: the tests put replicas behind it, as $HAPROXY."
    fi
    install_package haproxy haproxy.service
}

install_faketime() {
    if compgen -G "$FAKETIME" >/dev/null; then return; fi
    if ! command -v apt-get >/dev/null; then
        fail "libfaketime is missing: the tests set a replica's clock with it, as $FAKETIME."
    fi
    install_package libfaketime
}

install_nchan() {
    if [ -x /usr/sbin/nginx ] && [ -e "$NCHAN" ]; then return; fi
    if ! command -v apt-get >/dev/null; then
        fail "nchan is missing, and without apt-get it cannot be installed from here."
    fi
    install_package libnginx-mod-nchan nginx.service
    [ -e "$NCHAN" ] || fail "libnginx-mod-nchan is installed, but $NCHAN is missing."
}

install_mmdebstrap() {
    if command -v mmdebstrap >/dev/null; then return; fi
    if ! command -v apt-get >/dev/null; then
        fail "mmdebstrap is missing, and without apt-get it cannot be installed from here."
    fi
    install_package mmdebstrap
}

# Installs a package; the units that come with it, named behind it if there are any, stay off.
install_package() {
    local package=$1
    shift
    if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
        fail "$package is missing, and installing it takes root: run this once as root," \
            "  apt-get install --no-install-recommends $package" \
            "or install sudo."
    fi
    echo "installing $package from the distribution (once)"
    if ! as_root apt-get -q update; then
        echo "apt-get update failed; going on with the package lists that are here" >&2
    fi
    forbid_services
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600 \
        install --no-install-recommends "$package" ||
        fail "apt-get could not install $package; what it said stands above."
    allow_services
    trap - EXIT INT TERM HUP
    disable "$@"
}

# Keeps packages from starting services while they are installed: what Debian's policy says a
# machine may do with this file. One that is there already is left alone.
forbid_services() {
    if [ -e "$POLICY" ]; then return; fi
    trap allow_services EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\n# made by blockcast while it installs a package\nexit 101\n' |
        as_root sh -c "cat >$POLICY && chmod 755 $POLICY"
}

allow_services() {
    if grep -qs 'made by blockcast' "$POLICY"; then as_root rm -f "$POLICY"; fi
}

disable() {
    if [ $# -eq 0 ]; then return; fi
    if command -v systemctl >/dev/null; then
        as_root systemctl --quiet disable "$@" 2>/dev/null || true
    elif command -v update-rc.d >/dev/null; then
        as_root update-rc.d "${1%.service}" disable >/dev/null 2>&1 || true
    fi
}

# -------------------------------------------------------------------- run

run() {
    [ -x "$SERVER" ] || fail "$SERVER is missing; run: $0 install"
    mkdir -p "$1"
    dir=$(cd "$1" && pwd)
    broker_pid='' epmd_pid=''
    # Held until this shell ends; the broker must not inherit it.
    exec 9>"$dir/lock"
    flock -n 9 || fail "another private broker runs on $dir"
    end_left_over
    rm -f "$dir/uri"
    mkdir -p "$dir/home" "$dir/log" "$dir/data"
    echo '[].' >"$dir/enabled_plugins"
    : >"$dir/environment"
    : >"$dir/rabbitmq.conf"
    trap stop EXIT
    trap 'exit 0' INT TERM HUP
    start
    wait_for_boot
    printf 'amqp://guest:guest@127.0.0.1:%s/%%2f\n' "$port" >"$dir/uri.new"
    mv "$dir/uri.new" "$dir/uri"
    wait "$broker_pid" || true
    broker_pid=''
    fail "the broker ended by itself; its log: $dir/log/"
}

start() {
    local epmd_port dist_port
    port=$(free_port)
    epmd_port=$(free_port)
    dist_port=$(free_port)
    export HOME=$dir/home
    export ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=$epmd_port
    export ERL_CRASH_DUMP=$dir/log/erl_crash.dump
    export RABBITMQ_NODENAME=blockcast@localhost
    export RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT=$port
    export RABBITMQ_DIST_PORT=$dist_port
    export RABBITMQ_CONF_ENV_FILE=$dir/environment
    export RABBITMQ_CONFIG_FILE=$dir/rabbitmq.conf
    export RABBITMQ_ENABLED_PLUGINS_FILE=$dir/enabled_plugins
    export RABBITMQ_LOG_BASE=$dir/log RABBITMQ_MNESIA_BASE=$dir/data
    export RABBITMQ_SCHEMA_DIR=$dir/data/schema
    # Erlang's own ports on loopback; epmd is started here, so that it can be ended here; no
    # spinning while there is nothing to do.
    export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} \
-start_epmd false +sbwt none +sbwtdcpu none +sbwtdio none"
    # Sessions of their own: Ctrl-C is for this script, which ends them in order. Should it be killed
    # outright, they get SIGTERM.
    setpriv --pdeathsig TERM setsid epmd -address 127.0.0.1 -port "$epmd_port" >"$dir/log/epmd" 2>&1 9>&- &
    epmd_pid=$!
    setpriv --pdeathsig TERM setsid "$SERVER" >"$dir/log/console" 2>&1 </dev/null 9>&- &
    broker_pid=$!
}

wait_for_boot() {
    local deadline=$((SECONDS + START_SECONDS))
    until grep -qs "$BOOTED" "$dir/log/console" && is_open "$port"; do
        if ! kill -0 "$broker_pid" 2>/dev/null; then
            tail -n 20 "$dir/log/console" >&2 || true
            fail "the broker did not start; its log: $dir/log/"
        fi
        if [ "$SECONDS" -ge "$deadline" ]; then
            fail "the broker took more than $START_SECONDS s to start; its log: $dir/log/"
        fi
        pause
    done
}

stop() {
    trap '' INT TERM HUP
    rm -f "$dir/uri"
    end "$broker_pid"
    end "$epmd_pid"
}

# Ends a process, and the group that it leads: asks first, and then makes sure.
end() {
    [ -n "$1" ] || return 0
    local deadline=$((SECONDS + STOP_SECONDS))
    kill -TERM "$1" 2>/dev/null || true
    while is_running "$1" && [ "$SECONDS" -lt "$deadline" ]; do pause; done
    kill -KILL "$1" 2>/dev/null || true
    kill -KILL -- "-$1" 2>/dev/null || true
}

# What a run that was killed outright left behind would share its data with the next broker. The
# lock tells that nobody looks after it any more.
end_left_over() {
    local place
    for place in /proc/[0-9]*; do
        if grep -zqsx "RABBITMQ_MNESIA_BASE=$dir/data" "$place/environ"; then
            end "${place#/proc/}"
        fi
    done
}

# A zombie is not running: its parent may be slow to look, or never do.
is_running() {
    [ -e "/proc/$1/stat" ] && ! grep -qs ') Z ' "/proc/$1/stat"
}

is_open() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# Below the range that the kernel hands out for outgoing connections.
free_port() {
    local candidate
    while :; do
        candidate=$((20000 + RANDOM % 10000))
        if ! is_open "$candidate"; then
            echo "$candidate"
            return
        fi
    done
}

# In the background, so that a signal is taken at once.
pause() {
    sleep 0.2 9>&- &
    wait $! || true
}

case ${1:-} in
    install) install ;;
    install-promtool) install_promtool ;;
    install-haproxy) install_haproxy ;;
    install-faketime) install_faketime ;;
    install-nchan) install_nchan ;;
    install-mmdebstrap) install_mmdebstrap ;;
    run) run "${2:?the directory for its files}" ;;
    *) fail "usage: rabbitmq.sh install | install-promtool | install-haproxy | install-faketime | \
install-nchan | install-mmdebstrap | run DIR" ;;
esac
