#!/usr/bin/env bash
# `publish --node` against real nodes' own web applications, over the recorded chain.
#
#   nodes.sh   installs each node's packages into target/nodes/NAME, once, from the registry that pip
#              is configured with, and runs the tests of tests/it/following_nodes.rs against it
#
# Nothing of it is installed on this machine, and no code of a node is part of this project. A node
# that cannot be had is no failure: it is named as skipped. A test that fails is, after the other node
# had its turn.

set -euo pipefail
cd "$(dirname "$0")/.."

readonly NODES=$PWD/target/nodes
skipped=() failed=()

# The interpreter of that version, wherever it is.
python_of() {
    local python
    for python in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1."*/bin/python; do
        if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    return 1
}

# What is not there as a whole is made anew.
install() {
    local name=$1 python=$2 pins=tests/nodes/$1.txt
    if cmp -s "$pins" "$NODES/$name/installed"; then return; fi
    echo "installing $name below target/ (once)"
    rm -rf "${NODES:?}/$name"
    mkdir -p "$NODES"
    # The pins are all there is: what these old packages want of each other cannot all be had.
    "$python" -m venv "$NODES/$name" &&
        "$NODES/$name/bin/pip" install -qq --no-deps -r "$pins" &&
        cp "$pins" "$NODES/$name/installed"
}

skip() {
    skipped+=("skipped: $1: $2")
    echo "${skipped[-1]}"
}

try() {
    local name=$1 version=$2 python
    if ! python=$(python_of "$version"); then
        skip "$name" "no Python $version here, with its venv"
    elif ! install "$name" "$python"; then
        skip "$name" "pip could not install it; what it said stands above"
    else
        echo "testing against $name's own web application"
        BLOCKCAST_TEST_NODES=$NODES cargo test --locked --test it -- "following_nodes::${name}_" ||
            failed+=("$name")
    fi
}

# The last Python that each of them is made for.
try bigchaindb 3.8
try planetmint 3.9

# Again, where it is not overlooked.
if [ ${#skipped[@]} -gt 0 ]; then printf '%s\n' "${skipped[@]}"; fi
if [ ${#failed[@]} -gt 0 ]; then
    echo "tests failed against: ${failed[*]}" >&2
    exit 1
fi
