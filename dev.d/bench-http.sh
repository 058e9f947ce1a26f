#!/usr/bin/env bash
# Serves the same CMAF segments from headwater and from nginx, in turn, and writes what each costs to BENCHMARKS.md.
# Called by ./dev bench; alone: dev.d/bench-http.sh [ROUNDS] [SECONDS]. The server has CPU 0, the clients CPU 1.
#
# Measured is the CPU time of the server process (schedstat), which other work on the machine disturbs less than rates.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=setup.sh
source "$root/dev.d/setup.sh"
# shellcheck source=origin.sh
source "$root/dev.d/origin.sh"

rounds=${1:-5}
seconds=${2:-3}
need curl curl ca-certificates
need ffmpeg ffmpeg
need wrk wrk
[[ -x /usr/sbin/nginx ]] || missing_packages+=(nginx-light)
install_missing_and_rust
cd "$root"
cargo build --release -p headwater
target=$(target_dir)
headwater=$target/release/headwater
folder=$target/bench-http
ladder=$folder/library/ladder
mkdir -p "$ladder" "$folder/player" "$folder/nginx"

# rung NAME SIZE BITS: ten minutes of video; twenty seconds repeated, for encoding ten minutes would take as long.
rung() {
  if [[ ! -s $ladder/$1.mp4 ]]; then
    echo "making $1" >&2
    ffmpeg -v error -y -f lavfi -i "testsrc2=size=$2:rate=30:duration=20,noise=alls=20:allf=t" -c:v libx264 \
      -preset ultrafast -b:v "$3" -maxrate "$3" -bufsize "$3" -g 60 -keyint_min 60 -sc_threshold 0 "$folder/clip.mp4"
    ffmpeg -v error -y -stream_loop 29 -i "$folder/clip.mp4" -c copy "$folder/part.mp4"
    mv "$folder/part.mp4" "$ladder/$1.mp4"
  fi
}
rung video-1080p 1920x1080 6M
rung video-480p 854x480 1400k
if [[ ! -s $ladder/audio.mp4 ]]; then
  ffmpeg -v error -y -f lavfi -i "sine=frequency=440:sample_rate=48000:duration=600" -c:a aac -b:a 128k "$folder/part.mp4"
  mv "$folder/part.mp4" "$ladder/audio.mp4"
fi
printf '[[track]]\nfile = "%s.mp4"\n' video-1080p video-480p audio >"$ladder/ladder.toml"

rm -rf "$folder/static"
"$headwater" package "$ladder" --output "$folder/static" --form cmaf >/dev/null 2>&1

