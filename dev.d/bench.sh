#!/usr/bin/env bash
# ./dev bench: the criterion benchmarks; arguments go to cargo bench.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=setup.sh
source "$root/dev.d/setup.sh"

install_missing_and_rust
cd "$root"
exec cargo bench --workspace "$@"
