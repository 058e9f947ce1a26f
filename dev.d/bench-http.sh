#!/usr/bin/env bash
# Serves the same bytes from headwater and from nginx, in turn, and writes what each costs: a table and plots.
# Called by ./dev bench; alone: dev.d/bench-http.sh [ROUNDS] [SECONDS] [CONNECTIONS] [FORMS] [OUTPUT]
#
# CONNECTIONS as 1,16,64,256; FORMS as names in the table, separated by commas; OUTPUT a folder. With all rounds, and no
# OUTPUT, BENCHMARKS.md is written anew. The servers have CPU 0, the client CPU 1. Measured is the CPU time of the server
# process (schedstat) too, which other work on the machine disturbs less than rates.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=setup.sh
source "$root/dev.d/setup.sh"
# shellcheck source=origin.sh
source "$root/dev.d/origin.sh"

rounds=${1:-5}
seconds=${2:-3}
connections=${3:-1,16,64,256}
wanted=${4:-}
need curl curl ca-certificates
need ffmpeg ffmpeg
need wrk wrk
need openssl openssl
[[ -x /usr/sbin/nginx ]] || missing_packages+=(nginx-light)
install_missing_and_rust
cd "$root"
target=$(target_dir)
headwater=${HEADWATER_BENCH_BINARY:-$target/release/headwater}
load_tests=$(dirname "$headwater")/load-tests
[[ -n ${HEADWATER_BENCH_BINARY:-} ]] || cargo build --release -p headwater -p load-tests
# Content lies outside of what builds clean up, and is made once.
folder=${HEADWATER_BENCH_FOLDER:-$target/bench-http}
output=${5:-$folder/output}
ladder=$folder/library/ladder
mkdir -p "$ladder" "$folder/player" "$folder/nginx" "$output"

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
# Picture and sound in turn, as cameras and encoders leave them: a segment is hundreds of short ranges.
if [[ ! -s $folder/library/film.mp4 ]]; then
  ffmpeg -v error -y -i "$ladder/video-1080p.mp4" -i "$ladder/audio.mp4" -c copy -movflags +faststart "$folder/part.mp4"
  mv "$folder/part.mp4" "$folder/library/film.mp4"
fi

# Keys and grants.
vault=$folder/vault
if [[ ! -d $vault ]]; then
  "$headwater" keys init "$vault" >/dev/null
  "$headwater" keys create "$vault" --library "$folder/library" --all >/dev/null
  "$headwater" grant new-key "$folder/grant.key" >/dev/null
fi
# kept VIEWERS: built segments are kept from so many viewers on, where this version keeps any.
kept() {
  if grep -q '^hot_viewer_count_min' "$root/headwater.toml"; then
    printf 'hot_viewer_count_min = %s\n' "$1"
  fi
}
# Hundreds of viewers who each want another segment of MPEG-TS have more of them built at once than are by default.
memory='answer_memory_bytes_max = 4294967296'
# config FILE VIEWERS: a configuration under keys.
config() {
  cat >"$1" <<TOML
[origin]
$(kept "$2")
[origin.limits]
$memory
[origin.protection]
vault = "$vault"
kek = "$vault.kek"
[origin.protection.systems.clear_key]
[origin.access]
grant_keys = "$folder/grant.key"
TOML
}
config "$folder/built.toml" 4000000000
config "$folder/hot.toml" 6
printf '[origin]\n%s\n[origin.limits]\n%s\n' "$(kept 4000000000)" "$memory" >"$folder/clear.toml"

# The same over TLS 1.3 with AES-128-GCM, which is all that the client offers.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=bench \
  -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
  -keyout "$folder/tls.key" -out "$folder/tls.pem" 2>/dev/null
for kind in clear built; do
  tls_port=$([[ $kind == clear ]] && echo 8183 || echo 8184)
  {
    cat "$folder/$kind.toml"
    printf '[origin.tls]\nlisten = "127.0.0.1:%d"\ncertificate = "%s"\nkey = "%s"\n' "$tls_port" "$folder/tls.pem" "$folder/tls.key"
  } >"$folder/$kind-tls.toml"
done

