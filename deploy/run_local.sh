#!/usr/bin/env bash
# Runs an image as Cloud Run would: its environment, 1 CPU, 512 MiB, a read-only root with a
# memory-backed /tmp, no capabilities, SIGTERM and 10 s to end.
#
# usage: deploy/run_local.sh IMAGE        PORT (8080), MEMORY (512m), CPUS (1) and ENGINE are read
set -euo pipefail

image=${1:?usage: deploy/run_local.sh IMAGE}
engine=${ENGINE:-docker}
port=${PORT:-8080}
name=classifier-local-$port

# shellcheck disable=SC2329  # the trap calls it
stop() {
    "$engine" stop --time 10 "$name" >/dev/null 2>&1 || true
    "$engine" rm --force "$name" >/dev/null 2>&1 || true
}
trap stop EXIT
trap 'exit 130' INT TERM

"$engine" run --detach --name "$name" \
    --publish "127.0.0.1:$port:8080" \
    --env PORT=8080 --env K_SERVICE=classifier --env K_REVISION=classifier-00001-loc --env K_CONFIGURATION=classifier \
    --cpus "${CPUS:-1}" --memory "${MEMORY:-512m}" \
    --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
    "$image" >/dev/null
echo "http://localhost:$port/   (documentation: http://localhost:$port/docs; Ctrl-C ends it)"
"$engine" logs --follow "$name"
# The logs end with the container: its exit code tells an out-of-memory kill (137) from a stop.
exit "$("$engine" inspect --format '{{.State.ExitCode}}' "$name")"
