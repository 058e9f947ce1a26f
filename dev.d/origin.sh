# shellcheck shell=bash
# Sourced: one origin process on loopback, from a free port to a clean end.

origin_pid=
origin_base=
origin_log=

# start_origin HEADWATER LIBRARY PLAYER LOG [ARGUMENT…]: sets origin_base once /healthz answers. Takes port
# HEADWATER_FIRST_PORT (8080) or the next free one.
start_origin() {
  local headwater=$1 library=$2 player=$3 port first=${HEADWATER_FIRST_PORT:-8080}
  origin_log=$4
  shift 4
  for ((port = first; port < first + 100; port++)); do
    if port_is_taken "$port"; then
      continue
    fi
    "$headwater" origin --library "$library" --listen "127.0.0.1:$port" --player "$player" "$@" \
      >"$origin_log" 2>&1 </dev/null &
    origin_pid=$!
    origin_base=http://127.0.0.1:$port
    if origin_is_healthy; then
      return
    fi
    stop_origin
    if ! grep -qi 'address .*in use' "$origin_log"; then
      tail -n 20 "$origin_log" >&2
      echo "dev: the origin did not answer $origin_base/healthz; its last words are above" >&2
      return 1
    fi
  done
  echo "dev: no port from $first to $((first + 99)) is free on 127.0.0.1" >&2
  return 1
}

port_is_taken() {
  (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# Waits until /healthz answers 200; gives up when the process ends, or after 60 s.
origin_is_healthy() {
  local deadline=$((SECONDS + 60))
  while ((SECONDS < deadline)); do
    # Ask the process first: should it have lost the port to another one, that one's answer does not count.
    kill -0 "$origin_pid" 2>/dev/null || return 1
    if curl --silent --fail --max-time 2 --noproxy '*' --output /dev/null "$origin_base/healthz"; then
      kill -0 "$origin_pid" 2>/dev/null
      return
    fi
    sleep 0.1
  done
  return 1
}

# Ends the origin and waits for it; kills it if it has not ended after 10 s.
stop_origin() {
  local pid=$origin_pid deadline=$((SECONDS + 10))
  origin_pid=
  if [[ -z $pid ]]; then
    # Not a bare `return`: in a trap that would hand on the status that led there, and end the trap.
    return 0
  fi
  kill -TERM "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null && ((SECONDS < deadline)); do
    sleep 0.05
  done
  kill -KILL "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
}

# status_of PATH: the HTTP status the origin answers a GET with; 000 if it does not answer.
status_of() {
  curl --silent --max-time 30 --noproxy '*' --output /dev/null --write-out '%{http_code}' "$origin_base$1" || true
}
