#!/usr/bin/env bash
# A job with nothing but curl and jq: submit, wait, download.
set -euo pipefail

url=http://localhost:8000
ask=(curl --silent --show-error --fail-with-body --retry 5)

# With the same key, repeating this finds the same job, also after a lost answer.
job=$("${ask[@]}" "$url/jobs" --retry-all-errors \
    -H "Content-Type: application/json" -H "Idempotency-Key: ${1:-$(date +%s%N)}" \
    -d '{"prompt": "a church bell", "duration": 3}')

status_url=$(jq -r .status_url <<<"$job")
until jq -e .completed_at <<<"$job" >/dev/null; do
    job=$("${ask[@]}" "$status_url?wait=60") # answers as soon as the job has ended
done

if [ "$(jq -r .status <<<"$job")" != succeeded ]; then
    jq -r '"\(.status): \(.error)"' <<<"$job" >&2
    exit 1
fi
"${ask[@]}" --location --output bell.wav "$(jq -r .download_url <<<"$job")"
