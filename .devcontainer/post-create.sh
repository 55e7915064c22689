#!/usr/bin/env bash
# Prepare the environment, then prove that it works: start everything, wait until it says that it is
# healthy, and stop it again. Works outside a container too; the settings CHITRAM_* apply as always.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
export CHITRAM_HTTP_HOST=127.0.0.1 CHITRAM_HTTP_PORT=${CHITRAM_HTTP_PORT:-8000}
address=http://127.0.0.1:$CHITRAM_HTTP_PORT/health
start_seconds=${START_SECONDS:-120}
stop_seconds=120

"$python" run.py _dev-env

log=$(mktemp)
"$python" run.py up >"$log" 2>&1 &
stack=$!

# Wait for the stack to end by itself, then no longer.
ended() {
  local deadline=$((SECONDS + $1))
  while kill -0 "$stack" 2>/dev/null; do
    ((SECONDS < deadline)) || return 1
    sleep 0.2
  done
}

finish() {
  local status=$?
  trap - EXIT INT TERM
  kill -TERM "$stack" 2>/dev/null || true
  if ! ended "$stop_seconds"; then
    echo "It did not stop within $stop_seconds seconds." >&2
    kill -KILL "$stack" 2>/dev/null || true
    status=1
  fi
  ((status == 0)) || cat "$log" >&2
  rm -f "$log"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Print the health report; succeed when it says healthy.
report() {
  "$python" - "$address" <<'PYTHON'
import json, sys, urllib.request

# The stack is on this machine: no proxy stands between.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    with opener.open(sys.argv[1], timeout=5) as response:
        body = json.load(response)
except (OSError, ValueError):
    raise SystemExit(1) from None
if body.get("status") != "healthy":
    raise SystemExit(1)
print(json.dumps(body))
PYTHON
}

deadline=$((SECONDS + start_seconds))
until report; do
  if ! kill -0 "$stack" 2>/dev/null; then
    echo "It ended before it was healthy:" >&2
    exit 1
  fi
  if ((SECONDS >= deadline)); then
    echo "It was not healthy within $start_seconds seconds:" >&2
    exit 1
  fi
  sleep 0.5
done
echo "Ready. \`just up\` starts it again, \`just test\` runs the tests."