cat >"$folder/nginx/nginx.conf" <<CONF
daemon off;
worker_processes 1;
pid $folder/nginx/pid;
error_log $folder/nginx/error.log;
events { worker_connections 4096; }
http {
  types { video/mp4 m4s mp4; }
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000000;
  open_file_cache max=10000 inactive=60s; open_file_cache_valid 30s;
  server { listen 127.0.0.1:8181; location /vod/ { alias $folder/static/; } }
}
CONF
cat >"$folder/paths.lua" <<'LUA'
-- Asks for the paths of a file, one after another.
local paths, at = {}, 0
function init(args)
  for path in io.lines(args[1]) do paths[#paths + 1] = wrk.format("GET", path) end
  at = math.random(#paths)
end
function request()
  at = at % #paths + 1
  return paths[at]
end
LUA

finish() {
  stop_origin
  if [[ -n ${nginx_pid:-} ]]; then
    kill "$nginx_pid" 2>/dev/null || true
    wait "$nginx_pid" 2>/dev/null || true
  fi
}
trap finish EXIT
port_is_taken 8181 && die "port 8181 is taken"
taskset --cpu-list 0 /usr/sbin/nginx -p "$folder/nginx" -c "$folder/nginx/nginx.conf" &
nginx_pid=$!
cat >"$folder/headwater" <<SH
#!/bin/sh
exec taskset --cpu-list 0 "$headwater" "\$@"
SH
chmod +x "$folder/headwater"
start_origin "$folder/headwater" "$folder/library" "$folder/player" "$folder/origin.log"
sleep 0.5
nginx_worker=$(cat "/proc/$nginx_pid/task/$nginx_pid/children")
nginx_worker=${nginx_worker%% *}
nginx_base=http://127.0.0.1:8181

# Pages come into the cache alike for both: what a writer left there lies in smaller pieces than what a reader finds.
python3 - "$ladder" "$folder/static" <<'PY'
import os, sys
for top in sys.argv[1:]:
    for folder, _, names in os.walk(top):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                while file.read(1 << 20):
                    pass
PY

for representation in v1 v2 a1; do
  (cd "$folder/static" && find . -path "*/cmaf/$representation/[0-9]*.m4s" | sort -V | sed 's#^\.#/vod#') \
    >"$folder/$representation.paths"
  while read -r path; do
    cmp --quiet <(curl -fsS --noproxy '*' "$origin_base$path") <(curl -fsS --noproxy '*' "$nginx_base$path") ||
      die "headwater and nginx differ: $path"
  done < <(sed -n '1p;2p;75p;$p' "$folder/$representation.paths")
done

cpu_ns() { awk '{ sum += $1 } END { printf "%.0f", sum }' /proc/"$1"/task/*/schedstat; }

# run NAME PID BASE REPRESENTATION CONNECTIONS: appends "rate cpu_us_per_request cpu_s_per_gb" to a file of its own.
run() {
  local before after out requests bytes rate
  before=$(cpu_ns "$2")
  out=$(taskset --cpu-list 1 wrk -t1 -c"$5" -d"${seconds}s" -s "$folder/paths.lua" "$3" -- "$folder/$4.paths")
  after=$(cpu_ns "$2")
  if grep -q 'Non-2xx\|Socket errors' <<<"$out"; then
    die "$1: $out"
  fi
  requests=$(sed -n 's/^ *\([0-9]*\) requests in .*/\1/p' <<<"$out")
  bytes=$(sed -n 's/.* requests in .*, \([0-9.]*[KMGT]*B\) read/\1/p' <<<"$out" | numfmt --from=iec --suffix=B | tr -d B)
  rate=$(sed -n 's/^Requests\/sec: *//p' <<<"$out")
  awk -v rate="$rate" -v cpu=$((after - before)) -v requests="$requests" -v bytes="$bytes" \
    'BEGIN { printf "%.0f %.1f %.4f\n", rate, cpu / 1e3 / requests, cpu / bytes }' >>"$folder/$1.$4.$5"
}

# column NAME FILE NUMBER FORMAT: median (min–max)
column() {
  awk -v column="$2" '{ print $column }' "$1" | sort -g |
    awk -v format="$3" '{ v[NR] = $1 } END { printf format " (" format "–" format ")", v[int((NR + 1) / 2)], v[1], v[NR] }'
}
median() { awk -v column="$2" '{ print $column }' "$1" | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

rm -f "$folder"/{headwater,nginx}.{v1,v2,a1}.*
table=$folder/table
{
  echo "| segment | connections | headwater req/s | nginx req/s | ratio | headwater CPU s/GB | nginx CPU s/GB | ratio |"
  echo "|---|---|---|---|---|---|---|---|"
} >"$table"
for representation in v1 v2 a1; do
  size=$(find "$folder/static" -path "*/cmaf/$representation/[0-9]*.m4s" -printf '%s\n' |
    awk '{ sum += $1 } END { printf "%d KB", sum / NR / 1000 }')
  for connections in 1 16 64 256; do
    for ((round = 0; round < rounds; round++)); do
      run headwater "$origin_pid" "$origin_base" "$representation" "$connections"
      run nginx "$nginx_worker" "$nginx_base" "$representation" "$connections"
    done
    ours=$folder/headwater.$representation.$connections
    theirs=$folder/nginx.$representation.$connections
    printf '| %s | %s | %s | %s | %.2f | %s | %s | %.2f |\n' "$size" "$connections" \
      "$(column "$ours" 1 %.0f)" "$(column "$theirs" 1 %.0f)" \
      "$(awk -v a="$(median "$ours" 1)" -v b="$(median "$theirs" 1)" 'BEGIN { print a / b }')" \
      "$(column "$ours" 3 %.3f)" "$(column "$theirs" 3 %.3f)" \
      "$(awk -v a="$(median "$ours" 3)" -v b="$(median "$theirs" 3)" 'BEGIN { print a / b }')" | tee -a "$table"
  done
done
resident() { sed -n 's/^VmRSS:[[:space:]]*//p' "/proc/$1/status"; }
{
  cat <<HEAD
# Benchmarks

Written by \`dev.d/bench-http.sh\` (part of \`./dev bench\`).

The CMAF segments of a ten-minute ladder, cut from its MP4 files by headwater at each request, and the very same bytes as
static files of nginx with \`sendfile\` and \`open_file_cache\`. Server on CPU 0, wrk on CPU 1, loopback, page cache warm,
the two in turn, $rounds runs of $seconds s each: median (least–most). CPU is the server process's own time; lower is better.

$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -1), Linux $(uname -r), $(/usr/sbin/nginx -v 2>&1 | sed 's/nginx version: //').

HEAD
  cat "$table"
  echo
  echo "Resident afterwards: headwater $(resident "$origin_pid"), nginx worker $(resident "$nginx_worker")."
  echo
  curl -fsS --noproxy '*' "$origin_base/metrics" |
    sed -n 's/^headwater_origin_sent_bytes_total{path="\(.*\)"} \(.*\)/Bytes by \1: \2./p'
} >"$root/BENCHMARKS.md"
echo "written: BENCHMARKS.md"
