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

# Longest that one of the stages after the tests may take.
stage_limit_s=${HEADWATER_STAGE_LIMIT_S:-2400}
work=
lanes=()
passed=0
skipped=()
failed=()
# What was not looked at, and which stage says so.
gaps=()
running="set-up"

finish() {
  local lane
  for lane in "${lanes[@]}"; do
    # What a lane runs first, so that it begins nothing more.
    kill -STOP "$lane" 2>/dev/null || continue
    pkill -TERM --parent "$lane" || true
    kill -KILL "$lane" || true
  done
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

# count NAME STATUS SECONDS: keeps count of a stage that has ended. Each line of $work/NAME.gaps says what it did not look at.
count() {
  local lines=() more=
  if [[ -n $work && -s $work/$1.gaps ]]; then
    mapfile -t lines <"$work/$1.gaps"
    lines=("${lines[@]#"$1: "}")
    gaps+=("$1: ${lines[-1]}")
    more="; not looked at: ${#lines[@]}"
  fi
  if ((${#lines[@]} > 1)); then
    gaps+=("$1: and $((${#lines[@]} - 1)) more, see there")
  fi
  # A program may end with that status for reasons of its own, but says no such line.
  if (($2 == skip_status && ${#lines[@]} > 0)); then
    skipped+=("$1")
    printf -- '-- %s: %s\n' "$1" "${lines[-1]}"
  elif (($2 == 0)); then
    passed=$((passed + 1))
    printf -- '-- %s: passed in %d s%s\n' "$1" "$3" "$more"
  else
    failed+=("$1")
    printf -- '-- %s: FAILED with status %d after %d s%s\n' "$1" "$2" "$3" "$more"
  fi
}

# stage NAME COMMAND…: runs the command under a heading; keeps count.
stage() {
  local name=$1 status=0 begun=$SECONDS
  shift
  running=$name
  printf '\n== %s (at %d s)\n' "$name" "$SECONDS"
  "$@" || status=$?
  count "$name" "$status" $((SECONDS - begun))
  return "$status"
}

# lane PORT NICENESS STAGE…: runs those of the stages that no other lane has taken, one after the other, and prints each as it
# ends. Their origins have ports from PORT.
lane() {
  local name begun status
  export HEADWATER_FIRST_PORT=$1
  renice --priority "$2" --pid "$BASHPID" >/dev/null
  shift 2
  for name; do
    mkdir "$work/$name.taken" 2>/dev/null || continue
    begun=$SECONDS status=0
    check "$name" >"$work/$name.log" 2>&1 || status=$?
    grep -aE 'SKIPPED|NOT SHOWN|NOT JUDGED' "$work/$name.log" >"$work/$name.gaps" || true
    {
      flock 9
      printf '\n== %s (began at %d s)\n' "$name" "$begun"
      cat "$work/$name.log"
      echo "$status $((SECONDS - begun))" >"$work/$name.ended"
      count "$name" "$status" $((SECONDS - begun))
    } 9>"$work/printing"
  done
}

# begin PORT NICENESS STAGE…: starts a lane, which `join` waits for.
begin() {
  lane "$@" &
  lanes+=($!)
}

# join STAGE…: waits for the lanes and counts their stages; one that has not ended has failed.
join() {
  local name status took
  running="lanes"
  wait "${lanes[@]}" || true
  lanes=()
  for name; do
    status=1 took=0
    if [[ -f $work/$name.ended ]]; then
      read -r status took <"$work/$name.ended"
    fi
    count "$name" "$status" "$took" >/dev/null
  done
}

# Ticks that the processors have spent, and those that other guests of the machine had (proc_stat(5)).
processors() {
  awk '/^cpu / { print $2 + $3 + $4 + $5 + $6 + $7 + $8 + $9, $9 }' /proc/stat
}

# names_of NAME…: prints the names, in brackets; nothing for none.
names_of() {
  local names
  if (($# > 0)); then
    printf -v names '%s, ' "$@"
    printf ' (%s)' "${names%, }"
  fi
}

# Prints the closing lines and ends with the whole's status.
close() {
  running=
  if ((${#gaps[@]} > 0)); then
    printf '\nNOT EVERYTHING WAS LOOKED AT:\n'
    printf '  %s\n' "${gaps[@]}"
  fi
  printf '\ntook %d s; other guests of the machine had %s %% of its processors\n' "$SECONDS" \
    "$(awk '{ printf "%.0f", 100 * ($4 - $2) / ($3 - $1 + 1) }' <<<"$begun_with $(processors)")"
  printf 'stages: %d passed, %d skipped%s, %d failed%s\n' "$passed" \
    "${#skipped[@]}" "$(names_of "${skipped[@]}")" "${#failed[@]}" "$(names_of "${failed[@]}")"
  exit $((${#failed[@]} > 0))
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
  within_limit node "$root/tests/players/run.mjs" "$@" --base "$BASE" --media "$MEDIA"
}

within_limit() {
  timeout --verbose --kill-after=20 "$stage_limit_s" "$@"
}

# Fuzz targets are a workspace of their own, which nothing else here builds.
lints() {
  cargo clippy --locked --workspace --all-targets -- -D warnings &&
    # What may be left out can be.
    cargo clippy --locked -p headwater --no-default-features -- -D warnings &&
    cargo clippy --locked -p origin --no-default-features -- -D warnings &&
    CARGO_TARGET_DIR=$target cargo clippy --locked --manifest-path packager/fuzz/Cargo.toml -- -D warnings
}

format() {
  cargo fmt --all --check && cargo fmt --manifest-path packager/fuzz/Cargo.toml --check
}

# check NAME: one of the stages after the tests.
check() {
  case $1 in
    lints) lints ;;
    players) players ;;
    page) players page ;;
    *) within_limit "$root/tests/e2e.d/$1" ;;
  esac
}

# What computes, beside what plays and waits; what holds a clock against the origin runs alone. Other checks do too.
computing=(lints oracle protection thumbnails transcode)
playing=(players page firefox protected control schemathesis)
alone=()
for path in "$root"/tests/e2e.d/*; do
  name=$(basename "$path")
  if [[ -f $path && -x $path && " ${computing[*]} ${playing[*]} " != *" $name "* ]]; then
    alone+=("$name")
  fi
done

begun_with=$(processors)
set_up
# Whatever runs below finds it in the environment, tests included.
has_media=true
find_media || has_media=false
cd "$root"
target=$(target_dir)

stage "format" format || true
# The binary that the stages below run is built along with the tests: a release build of its own would take as long as
# half of them. Without it nothing can run.
stage "build" cargo test --locked --workspace --no-run || close
work=$(mktemp -d "$target/test.XXXXXX")
# Tests try it on real files alone. Those that lack it say so; the stage that can not do without fails later.
if $has_media; then
  find_shaka_packager "$target" || true
fi
stage "cargo test" "$root/dev.d/tests.py" "$work/cargo test.gaps" || true

export HEADWATER=$target/debug/headwater LIBRARY=$work/library BASE MEDIA
stage "origin" serve_test_film || close

begin 8200 10 "${computing[@]}"
# Whoever has played everything helps from the other end.
begin 8300 0 "${playing[@]}" transcode thumbnails protection
join "${computing[@]}" "${playing[@]}"
begin 8400 0 "${alone[@]}"
join "${alone[@]}"

close
