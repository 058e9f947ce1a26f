#!/usr/bin/env bash
# ./dev soak [SECONDS]: a long mixed run under load, and every abuse probe at full length. 1,800 s unless told otherwise.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=setup.sh
source "$root/dev.d/setup.sh"
# shellcheck source=origin.sh
source "$root/dev.d/origin.sh"
# shellcheck source=fetch.sh
source "$root/dev.d/fetch.sh"

seconds=${1:-1800}
if [[ ! $seconds =~ ^[0-9]+$ ]] || ((seconds < 30)); then
  echo "usage: ./dev soak [SECONDS], 30 at least" >&2
  exit 2
fi

work=
finish() {
  stop_origin
  if [[ -n $work ]]; then
    rm -rf "$work"
  fi
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

need curl curl ca-certificates
need jq jq
need ffmpeg ffmpeg
need_gstreamer
install_missing_and_rust
cd "$root"
target=$(target_dir)
cargo build --locked --release -p headwater -p load-tests
headwater=$target/release/headwater

work=$(mktemp -d "$target/soak.XXXXXX")
mkdir "$work/library" "$work/player"
film=$(test_film "$target")
cp --recursive --reflink=auto "$film" "$work/library/"
# Patience as in headwater.toml, except that the abuse comes from one address.
printf '[origin]\n[origin.limits]\nconnections_per_client_max = 0\n' >"$work/headwater.toml"
start_origin "$headwater" "$work/library" "$work/player" "$work/origin.log" --config "$work/headwater.toml"
media=$("$headwater" library "$work/library" --json | jq -r 'select(.playable).id')
address=${origin_base#http://}

status=0
say "Soak: $seconds s"
"$target/release/load-tests" soak --address "$address" --media "$media" --pid "$origin_pid" --seconds "$seconds" ||
  status=1

# Each of seven probes lasts longer than the origin's longest patience, or a twentieth of the whole.
probe=$((seconds / 20))
if ((probe > 45)); then
  probe=45
fi
say "Abuse: seven probes of $probe s"
"$target/release/load-tests" abuse --address "$address" --media "$media" --pid "$origin_pid" --seconds "$probe" \
  --ended-s-max 40 || status=1

curl --silent --noproxy '*' "$origin_base/metrics" | grep -E '^headwater_origin_(requests|ended|accepted|overload)' || true
if grep -i panic "$work/origin.log"; then
  status=1
fi
exit "$status"
