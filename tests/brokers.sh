#!/usr/bin/env bash
# The integration tests again, on the RabbitMQ of Debian releases newer than this machine's.
#
#   brokers.sh SUITE...   unpacks each suite's rabbitmq-server into target/brokers/SUITE, once, from
#                         the mirror that apt is configured with, and runs the tests on it
#
# Nothing of it is installed on this machine. A release that cannot be had is no failure: it is
# named as skipped. A test that fails on one is, after the others had their turn. At the end it says
# which versions it tested on.

set -euo pipefail
cd "$(dirname "$0")/.."

readonly ROOTS=target/brokers
# Rooms that are left to this machine's broker. Those of the first line use none. Those of the others
# are about requests and answers, and their replicas need a broker only to become ready.
readonly ELSEWHERE=(
    commands::check:: following_a_stream:: rfc6455::
    access:: limits:: bounded_memory:: forwarded_headers:: tls::
    plain_requests:: proxy_protocol:: server_sent_events:: compression:: sessions::
    faults::mean_clients:: faults::trickling_clients::
)

# What all releases need. Says what is missing, if anything is.
missing() {
    if [ "$(id -u)" -ne 0 ]; then
        echo "it takes root"
    elif ! command -v mmdebstrap >/dev/null; then
        echo "no mmdebstrap"
    elif ! unshare --mount true 2>/dev/null; then
        echo "no mount namespaces here"
    elif [ -z "$mirror" ]; then
        echo "no Debian mirror in apt's configuration"
    fi
}

# Where apt gets Debian's own packages: all suites stand there side by side. It is known as such
# only when apt has fetched its lists.
mirror() {
    known_mirror | grep . || { apt-get -q update >&2 && known_mirror; } || true
}

known_mirror() {
    apt-get indextargets --format '$(LABEL)|$(REPO_URI)' 'Created-By: Packages' |
        sed -n '/^Debian|/{s///p;q}'
}

# A root is there as a whole or not at all. In a mount namespace of its own: should this be killed,
# what was mounted into the root is gone, too. Signatures are checked, but a mirror may lag behind
# the date that testing's are good until: what is a month old is good enough to test with.
unpack() {
    local suite=$1 new=$ROOTS/$1.new
    if [ -e "$ROOTS/$suite" ]; then return; fi
    mkdir -p "$ROOTS"
    rm -rf --one-file-system "$new"
    echo "unpacking rabbitmq-server of $suite (once)"
    unshare --mount mmdebstrap --variant=minbase --include=rabbitmq-server \
        --aptopt='Acquire::Check-Valid-Until "false"' "$suite" "$new" "$mirror" || return
    # Not every release makes one, and Erlang looks for its own node's name.
    echo '127.0.0.1 localhost' >"$new/etc/hosts"
    mv "$new" "$ROOTS/$suite"
}

run_tests() {
    local skip=() words
    for words in "${ELSEWHERE[@]}"; do skip+=(--skip "$words"); done
    BLOCKCAST_TEST_BROKER_ROOT=$ROOTS/$1 cargo test --locked --test it -- "${skip[@]}" |
        tee "$ROOTS/$1.log"
}

# What the tests that failed had to say, which stands far above by now.
failures() {
    sed -n '/^failures:$/,/^test result/p' "$ROOTS/$1.log" | sed -n 1,60p
}

# Of the release that was unpacked.
version() {
    dpkg-query --admindir="$ROOTS/$1/var/lib/dpkg" --show \
        --showformat='${source:Upstream-Version}' rabbitmq-server
}

mirror=$(mirror) tested=() skipped=() failed=()

skip() {
    skipped+=("skipped: RabbitMQ of $1: $2")
    echo "${skipped[-1]}"
}

for suite in "$@"; do
    reason=$(missing)
    if [ -n "$reason" ]; then
        skip "$suite" "$reason"
    elif ! unpack "$suite"; then
        skip "$suite" "mmdebstrap could not unpack it; what it said stands above"
    else
        echo "testing on the RabbitMQ of $suite"
        run_tests "$suite" || failed+=("$suite")
        tested+=("$(version "$suite") ($suite)")
    fi
done

# Where it is not overlooked.
if [ ${#tested[@]} -gt 0 ]; then
    printf -v versions '%s, ' "${tested[@]}"
    echo "tested on RabbitMQ ${versions%, }"
fi
if [ ${#skipped[@]} -gt 0 ]; then printf '%s\n' "${skipped[@]}"; fi
if [ ${#failed[@]} -gt 0 ]; then
    for suite in "${failed[@]}"; do failures "$suite"; done
    echo "tests failed on the RabbitMQ of: ${failed[*]}" >&2
    exit 1
fi
