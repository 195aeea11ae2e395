#!/bin/sh
# Writes the image's requirements from the lock, into FOLDER or beside this file.
set -eu
cd "$(dirname "$0")/../.."
folder=${1:-cluster/image}

export_to() {
    file=$1
    shift
    uv export --quiet --no-emit-project --no-annotate --no-header --output-file "$folder/$file" "$@"
}

export_to requirements.txt --no-default-groups
export_to requirements-build.txt --only-group image-build
export_to requirements-bill.txt --only-group image-bill
# Not on PyPI: the Dockerfile installs it from its repository.
export_to requirements-cuda.txt --no-default-groups --extra stable-audio \
    --no-emit-package stable-audio-3
