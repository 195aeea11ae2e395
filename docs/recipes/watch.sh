#!/usr/bin/env bash
# Watch a job by its events: a line for each change, until it has ended.
set -euo pipefail

url=http://localhost:8000
ask=(curl --silent --show-error --fail-with-body --retry 5)

job=$("${ask[@]}" "$url/jobs" -H "Content-Type: application/json" \
    -d '{"prompt": "a storm at sea", "duration": 20}')
status_url=$(jq -r .status_url <<<"$job")

until jq -e .completed_at <<<"$job" >/dev/null; do
    # The stream ends with the job. One that breaks off is asked for again.
    "${ask[@]}" --no-buffer "$status_url/events" | sed --unbuffered -n 's/^data: *//p' |
        jq --unbuffered -r '"\(.status) \(.queue_position // .progress)"' || sleep 1
    job=$("${ask[@]}" "$status_url")
done
jq -r '.download_url // .error' <<<"$job"
