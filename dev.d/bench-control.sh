#!/usr/bin/env bash
# Asks a control API on this machine for what viewers ask for, from the same cores, and prints what it can do: a table.
# Called by ./dev bench; alone: dev.d/bench-control.sh [SECONDS] [VIEWERS]
#
# HEADWATER_BENCH_BINARIES names a folder with built headwater and load-tests. One process of the API with its embedded
# database, durable as ever. Stream starts are held against pgbench, which runs the bare statement of a start. Ends with 1
# when a goal is missed.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=setup.sh
source "$root/dev.d/setup.sh"

seconds=${1:-10}
viewers=${2:-5000}
need curl curl ca-certificates
need jq jq
need_postgres
install_missing_and_rust
cd "$root"
target=$(target_dir)
binaries=${HEADWATER_BENCH_BINARIES:-$target/release}
[[ -n ${HEADWATER_BENCH_BINARIES:-} ]] || cargo build --locked --release -p headwater -p load-tests
headwater=$binaries/headwater
pgbench=$(compgen -G '/usr/lib/postgresql/*/bin/pgbench' | sort -V | tail -1)
cores=$(nproc)

work=$(mktemp -d)
chmod 755 "$work"
node=
finish() {
  if [[ -n $node ]]; then
    kill "$node" 2>/dev/null || true
    wait "$node" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

"$headwater" grant new-key "$work/grant.key" >/dev/null
"$headwater" keys init "$work/vault" >/dev/null
cat >"$work/headwater.toml" <<TOML
[control]
listen = "127.0.0.1:0"
data = "$work/data"
grant_keys = "$work/grant.key"
require_https = false
database_connection_count_max = ${HEADWATER_BENCH_DATABASE_CONNECTIONS:-20}
[control.settings.rate_limits]
anonymous_per_minute = 1000000000
user_per_minute = 1000000000
burst_per_second = 1000000000
[control.settings.entitlement]
mode = "open"
[control.settings.drm]
allow_clearkey = true
[control.settings.default_limits]
max_concurrent_streams = 3
[control.licences]
vault = "$work/vault"
kek = "$work/vault.kek"
grant_keys = "$work/grant.key"
clear_key = true
TOML

# Starts the node; its log begins anew.
start() {
  HEADWATER_LOG=info "$headwater" --log-format json control --config "$work/headwater.toml" 2>"$work/log" >/dev/null &
  node=$!
  for ((tries = 0; tries < 600; tries++)); do
    address=$(jq -r 'select(.fields.address) | .fields.address' "$work/log" 2>/dev/null | head -1)
    [[ -z $address ]] || return 0
    kill -0 "$node" 2>/dev/null || break
    sleep 0.1
  done
  cat "$work/log" >&2
  die "the control API did not start"
}
sql() { psql -v ON_ERROR_STOP=1 -q -A -t -U headwater -d headwater -h "$work/data/postgres/run" -c "$1"; }
ask() { # METHOD PATH BODY
  curl --silent --show-error --fail-with-body --noproxy '*' -X "$1" -H "Authorization: Bearer ${admin:-}" \
    -H 'Content-Type: application/json' --data "$3" "http://$address/api/v1$2"
}

start
echo 'correct horse' >"$work/password"
"$headwater" admin create --email admin@example.org --password-file "$work/password" --config "$work/headwater.toml" >/dev/null
admin=$(ask POST /auth/login '{"email":"admin@example.org","password":"correct horse"}' | jq -r .access_token)
movies=()
for ((number = 1; number <= 20; number++)); do
  movie=$(ask POST /admin/movies "{\"title\":\"Film $number\",\"status\":\"draft\",\"drm_required\":true,\"runtime_minutes\":90,
    \"content_rating\":\"G\",\"synopsis\":\"What happens in film $number, told in one line.\"}" | jq -r .id)
  sql "insert into assets (id, tenant_id, owner_id, type, title, status, playable, delivery_policy, target_type, target_id)
    select gen_random_uuid(), tenant_id, id, 'video_master', 'master', 'ready', true, 'session', 'movie', '$movie' from users"
  ask POST "/admin/movies/$movie/publish" '{}' >/dev/null
  movies+=("$movie")
done
movie=${movies[0]}
asset=$(sql "select primary_asset_id from playables where content_id = '$movie'")
"$headwater" keys create "$work/vault" "$asset" >/dev/null
key=$("$headwater" keys list "$work/vault" | awk '$2 == "cenc" && $3 == "HD" { print $1 }')
kid=$(tr -d - <<<"$key" | xxd -r -p | base64 | tr '+/' '-_' | tr -d '=')
challenge=$(printf '{"kids":["%s"],"type":"temporary"}' "$kid" | base64 -w0)

# Viewers with two devices each; ids say which.
id() { printf "('00000000-0000-7000-8000-' || %s || lpad(to_hex(%s), 10, '0'))::uuid" "'$1'" "$2"; }
tenant=00000000-0000-7000-8000-000000000001
sql "
insert into users (id, tenant_id, name, email, email_lower)
  select $(id 10 n), '$tenant', 'Viewer ' || n, n || '@example.org', n || '@example.org' from generate_series(0, $viewers - 1) n;
insert into profiles (id, tenant_id, user_id, name, is_default)
  select $(id 11 n), '$tenant', $(id 10 n), 'Main', true from generate_series(0, $viewers - 1) n;
insert into devices (id, tenant_id, user_id, name, device_type, fingerprint_hmac)
  select $(id 20 n), '$tenant', $(id 10 n), 'A', 'mobile', decode('00', 'hex') from generate_series(0, $viewers - 1) n;
insert into devices (id, tenant_id, user_id, name, device_type, fingerprint_hmac)
  select $(id 21 n), '$tenant', $(id 10 n), 'B', 'mobile', decode('01', 'hex') from generate_series(0, $viewers - 1) n;
insert into auth_sessions (id, tenant_id, user_id, family_started_at)
  select $(id 30 n), '$tenant', $(id 10 n), now() from generate_series(0, $viewers - 1) n;
insert into refresh_tokens (id, session_id, token_sha256, expires_at)
  select $(id 31 n), $(id 30 n), sha256(('refresh' || n)::bytea), now() + interval '1 day' from generate_series(0, $viewers - 1) n;
analyze"
sql "select $(id 20 n) || ' refresh' || n || E'\n' || $(id 21 n) || ' refresh' || n from generate_series(0, $viewers - 1) n order by n" \
  >"$work/viewers"
# Live sessions, each with the line of its device.
sessions() {
  sql "select id || ' ' || (('x' || right(user_id::text, 8))::bit(32)::int * 2 + (substr(device_id::text, 26, 1))::int)
    from stream_sessions where content_id = '$movie' and left(device_id::text, 25) = '00000000-0000-7000-8000-2'
    order by random()" >"$work/sessions"
}

status=0
table=()
row() { table+=("$(printf '| %s | %s | %s | %s | %s |' "$1" "$2" "$3" "$4" "$5")"); }
# Processor time in microseconds of the API and of its database so far. Other work on the machine hardly changes it.
used() {
  python3 - "$node" "$work/data/postgres" <<'PY'
import glob, os, sys
node, cluster = sys.argv[1:]
tick_us = 1_000_000 // os.sysconf("SC_CLK_TCK")

def ticks(pid, ended_too=False):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return sum(int(field) for field in fields[11 : 15 if ended_too else 13])

postmaster = glob.glob(f"{cluster}/**/postmaster.pid", recursive=True)
parent = open(postmaster[0]).readline().strip()
with open(f"/proc/{parent}/task/{parent}/children") as file:
    children = file.read().split()
database = ticks(parent, True)
for child in children:
    try:
        database += ticks(child)
    except FileNotFoundError:
        pass  # It has ended meanwhile, and counts with its parent.
print(ticks(node) * tick_us, database * tick_us)
PY
}
# run NAME GOAL ARGUMENT…: one run of load; its line goes to the table.
run() {
  local name=$1 goal=$2 line rate good before after cost
  shift 2
  before=$(used)
  if ! "$binaries/load-tests" control --address "$address" --viewers "$work/viewers" --content "$movie" "$@" >"$work/run" 2>&1; then
    status=1
  fi
  after=$(used)
  cat "$work/run"
  line=$(head -1 "$work/run")
  rate=$(sed -nE 's/.*, ([0-9]+)\/s;.*/\1/p' <<<"$line")
  good=$(sed -nE 's/.*: ([0-9]+) good.*/\1/p' <<<"$line")
  last_rate=${rate:-0}
  cost=$(awk -v good="${good:-0}" '{ if (good) printf "%.0f + %.0f", ($3 - $1) / good, ($4 - $2) / good }' <<<"$before $after")
  row "$name" "$(sed -nE 's/.*(p50 [^;]*);.*/\1/p' <<<"$line")" "${rate:-?}/s" "$cost" "$goal"
}
# half NAME RATE GOAL ARGUMENT…: an open loop at half of RATE.
half() {
  local name=$1 rate=$(($2 / 2)) goal=$3
  shift 3
  run "$name, open loop at half" "$goal" --rate "$rate" "$@"
}

# The bare statement of a start.
version=$(sql "select row_version from playables where content_id = '$movie'")
cat >"$work/start.sql" <<SQL
\set n random(0, $viewers - 1)
\set k random(0, 1)
select * from stream_start(gen_random_uuid(), '$tenant', $(id 10 :n::int), $(id 11 :n::int),
  ('00000000-0000-7000-8000-2' || :k || lpad(to_hex(:n::int), 10, '0'))::uuid, '$movie', '$asset', $version, null, null, null,
  'vod', 3, null, null, 90, 10, 600, null);
SQL
fresh() { sql 'truncate stream_sessions; truncate stream_session_log; truncate outbox_events; truncate drm_licences' && sql checkpoint; }
# bare: pgbench runs it, with as many clients as it is fastest with.
bare() {
  local best=0 clients tps
  for clients in ${HEADWATER_BENCH_PGBENCH_CLIENTS:-8 16 32}; do
    fresh
    tps=$("$pgbench" -n -M prepared -c "$clients" -j 1 -T "$seconds" -f "$work/start.sql" -h "$work/data/postgres/run" -U headwater \
      headwater 2>/dev/null | sed -nE 's/^tps = ([0-9]+).*/\1/p')
    say "pgbench, $clients clients: $tps/s"
    if ((tps > best)); then best=$tps; fi
  done
  bare_rate=$best
}

say "Viewers sign in"
run 'signing in and one second of the catalogue' '' --act catalogue --seconds 1 >/dev/null
table=()
bare
fresh
run 'stream start' '≥ 2,500/s' --act start --connections 64 --seconds "$seconds" --goodput-min 2500
start_rate=$last_rate
ratio=$(awk "BEGIN { printf \"%.2f\", $start_rate / ($bare_rate + 0.001) }")
row 'stream start, share of pgbench' "pgbench $bare_rate/s" "$ratio" '' '≥ 0.6'
awk "BEGIN { exit !($ratio >= 0.6) }" || { echo "MISSED: starts are $ratio of pgbench"; status=1; }
half 'stream start' "$start_rate" '' --act start --connections 64 --seconds "$seconds"
sessions
run 'heartbeat' '≥ 40,000/s' --act heartbeat --sessions "$work/sessions" --connections 64 --seconds "$seconds" --goodput-min 40000
half 'heartbeat' "$last_rate" '' --act heartbeat --sessions "$work/sessions" --connections 64 --seconds "$seconds"
run 'licence (Clear Key)' '≥ 8,000/s' --act licence --challenge "$challenge" --sessions "$work/sessions" --connections 64 \
  --seconds "$seconds" --goodput-min 8000
half 'licence (Clear Key)' "$last_rate" '' --act licence --challenge "$challenge" --sessions "$work/sessions" --connections 64 \
  --seconds "$seconds"
run 'catalogue: a movie' '≥ 40,000/s' --act title --connections 64 --seconds "$seconds" --goodput-min 40000
half 'catalogue: a movie' "$last_rate" 'p99 < 10 ms' --act title --connections 64 --seconds "$seconds" --p99-ms-max 10
run 'catalogue: a list of 20' '' --act catalogue --connections 64 --seconds "$seconds"
half 'catalogue: a list of 20' "$last_rate" 'p99 < 10 ms' --act catalogue --connections 64 --seconds "$seconds" --p99-ms-max 10

# A hundred thousand sessions that a new process has never seen.
kill "$node"
wait "$node" || true
start
fresh
count=100000
sql "insert into stream_sessions (id, tenant_id, user_id, device_id, kind, content_type, content_id, asset_id, title, started_at,
    last_heartbeat_at, expires_at, urls_expire_at)
  select gen_random_uuid(), '$tenant', $(id 10 'n % 1000'), gen_random_uuid(), 'vod', 'movie', '$movie', '$asset', 'Film', now(),
    now(), now() + interval '1 hour', now() + interval '1 hour' from generate_series(1, $count) n"
