#!/bin/bash
# Builds a program against the client alone, and looks at what it depends on: none of the service's
# crates may be among it.
#
# Its lock has the service's versions. When what the client depends on has changed:
#   cp Cargo.lock tests/client/ && cargo tree --manifest-path tests/client/Cargo.toml
set -euo pipefail
cd "$(dirname "$0")/.."

SERVICE=(lapin amq-protocol tikv-jemallocator prometheus config clap hyper hyper-util indicatif
    jsonwebtoken toml tracing-subscriber)
CLIENT=(blockcast rustls tokio tokio-tungstenite)

# The names of all crates that are built into a package for this machine.
crates() {
    cargo tree --locked --edges normal,build --prefix none --format '{p}' --manifest-path "$1" |
        cut -d ' ' -f 1 | sort -u
}

cargo check --locked --manifest-path tests/client/Cargo.toml --target-dir target

client=$(crates tests/client/Cargo.toml)
service=$(crates Cargo.toml)
for crate in "${CLIENT[@]}"; do
    grep -qx "$crate" <<<"$client" || { echo "the client's tree has no $crate" >&2; exit 1; }
done
for crate in "${SERVICE[@]}"; do
    # Else a crate that the service gave up, or that was misspelt, would be looked for in vain.
    grep -qx "$crate" <<<"$service" || { echo "the service's tree has no $crate" >&2; exit 1; }
    if grep -qx "$crate" <<<"$client"; then
        echo "the client depends on $crate, which is the service's" >&2
        exit 1
    fi
done
echo "the client alone: $(wc -l <<<"$client") crates, the service: $(wc -l <<<"$service")"
