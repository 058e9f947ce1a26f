#!/usr/bin/env bash
# dev.d/play-ladders.sh [MEDIA]: makes a ladder of every file below MEDIA (../shared/media) that is playable, and plays each in
# hls.js, shaka-player and dash.js, with a forced switch from rung to rung. HEADWATER names a built binary; ladders are kept in
# LADDERS where it names a folder, and what lies there is not made again; JSON names a file for the results. Leaves with 1 if
# anything failed.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=setup.sh
source "$root/dev.d/setup.sh"
# shellcheck source=origin.sh
source "$root/dev.d/origin.sh"
# shellcheck source=fetch.sh
source "$root/dev.d/fetch.sh"

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

# No file of a few seconds takes as long.
transcode_limit_s=900

need curl curl ca-certificates
need jq jq
need npm nodejs npm
need chromium chromium
need_gstreamer
install_missing
HEADWATER_MEDIA=${1:-${HEADWATER_MEDIA:-}}
find_media || die "$no_media"
media=$HEADWATER_MEDIA
headwater=${HEADWATER:-$(target_dir)/release/headwater}
[[ -x $headwater ]] || die "there is no $headwater; build it or name one with HEADWATER"
work=$(mktemp -d)
npm_install "$root/tests/players" && use_node "$work"
library=${LADDERS:-$work/library}
mkdir -p "$library" "$work/player"

# A source between two steps keeps its own height, so that almost all get two rungs or more. What they look like is not judged.
cat >"$work/headwater.toml" <<'TOML'
[transcode.ladders.steps]
step = [
  { height = 1080, bitrate_kbps = 4000, preset = "ultrafast" },
  { height = 720, bitrate_kbps = 2000, preset = "ultrafast" },
  { height = 360, bitrate_kbps = 700, preset = "ultrafast" },
  { height = 180, bitrate_kbps = 300, preset = "ultrafast" },
  { height = 90, bitrate_kbps = 150, preset = "ultrafast" },
  { height = 64, bitrate_kbps = 100, preset = "ultrafast" },
]
TOML

# transcode FILE FOLDER [ARGUMENT…]: a ladder in a folder of its own, because stems are not unique; the reason is in $work/log
# where there is none.
transcode() {
  local file=$1 folder=$2 status=0
  shift 2
  if compgen -G "$folder/*/report.json" >/dev/null; then
    return
  fi
  timeout --verbose --kill-after=20 "$transcode_limit_s" "$headwater" transcode "$file" --output "$folder" \
    --config "$work/headwater.toml" --ladder steps --device cpu --no-thumbnails "$@" >"$work/log" 2>&1 </dev/null || status=$?
  # Nothing of what could not be made is to be played.
  ((status == 0)) || rm -rf "$folder"
  return "$status"
}

declare -A playable=()
while read -r path; do
  playable[$path]=1
done < <("$headwater" library "$media" --cache "$work/cache" --json | jq -r 'select(.playable).path')

made=0 broken=0 refused=() unserved=0
while read -r name; do
  status=0
  transcode "$media/$name" "$library/$name" || status=$?
  if ((status == 0)); then
    made=$((made + 1))
    # What Chromium has no decoder for is made once more in the coding that it has one for.
    if jq -e 'any(.video[]; .rendition.codec != "avc")' "$library/$name"/*/report.json >/dev/null; then
      transcode "$media/$name" "$library/as-avc/$name" --codec avc || { cat "$work/log" >&2; broken=$((broken + 1)); }
    fi
    continue
  fi
  mark=' '
  if [[ -n ${playable[$name]:-} ]]; then
    mark='*' unserved=$((unserved + 1))
  fi
  if ((status != 1)); then
    mark='!' broken=$((broken + 1))
  fi
  reason=$(tail -n 1 "$work/log")
  refused+=("$(printf '%s %-60s %s' "$mark" "$name" "${reason#"headwater: $media/$name: "}")")
done < <(cd "$media" && find . -type f -printf '%P\n' | sort)

printf '\nno ladder of (* although the origin serves the file itself; ! ended with another status than 1):\n'
printf '%s\n' "${refused[@]}"
printf '\n%d ladders made, %d files refused, %d of them served by the origin as they are; %d ended badly; in %d min\n' "$made" \
  "${#refused[@]}" "$unserved" "$broken" "$((SECONDS / 60))"

start_origin "$headwater" "$library" "$work/player" "$work/origin.log"
"$headwater" library "$library" --json >"$work/titles"
status=0
node "$root/tests/players/run.mjs" ladders --base "$origin_base" --titles "$work/titles" ${JSON:+--json "$JSON"} || status=$?
((broken == 0)) || status=1
exit "$status"
