#!/usr/bin/env bash
# Measures the first manifest of a two-hour 1080p30 progressive film that an origin has never seen: time of the first
# request, and how much of the file was read for it; as the first film of a process, and as a later one; and the first
# segment behind it; and the first manifest of it in a later process. Called by ./dev bench.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=setup.sh
source "$root/dev.d/setup.sh"
# shellcheck source=origin.sh
source "$root/dev.d/origin.sh"

need curl curl ca-certificates
need ffmpeg ffmpeg
need_gstreamer
install_missing_and_rust
cd "$root"
cargo build --release -p headwater
target=$(target_dir)
folder=$target/bench
film=$folder/library/two-hours.mp4
mkdir -p "$folder/library" "$folder/player"
trap stop_origin EXIT

if [[ ! -s $film ]]; then
  echo "making a two-hour film (a minute, repeated)" >&2
  ffmpeg -v error -y -f lavfi -i "testsrc2=size=1920x1080:rate=30:duration=60" \
    -f lavfi -i "sine=frequency=440:sample_rate=48000:duration=60" \
    -c:v libx264 -preset ultrafast -b:v 600k -g 60 -bf 2 -c:a aac -shortest "$folder/minute.mp4"
  ffmpeg -v error -y -stream_loop 119 -i "$folder/minute.mp4" -c copy "$folder/two-hours.part.mp4"
  mv "$folder/two-hours.part.mp4" "$film"
fi
cat "$film" >/dev/null

get() {
  curl --silent --fail --noproxy '*' "$origin_base$1"
}

# Microseconds of processor time of all threads.
processor_us() {
  cat "/proc/$origin_pid"/task/*/schedstat | awk '{ sum += $1 } END { printf "%d", sum / 1e3 }'
}

# median_ms MICROSECONDS…
median_ms() {
  printf '%s\n' "$@" | sort -n | awk '{ value[NR] = $1 } END { printf "%.1f", value[int((NR + 1) / 2)] / 1000 }'
}

rm -rf "$folder/library/.headwater-cache"
media=$("$target/release/headwater" library "$folder/library" --json | sed -n 's/.*"hls":"\([^"]*\)".*/\1/p')
times=()
busy_us=()
for _ in 1 2 3 4 5; do
  start_origin "$target/release/headwater" "$folder/library" "$folder/player" "$folder/origin.log"
  busy=$(processor_us)
  before=$(sed -n 's/^rchar: //p' "/proc/$origin_pid/io")
  times+=("$(curl --silent --noproxy '*' --output /dev/null --write-out '%{time_total}' "$origin_base$media")")
  after=$(sed -n 's/^rchar: //p' "/proc/$origin_pid/io")
  busy_us+=($(($(processor_us) - busy)))
  again=$(curl --silent --noproxy '*' --output /dev/null --write-out '%{time_total}' "$origin_base$media")
  resident=$(sed -n 's/^VmRSS:[[:space:]]*//p' "/proc/$origin_pid/status")
  stop_origin
done
# The same film under more names: each is opened for itself.
several=$folder/several
rm -rf "$several"
mkdir -p "$several"
for number in 1 2 3 4 5 6 7; do
  ln "$film" "$several/$number.mp4"
done
later_us=()
segment_us=()
start_origin "$target/release/headwater" "$several" "$folder/player" "$folder/origin.log"
while read -r media; do
  busy=$(processor_us)
  get "$media" >/dev/null
  later_us+=($(($(processor_us) - busy)))
  # What lies behind it: names are relative to what they stand in, or absolute.
  for _ in playlist segment; do
    name=$(get "$media" | awk '!/^#/ && !found { print; found = 1 }')
    case $name in /*) media=$name ;; *) media=${media%/*}/$name ;; esac
  done
  busy=$(processor_us)
  get "$media" >/dev/null
  segment_us+=($(($(processor_us) - busy)))
done < <("$target/release/headwater" library "$several" --json | grep -o '"hls":"[^"]*"' | cut -d '"' -f 4)
deadline=$((SECONDS + 60))
until [[ $(find "$several/.headwater-cache" -mindepth 1 -maxdepth 1 -not -name '.*' | wc -l) == 7 ]]; do
  ((SECONDS < deadline)) || die "what was found in the films is not kept"
  sleep 0.1
done
stop_origin
kept_us=()
start_origin "$target/release/headwater" "$several" "$folder/player" "$folder/origin.log"
while read -r media; do
  busy=$(processor_us)
  kept_before=$(sed -n 's/^rchar: //p' "/proc/$origin_pid/io")
  get "$media" >/dev/null
  kept_after=$(sed -n 's/^rchar: //p' "/proc/$origin_pid/io")
  kept_us+=($(($(processor_us) - busy)))
done < <("$target/release/headwater" library "$several" --json | grep -o '"hls":"[^"]*"' | cut -d '"' -f 4)
stop_origin
rm -rf "$several"
moov=$(python3 - "$film" <<'PY'
import struct, sys
with open(sys.argv[1], "rb") as film:
    film.seek(0, 2)
    end, at = film.tell(), 0
    while at < end:
        film.seek(at)
        size, kind = struct.unpack(">I4s", film.read(8))
        if size == 1:
            size = struct.unpack(">Q", film.read(8))[0]
        if kind == b"moov":
            print(size)
        at += size or end - at
PY
)
printf 'first manifest of a 2 h film, index cold, page cache warm: %s s\n' "$(printf '%s\n' "${times[@]}" | sort | sed -n 3p)"
printf 'processor time of it: %s ms\n' "$(median_ms "${busy_us[@]}")"
printf 'bytes read for it: %d, moov: %d\n' $((after - before)) "$moov"
printf 'the same again: %s s; resident: %s\n' "$again" "$resident"
printf 'processor time of a later film of the same process: %s ms\n' \
  "$(median_ms "${later_us[@]:1}")"
printf 'processor time of its first segment: %s ms\n' "$(median_ms "${segment_us[@]:1}")"
printf 'processor time of its first manifest after a restart: %s ms; bytes read: %d\n' "$(median_ms "${kept_us[@]:1}")" \
  $((kept_after - kept_before))
