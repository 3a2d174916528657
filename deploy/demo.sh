#!/usr/bin/env bash
# The demo behind `make run`: a private RabbitMQ, Blockcast on loopback, the real chain published at
# about a block a second, and its events scrolling by. Ctrl-C ends all of it.
#
#   LISTEN                 where to serve, 127.0.0.1:9985 by default
#   BLOCKCAST_AMQP__URIS   a broker to use instead of a private one
#
# Everything it writes is below target/; the broker's data stays there for the next run.

set -euo pipefail
cd "$(dirname "$0")/.."

readonly LISTEN=${LISTEN:-127.0.0.1:9985}
readonly DEMO=${CARGO_TARGET_DIR:-target}/demo
readonly BLOCKCAST=${CARGO_TARGET_DIR:-target}/release/blockcast
readonly BROKER_SECONDS=150
readonly READY_SECONDS=60
readonly STOP_SECONDS=30

tail_pid='' publish_pid='' serve_pid='' broker_pid=''
began=$SECONDS

main() {
    parse_listen
    check_machine
    mkdir -p "$DEMO"
    exec 9>"$DEMO/lock"
    flock -n 9 || fail "Another \`make run\` of this directory is running. Its logs: $DEMO/"
    if [ -z "${BLOCKCAST_AMQP__URIS:-}" ]; then deploy/rabbitmq.sh install; fi
    echo "building (a few minutes the first time)"
    cargo build --release --locked --quiet 9>&-

    trap stop EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
    # A closed terminal must not keep us from ending what was started.
    trap '' PIPE
    began=$SECONDS
    start_broker
    start_serve
    start_publish
    tell
    in_background "$BLOCKCAST" tail "ws://$address/api/v1/streams/valid_transactions"
    tail_pid=$started
    watch
}

# What can be seen to be wrong before anything is installed or built.
check_machine() {
    if ! command -v cargo >/dev/null; then
        fail "cargo is missing: install a Rust toolchain (https://rustup.rs)." \
            "If you have one and used sudo, run make without it; it asks for sudo itself."
    fi
    if is_open; then
        fail "Port $port of $host is taken, perhaps by another Blockcast or a BigchainDB node." \
            "Stop that, or serve elsewhere:  make run LISTEN=127.0.0.1:9986" \
            "(outside of make that is the key server.listen, or --listen)"
    fi
}

parse_listen() {
    host=${LISTEN%:*} port=${LISTEN##*:}
    if [ "$host" = "$LISTEN" ] || ! [[ $port =~ ^[0-9]+$ ]] || [ "$port" -gt 65535 ] ||
        [ "$port" -eq 0 ]; then
        fail "LISTEN is $LISTEN; write an address and a port, such as LISTEN=127.0.0.1:9986"
    fi
    # Where to reach it from here, when it listens on every address.
    case $host in
        0.0.0.0) host=127.0.0.1 ;;
        '[::]') host=::1 ;;
        \[*) host=${host:1:-1} ;;
    esac
    case $host in
        *:*) address="[$host]:$port" ;;
        *) address=$host:$port ;;
    esac
}

# ------------------------------------------------------------------ starting

start_broker() {
    if [ -n "${BLOCKCAST_AMQP__URIS:-}" ]; then
        echo "using the broker of BLOCKCAST_AMQP__URIS"
        return
    fi
    rm -f "$DEMO/broker/uri"
    in_background deploy/rabbitmq.sh run "$DEMO/broker" >"$DEMO/broker.log" 2>&1
    broker_pid=$started
    await "the broker" "$broker_pid" "$DEMO/broker.log" "$BROKER_SECONDS" test -s "$DEMO/broker/uri"
    BLOCKCAST_AMQP__URIS=$(cat "$DEMO/broker/uri")
    export BLOCKCAST_AMQP__URIS
}

start_serve() {
    # Nobody needs a long good-bye from a demo.
    export BLOCKCAST_SERVER__DRAIN_DELAY=${BLOCKCAST_SERVER__DRAIN_DELAY:-0s}
    export BLOCKCAST_SERVER__DRAIN=${BLOCKCAST_SERVER__DRAIN:-1s}
    : >"$DEMO/serve.log"
    in_background "$BLOCKCAST" --listen "$LISTEN" --set log.format=text serve 2> >(keep_and_warn)
    serve_pid=$started
    await Blockcast "$serve_pid" "$DEMO/serve.log" "$READY_SECONDS" is_ready
}