sql "select id || ' ' || (('x' || right(user_id::text, 8))::bit(32)::int * 2) from stream_sessions order by random()" >"$work/sessions"
head -2000 "$work/sessions" >"$work/some"
tail -n +2001 "$work/sessions" >"$work/others"
# What viewers take besides is had before.
run 'warm' '' --act memory --sessions "$work/some" --pid "$node" >/dev/null
unset 'table[-1]'
run 'memory' '' --act memory --sessions "$work/others" --pid "$node" --session-bytes-max 1024
unset 'table[-1]'
each=$(sed -nE 's/.*a live session: ([0-9]+) bytes/\1 B/p' "$work/run")
run 'heartbeat, 98,000 sessions' '' --act heartbeat --sessions "$work/others" --connections 64 --seconds "$seconds"
half 'heartbeat, 98,000 sessions' "$last_rate" '' --act heartbeat --sessions "$work/others" --connections 64 --seconds "$seconds"
row 'a live session in memory' "$((count - 2000)) sessions" "$each" '' '≤ 1,024 B'

printf '\n%s cores (%s), server, database and client on all of them\n\n' "$cores" \
  "$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -1)"
printf '| what | latency, ms | rate | processor time of one, API + database, µs | goal |\n|---|---|---|---|---|\n'
printf '%s\n' "${table[@]}"
exit "$status"
