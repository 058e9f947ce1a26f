#!/usr/bin/env bash
# ./dev bench: the criterion benchmarks (arguments go to cargo bench), the ciphers against OpenSSL's, then the first
# manifest of a long film, then the same segments from headwater and from nginx, then TLS that the kernel seals, then what a
# control API can do.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=setup.sh
source "$root/dev.d/setup.sh"

need_gstreamer
install_missing_and_rust
cd "$root"
cargo bench -p headwater --bench packaging -- "$@"
cargo bench -p headwater --bench encryption -- "$@"
"$root/dev.d/bench-ciphers.sh"
"$root/dev.d/cold.sh"
"$root/dev.d/bench-http.sh"
"$root/dev.d/ktls.sh"
"$root/dev.d/bench-control.sh"