start_publish() {
    in_background "$BLOCKCAST" publish --loop --rate 1 tests/data/chain.ndjson \
        >"$DEMO/publish.log" 2>&1
    publish_pid=$started
}

# Runs a command in a session of its own (Ctrl-C is for this script, which ends all in order) and
# leaves its pid in `started`. Should this script be killed outright, the command gets SIGTERM.
in_background() {
    setpriv --pdeathsig TERM setsid "$@" </dev/null 9>&- &
    started=$!
}

# All of the log into the file, warnings and errors onto the terminal as well.
keep_and_warn() {
    trap '' INT TERM HUP
    exec 9>&-
    local line
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$DEMO/serve.log"
        case $line in *WARN* | *ERROR*) printf '%s\n' "$line" >&2 || true ;; esac
    done
}

# await NAME PID LOG SECONDS COMMAND...: until the command succeeds.
await() {
    local name=$1 pid=$2 log=$3 seconds=$4 deadline=$((SECONDS + $4)) shown=$SECONDS
    shift 4
    echo "starting $name"
    until "$@"; do
        if ! is_running "$pid"; then
            tail -n 20 "$log" >&2
            fail "$name ended at once; its log: $log"
        fi
        if [ "$SECONDS" -ge "$deadline" ]; then
            tail -n 20 "$log" >&2
            fail "$name is not ready after $seconds s; its log: $log"
        fi
        if [ $((SECONDS - shown)) -ge 5 ]; then
            shown=$SECONDS
            echo "  waiting for $name"
        fi
        pause
    done
}

tell() {
    cat <<TOLD

Blockcast serves the streams of BigchainDB's event API ($((SECONDS - began)) s to start).

  API root        http://$address/
  transactions    ws://$address/api/v1/streams/valid_transactions
  blocks          ws://$address/api/v1/streams/valid_blocks

In another terminal:

  $BLOCKCAST tail ws://$address/api/v1/streams/valid_blocks
  curl http://$address/api/v1/status
  curl http://$address/metrics

Logs are in $DEMO/. Ctrl-C ends everything. The transactions of a block a second:

TOLD
}

# Until something ends that should not have.
watch() {
    while :; do
        if ! is_running "$tail_pid"; then return; fi
        if ! is_running "$serve_pid"; then
            fail "Blockcast ended; its log: $DEMO/serve.log"
        fi
        if ! is_running "$publish_pid"; then
            tail -n 5 "$DEMO/publish.log" >&2
            fail "the publisher ended; its log: $DEMO/publish.log"
        fi
        if [ -n "$broker_pid" ] && ! is_running "$broker_pid"; then
            tail -n 5 "$DEMO/broker.log" >&2
            fail "the broker ended; its log: $DEMO/broker.log"
        fi
        pause
    done
}

# ------------------------------------------------------------------- stopping

stop() {
    trap '' INT TERM HUP
    echo "stopping" >&2 || true
    end "$tail_pid"
    end "$publish_pid"
    end "$serve_pid"
    end "$broker_pid"
}

end() {
    [ -n "$1" ] || return 0
    local deadline=$((SECONDS + STOP_SECONDS))
    kill -TERM "$1" 2>/dev/null || true
    while is_running "$1" && [ "$SECONDS" -lt "$deadline" ]; do pause; done
    kill -KILL -- "-$1" 2>/dev/null || true
}

# A zombie is not running.
is_running() {
    [ -e "/proc/$1/stat" ] && ! grep -qs ') Z ' "/proc/$1/stat"
}

is_open() {
    (exec 3<>"/dev/tcp/$host/$port") 2>/dev/null
}

# Without curl, which a fresh machine may lack.
is_ready() {
    (
        exec 3<>"/dev/tcp/$host/$port"
        printf 'GET /health/ready HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$address" >&3
        read -r -t 5 status <&3
        [[ $status == *" 200 "* ]]
    ) 2>/dev/null
}

# In the background, so that a signal is taken at once.
pause() {
    sleep 0.2 9>&- &
    wait $! || true
}

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

main
