#!/usr/bin/env bash
# ./dev test: every stage of the check, in order; one failing stage fails the whole.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=setup.sh
source "$root/dev.d/setup.sh"
# shellcheck source=origin.sh
source "$root/dev.d/origin.sh"
# shellcheck source=fetch.sh
source "$root/dev.d/fetch.sh"

work=
passed=0
failed=()
running="set-up"

finish() {
  if [[ -n $running ]]; then
    printf '\nstages: %d passed, stopped in: %s\n' "$passed" "$running"
  fi
  stop_origin
  if [[ -n $work ]]; then
    rm -rf "$work"
  fi
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# stage NAME COMMAND…: runs the command under a heading; keeps count.
stage() {
  local name=$1 status=0 begun=$SECONDS
  shift
  running=$name
  printf '\n== %s (at %d s)\n' "$name" "$SECONDS"
  "$@" || status=$?
  if ((status == 0)); then
    passed=$((passed + 1))
    printf -- '-- %s: passed in %d s\n' "$name" $((SECONDS - begun))
  else
    failed+=("$name")
    printf -- '-- %s: FAILED with status %d after %d s\n' "$name" "$status" $((SECONDS - begun))
  fi
  return "$status"
}

# Prints the closing line and ends with the whole's status.
close() {
  local names
  running=
  printf '\n'
  if ((${#failed[@]} == 0)); then
    printf 'stages: %d passed, 0 failed\n' "$passed"
    exit 0
  fi
  printf -v names '%s, ' "${failed[@]}"
  printf 'stages: %d passed, %d failed: %s\n' "$passed" "${#failed[@]}" "${names%, }"
  exit 1
}

set_up() {
  need curl curl ca-certificates
  need jq jq
  need npm nodejs npm
  need ffmpeg ffmpeg
  need chromium chromium
  wish firefox-esr firefox-esr
  need xmllint libxml2-utils
  need python3 python3
  need_file /usr/share/fonts/truetype/dejavu/DejaVuSansMono-Bold.ttf fonts-dejavu-core
  need_gstreamer
  need_postgres
  install_missing_and_rust
  need_component fmt rustfmt
  need_component clippy clippy
}

# Starts an origin on the test film; what is served and where is in LIBRARY, BASE and MEDIA.
serve_test_film() {
  local film
  film=$(test_film "$target") && assemble_player "$target" && mkdir "$LIBRARY" || return
  cp --recursive --reflink=auto "$film" "$LIBRARY/"
  # A ladder folder carries thumbnails as a stored presentation does.
  "$HEADWATER" import "$film" --output "$work/stored" &&
    mv "$work"/stored/*/thumbnails "$LIBRARY/headwater-test-film/" || return
  start_origin "$HEADWATER" "$LIBRARY" "$target/player" "$work/origin.log" || return
  BASE=$origin_base
  MEDIA=$("$HEADWATER" library "$LIBRARY" --json | jq -r 'select(.playable).id')
  [[ -n $MEDIA ]] || die "the test film is not playable: $("$HEADWATER" library "$LIBRARY" --json)"
}

# players MODE…: the matrix of players and forms, or the mode named.
players() {
  npm_install "$root/tests/players" && use_node "$target" || return
  node "$root/tests/players/run.mjs" "$@" --base "$BASE" --media "$MEDIA"
}

set_up
cd "$root"
target=$(target_dir)

stage "format" cargo fmt --all --check || true
stage "lints" cargo clippy --locked --workspace --all-targets -- -D warnings || true
# The binary that the stages below run is built along with the tests: a release build of its own would take as long as
# half of them. Without it nothing can run.
stage "build" cargo test --locked --workspace --no-run || close
stage "cargo test" "$root/dev.d/tests.py" || true

work=$(mktemp -d "$target/test.XXXXXX")
export HEADWATER=$target/debug/headwater LIBRARY=$work/library BASE MEDIA
stage "origin" serve_test_film || close

stage "players" players || true
stage "page" players page || true
for check in "$root"/tests/e2e.d/*; do
  if [[ -f $check && -x $check ]]; then
    stage "$(basename "$check")" "$check" || true
  fi
done

close
