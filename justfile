# Development commands; `just` lists them.

default:
    @just --list

# The default test suite
test *args:
    uv run pytest {{args}}

# Processes killed under load
chaos:
    uv run pytest -m chaos -s tests/chaos

# The page in Chromium
browser *args:
    uv run pytest -m browser tests/browser {{args}}

# Strangers against a running service
attack:
    uv run pytest -m attack tests/attack

# Several Ray nodes on this machine
cluster:
    uv run pytest -m cluster -s tests

# The manifests on the cluster of KUBECONFIG
kubernetes:
    uv run pytest -m kubernetes -s tests/kubernetes

# Serving under load, into bench/results/serving.*: a quarter of an hour, on a quiet machine
bench *args:
    uv run python -m bench.load scenarios --output bench/results/serving {{args}}

# Formatting, lint, types, layers
check:
    uv run ruff format --check
    uv run ruff check
    uv run mypy
    uv run lint-imports

# Types, lint and format of the page's JavaScript
check-page:
    npm --prefix .ci/page install --silent
    npm --prefix .ci/page run types
    npm --prefix .ci/page run lint

# Kubernetes manifests under kube-score, which Go builds
lint-manifests:
    .ci/kube-score .tools
    KUBE_SCORE=$PWD/.tools/kube-score uv run pytest tests/manifests/test_linter.py

# Known weaknesses of what the image installs
audit:
    uv run .ci/audit

# The documentation as a site, in site/html
docs:
    uv run --group docs docs/site/build.py

# Bring generated files up to date
generate:
    uv run sa-ray config --markdown > docs/configuration.md
    cluster/image/export.sh

# Take the newest versions of the day that `exclude-newer` in pyproject.toml names. If it fails half
# way, `git checkout pyproject.toml`
upgrade:
    cluster/image/pin.py
    uv lock --upgrade
    cluster/image/export.sh
    cluster/image/pin.py cluster/image/requirements-*.txt
    uv lock

# Serve on port 8000
serve:
    uv run serve run serve_config.yaml
