#!/usr/bin/env bash
# dev.d/bench-transcode.sh [FILE]: the default ladder by headwater, whole and in chunks, and by one ffmpeg command with the
# same sizes, presets, caps and key frames, in turn, ROUNDS times (3), of which the quickest counts; then each rendition's PSNR
# against the source, and what the bar says at half of the time. HEADWATER names a built binary.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=setup.sh
source "$root/dev.d/setup.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

need ffmpeg ffmpeg
need jq jq
install_missing
headwater=${HEADWATER:-$(target_dir)/release/headwater}
[[ -x $headwater ]] || die "there is no $headwater; build it or name one with HEADWATER"

# Moving detail with grain, so that encoders have to work.
film=${1:-}
if [[ -z $film ]]; then
  film=$work/film.mp4
  ffmpeg -v error -f lavfi -i "testsrc2=s=1280x720:r=25:d=${SECONDS_OF_FILM:-40},noise=alls=6:allf=t" -f lavfi \
    -i "sine=f=440:r=48000:d=${SECONDS_OF_FILM:-40}" -c:v libx264 -preset veryfast -crf 16 -pix_fmt yuv420p -c:a aac -shortest \
    "$film"
fi

# timed NAME COMMAND…: the fewest seconds so far in hundredths, in a variable of that name; of processor time in NAME_cpu, which
# say more where others are at work too.
timed() {
  local name=$1 wall user system
  shift
  TIMEFORMAT='%2R %2U %2S'
  { time "$@" >"$work/$name.log" 2>&1; } 2>"$work/$name.time" || { cat "$work/$name.log" >&2; die "$name failed"; }
  read -r wall user system <"$work/$name.time"
  local cpu="${name}_cpu"
  least "$name" "$((10#${wall/./}))"
  least "$cpu" "$((10#${user/./} + 10#${system/./}))"
}

# least NAME VALUE: keeps the smaller of a variable's value, if it has one, and another.
least() {
  local known=${!1:-$2}
  printf -v "$1" '%d' "$((known < $2 ? known : $2))"
}

by_headwater() {
  "$headwater" transcode "$film" --output "$1" --device cpu --no-thumbnails "${@:2}"
}

# The renditions that headwater chose, for ffmpeg: name, width, height, preset, quality, cap.
renditions() {
  jq -r '.video[] | "\(.file) \(.rendition.width) \(.rendition.height) \(.rendition.preset) \(.rendition.quality) \(.rendition.bitrate_kbps)"' \
    "$work"/whole/*/report.json
}

by_ffmpeg() {
  local count=0 graph='' outputs=() file width height preset quality cap
  while read -r file width height preset quality cap; do
    graph+="[s$count]scale=$width:$height:flags=lanczos[v$count];"
    outputs+=(-map "[v$count]" -c:v libx264 -preset "$preset" -crf "$quality" -maxrate "${cap}k" -bufsize "${cap}k"
      -force_key_frames 'expr:gte(t,n_forced*2)' -g 100000 -keyint_min 50000 -an -f mp4 "$work/ffmpeg-$file")
    count=$((count + 1))
  done < <(renditions)
  local splits
  splits=$(for ((i = 0; i < count; i++)); do printf '[s%d]' "$i"; done)
  ffmpeg -v error -nostdin -y -i "$film" -filter_complex "[0:v]split=$count$splits;${graph%;}" "${outputs[@]}" \
    -map '0:a?' -c:a aac -b:a 160k -f mp4 "$work/ffmpeg-audio.mp4"
}

# said_at_half COMMAND…: what its bar says on a terminal when half of its time is over.
said_at_half() {
  python3 - "$@" <<'PY'
import os
import pty
import re
import sys
import time

# What is read goes to standard output, too, where it is not wanted.
result = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
begun, said, rest = time.monotonic(), [(0.0, 0.0)], b""


def read(descriptor):
    global rest
    data = os.read(descriptor, 65536)
    *lines, rest = (rest + data).split(b"\n")
    for line in lines:
        found = re.search(rb"([0-9.]+) %", line)
        if found:
            said.append((time.monotonic() - begun, float(found[1])))
    return data


status = os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:], read))
took = time.monotonic() - begun
if status != 0 or len(said) < 3:
    sys.exit(f"no bar: {sys.argv[1:]} left with {status}")
print(f"{[percent for at, percent in said if at <= took / 2][-1]:.0f} % after half of {took:.1f} s", file=result)
PY
}

# Against the source in its own size: how a picture is made small belongs to its quality, and programs differ in it.
psnr() {
  ffmpeg -v info -nostdin -i "$1" -i "$film" -lavfi "[0:v][1:v]scale2ref=flags=bicubic[a][b];[a][b]psnr" -f null - 2>&1 |
    sed -n 's/.*average:\([0-9.]*\).*/\1/p'
}

for ((round = 0; round < ${ROUNDS:-3}; round++)); do
  rm -rf "$work/whole" "$work/chunks"
  timed whole by_headwater "$work/whole" --workers 1 --chunk 3600
  timed ffmpeg by_ffmpeg
  timed chunks by_headwater "$work/chunks" --chunk 10
done
seconds() { printf '%d.%02d' $(($1 / 100)) $(($1 % 100)); }
row() { say "$(printf '%-22s %8s s, %8s s of processors' "$1" "$(seconds "$2")" "$(seconds "$3")")"; }
# shellcheck disable=SC2154 # timed sets them
{
  row 'headwater, whole' "$whole" "$whole_cpu"
  row 'headwater, in chunks' "$chunks" "$chunks_cpu"
  row ffmpeg "$ffmpeg" "$ffmpeg_cpu"
  say "speed against ffmpeg   $((ffmpeg * 100 / whole)) % whole, $((ffmpeg * 100 / chunks)) % in chunks"
  say "by processor time      $((ffmpeg_cpu * 100 / whole_cpu)) % whole, $((ffmpeg_cpu * 100 / chunks_cpu)) % in chunks"
}
say "the bar, whole        $(said_at_half "$headwater" transcode "$film" --output "$work/bar-whole" --device cpu --no-thumbnails --workers 1 --chunk 3600)"
say "the bar, in chunks    $(said_at_half "$headwater" transcode "$film" --output "$work/bar-chunks" --device cpu --no-thumbnails --chunk 10)"
while read -r file width height _ _ _; do
  for made in "$work"/whole/*/"$file" "$work"/chunks/*/"$file" "$work/ffmpeg-$file"; do
    printf '%-10s %5dx%-5d %9d bytes  PSNR %s dB\n' "$(basename "$(dirname "$(dirname "$made")")")" "$width" "$height" \
      "$(stat --format %s "$made")" "$(psnr "$made")"
  done
done < <(renditions)
