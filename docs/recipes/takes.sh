#!/usr/bin/env bash
# A folder of takes from a table: one line for each sound, with as many takes as it says.
set -euo pipefail

sa-ray batch takes.csv --out takes --url http://localhost:8000

# What came of it: each file with its seed, which makes it again.
jq -r '.files[]? | [.name, .seed] | @tsv' takes/manifest.jsonl
