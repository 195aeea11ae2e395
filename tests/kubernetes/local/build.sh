#!/bin/sh
# Builds what a cluster needs, from Go modules: build.sh FOLDER
set -eu
kubernetes=1.36.3
coredns=1.14.7
router=2.1.0
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mkdir -p "$1/bin" && cd "$1" && pwd)
# The same libraries everywhere are compiled once.
minor=0.${kubernetes#*.}
libraries="k8s.io/client-go@v$minor k8s.io/api@v$minor k8s.io/apimachinery@v$minor"

module() { # name: begin a module, with the program of that name if it is one of ours
    mkdir -p "$folder/src/$1"
    cd "$folder/src/$1"
    rm -f go.mod go.sum
    go mod init "example.com/$1" 2>/dev/null
    if [ -d "$here/$1" ]; then cp "$here/$1/main.go" .; fi
}

build() { # program, package, further linker flags
    go build -trimpath -ldflags "-s -w ${3:-}" -o "$folder/bin/$1" "$2"
}

module kubernetes
go mod edit "-require=k8s.io/kubernetes@v$kubernetes"
go mod download k8s.io/kubernetes
# Its own `go.mod` takes the libraries from folders that the module does not have.
go mod edit -json "$(go list -m -f '{{.GoMod}}' k8s.io/kubernetes)" |
    python3 -c '
import json, sys
for entry in json.load(sys.stdin)["Replace"]:
    name = entry["Old"]["Path"]
    print(f"-replace={name}={name}@v{sys.argv[1]}")
' "$minor" | xargs go mod edit
go mod tidy
# Without a version it is a pre-release to those who ask.
x=k8s.io/component-base/version
build kubernetes . "-X $x.gitVersion=v$kubernetes -X $x.gitMajor=1 -X $x.gitMinor=${kubernetes#*.}"
for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl; do
    ln -sf kubernetes "$folder/bin/$name"
done

module dns
go get "github.com/coredns/coredns@v$coredns" $libraries
go mod tidy
build coredns .

module router
go get "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router@v$router" $libraries
build kube-router github.com/cloudnativelabs/kube-router/v2/cmd/kube-router

module pause
build pause .