# What nginx serves: the very bytes that headwater answers with.
static=$folder/static
rm -rf "$static"
package() {
  "$headwater" package "$2" --output "$static/$1" --form "$3" --config "$folder/built.toml" >/dev/null 2>&1 ||
    "$headwater" package "$2" --output "$static/$1" --form "$3" --config "$folder/built.toml"
}
package clear "$ladder" cmaf,ts
package film "$folder/library/film.mp4" cmaf
package cenc "$ladder" cmaf-cenc,ts-aes128
package cbcs "$ladder" cmaf-cbcs
id=$(basename "$static"/clear/*)
token=$("$headwater" grant "$id" --key-file "$folder/grant.key" --expires 12h | sed -n 's/^token *//p')

cat >"$folder/nginx/nginx.conf" <<CONF
daemon off;
worker_processes 1;
pid $folder/nginx/pid;
error_log $folder/nginx/error.log;
events { worker_connections 4096; }
http {
  types { video/mp4 m4s mp4; video/mp2t ts; application/vnd.apple.mpegurl m3u8; application/dash+xml mpd; }
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000000;
  open_file_cache max=10000 inactive=60s; open_file_cache_valid 30s;
  server { listen 127.0.0.1:8181; location / { root $static; } }
  server {
    listen 127.0.0.1:8182 ssl; ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
    ssl_certificate $folder/tls.pem; ssl_certificate_key $folder/tls.key; location / { root $static; }
  }
}
CONF

origins=()
finish() {
  stop_origin
  for pid in "${origins[@]}" ${nginx_pid:-} ${bare_pid:-}; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
}
trap finish EXIT
for port in 8181 8182 8183 8184 8185; do
  port_is_taken "$port" && die "port $port is taken"
done
taskset --cpu-list 0 /usr/sbin/nginx -p "$folder/nginx" -c "$folder/nginx/nginx.conf" &
nginx_pid=$!
cat >"$folder/headwater" <<RUN
#!/bin/sh
exec taskset --cpu-list 0 "$headwater" "\$@"
RUN
chmod +x "$folder/headwater"
declare -A base pid
# One process for the clear title, one that builds each segment anew, one that keeps what many want.
for kind in clear built hot clear-tls built-tls; do
  start_origin "$folder/headwater" "$folder/library" "$folder/player" "$folder/$kind.log" --config "$folder/$kind.toml"
  base[$kind]=$origin_base
  pid[$kind]=$origin_pid
  origins+=("$origin_pid")
  origin_pid=
done
for ((tries = 0; tries < 50; tries++)); do
  nginx_worker=$(cat "/proc/$nginx_pid/task/$nginx_pid/children")
  nginx_worker=${nginx_worker%% *}
  [[ -n $nginx_worker ]] && port_is_taken 8181 && break
  sleep 0.1
done
nginx_base=http://127.0.0.1:8181
taskset --cpu-list 0 "$load_tests" bare --listen 127.0.0.1:8185 >"$folder/bare.log" 2>&1 &
bare_pid=$!
for ((tries = 0; tries < 50; tries++)); do
  grep -q '^bare: ' "$folder/bare.log" && break
  sleep 0.1
done

# Pages come into the cache alike for both: what a writer left there lies in smaller pieces than what a reader finds.
python3 - "$folder/library" "$static" <<'PY'
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

forms=$folder/forms.jsonl
: >"$forms"
# form NAME SERVER STATIC GLOB GOAL [COUNT]: the files of nginx's folder STATIC whose paths match, at most COUNT of them. The
# name of a form over TLS begins with tls-.
form() {
  local name=$1 server=$2 kind=$3 glob=$4 goal=$5 count=${6:-100000} title prefix size theirs=nginx
  [[ $name != tls-* ]] || theirs=nginx-tls
  if [[ -n $wanted && ,$wanted, != *,$name,* ]]; then
    return 0
  fi
  title=$(basename "$static/$kind"/*)
  prefix=/vod/$title
  [[ $server == clear* ]] || prefix=$prefix/~$token
  (cd "$static/$kind/$title" && find . -type f -path "$glob" | sort -V | sed 's#^\.##' | awk -v count="$count" 'NR <= count') >"$folder/$name.files"
  [[ -s $folder/$name.files ]] || die "$name: no files"
  sed "s#^#$prefix#" "$folder/$name.files" >"$folder/$name.ours"
  sed "s#^#/$kind/$title#" "$folder/$name.files" >"$folder/$name.theirs"
  while read -r path; do
    cmp --quiet <(curl -fsS --noproxy '*' "${base[$server]}$prefix$path") \
      <(curl -fsS --noproxy '*' "$nginx_base/$kind/$title$path") || die "headwater and nginx differ: $name $path"
  done < <(sed -n '1p;2p;75p;$p' "$folder/$name.files")
  size=$(sed "s#^#$static/$kind/$title#" "$folder/$name.files" | xargs stat -c %s | awk '{ sum += $1 } END { printf "%.0f", sum / NR }')
  printf '{"name": "%s", "ours": "%s", "theirs": "%s", "our_paths": "%s", "their_paths": "%s", "size": %s, "goal": "%s", "warm": %d}\n' \
    "$name" "$server" "$theirs" "$folder/$name.ours" "$folder/$name.theirs" "$size" "$goal" "$([[ $server == hot ]] && echo 8 || echo 1)" >>"$forms"
}
form cmaf-stored clear clear '*/cmaf/v1/[0-9]*.m4s' '1.05, 0.95'
form cmaf-stored-480p clear clear '*/cmaf/v2/[0-9]*.m4s' '1.05, 0.95'
form cmaf-stored-audio clear clear '*/cmaf/a1/[0-9]*.m4s' '1.05, 0.95'
form cmaf-in-place clear film '*/cmaf/v1/[0-9]*.m4s' '0.75, 1.4'
form ts clear clear '*/ts/v1/[0-9]*.ts' '0.65, 1.5'
form cenc built cenc '*/cmaf-cenc/v1/[0-9]*.m4s' '0.62, 1.6'
form cbcs built cbcs '*/cmaf-cbcs/v1/[0-9]*.m4s' '0.60, 1.7'
form cenc-hot hot cenc '*/cmaf-cenc/v1/[0-9]*.m4s' '0.85, 1.2' 24
form cbcs-hot hot cbcs '*/cmaf-cbcs/v1/[0-9]*.m4s' '0.85, 1.2' 24
form ts-aes128 built cenc '*/ts-aes128/v1/[0-9]*.ts' '0.32, 3.1'
form playlist clear clear './v*/cmaf/v1/index.m3u8' '1.2, 0.8'
form mpd clear clear './manifest.mpd' '1.2, 0.8'
form init clear clear '*/cmaf/v1/init.mp4' '1.2, 0.8'
form tls-cmaf-stored clear-tls clear '*/cmaf/v1/[0-9]*.m4s' '2.0, 0.5'
form tls-cmaf-stored-480p clear-tls clear '*/cmaf/v2/[0-9]*.m4s' '2.0, 0.5'
form tls-ts clear-tls clear '*/ts/v1/[0-9]*.ts' '2.0, 0.5'
form tls-cbcs built-tls cbcs '*/cmaf-cbcs/v1/[0-9]*.m4s' '2.0, 0.5'
form tls-playlist clear-tls clear './v*/cmaf/v1/index.m3u8' '2.0, 0.5'

python3 - "$forms" "$folder/plan.json" "$rounds" "$seconds" "$connections" "$folder" <<PY
import json, sys
forms, plan, rounds, seconds, connections, folder = sys.argv[1:]
json.dump({
    "folder": folder, "load_tests": "$load_tests", "rounds": int(rounds), "seconds": float(seconds) if "." in seconds else int(seconds),
    "connections": [int(count) for count in connections.split(",")],
    "forms": [json.loads(line) for line in open(forms)],
    "servers": {
        "clear": {"base": "${base[clear]}", "pid": ${pid[clear]}},
        "built": {"base": "${base[built]}", "pid": ${pid[built]}},
        "hot": {"base": "${base[hot]}", "pid": ${pid[hot]}},
        "clear-tls": {"base": "127.0.0.1:8183", "pid": ${pid[clear-tls]}, "ca": "$folder/tls.pem"},
        "built-tls": {"base": "127.0.0.1:8184", "pid": ${pid[built-tls]}, "ca": "$folder/tls.pem"},
        "bare": {"base": "http://127.0.0.1:8185", "pid": $bare_pid},
        "nginx": {"base": "$nginx_base", "pid": $nginx_worker},
        "nginx-tls": {"base": "127.0.0.1:8182", "pid": $nginx_worker, "ca": "$folder/tls.pem"},
    },
}, open(plan, "w"), indent=1)
PY
python3 "$root/dev.d/bench-http.py" "$folder/plan.json" "$output"

{
  cat <<HEAD
# Benchmarks

Written by \`dev.d/bench-http.sh\` (part of \`./dev bench\`).

A ten-minute ladder, and nginx with \`sendfile\` and \`open_file_cache\` that serves the very bytes that headwater answers
with as static files. headwater cuts, encrypts or multiplexes at each request from MP4 files: \`stored\` has one track a file,
\`in place\` picture and sound in turn, \`hot\` 24 segments that many ask for; protected forms verify a grant at each request.
What was found out when a segment was first asked for (headers, where packets lie) is kept, its media is not.

Server on CPU 0, client on CPU 1 (wrk, over TLS load-tests), loopback with $(cat /proc/sys/net/ipv4/tcp_congestion_control), page cache
warm, the two in turn, $rounds runs of $seconds s each: median (least–most). CPU is the server process's own time; lower is
better. The goal is the ratio of requests, then of CPU. On loopback, whoever acknowledges or is paced sends on the sender's
behalf, so that a server that waits for its client is charged for a part of its sending alone: what both cores were busy
for each GB stands beside it.

$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -1), Linux $(uname -r), $(/usr/sbin/nginx -v 2>&1 | sed 's/nginx version: //').

HEAD
  cat "$output/table.md"
} >"$output/BENCHMARKS.md"
cat "$output/BENCHMARKS.md"
if [[ -z $wanted && -z ${5:-} ]]; then
  mkdir -p "$root/benchmarks"
  cp "$output"/*.svg "$root/benchmarks/"
  {
    cat "$output/BENCHMARKS.md"
    printf '\n![Requests](benchmarks/requests.svg)\n\n![CPU](benchmarks/cpu.svg)\n'
  } >"$root/BENCHMARKS.md"
  echo "written: BENCHMARKS.md, benchmarks/"
fi
