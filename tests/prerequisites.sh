#!/usr/bin/env bash
# Installs what a step needs where that is permitted, else stops with the exact command.
set -euo pipefail

need() { # program, debian package
    command -v "$1" >/dev/null 2>&1 && return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing $2, which this step needs for $1"
        apt-get update -qq >/dev/null 2>&1 || true
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >/dev/null && return 0
    fi
    echo "this step needs $1; install it with: sudo apt-get install $2" >&2
    exit 69
}

case "${1:-build}" in
build)
    need cc gcc
    need make make
    command -v cargo >/dev/null 2>&1 || {
        echo "this step needs Rust 1.95; install it with: curl https://sh.rustup.rs -sSf | sh" >&2
        exit 69
    }
    for component in rustfmt clippy; do
        cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 || {
            echo "this step needs $component; install it with: rustup component add $component" >&2
            exit 69
        }
    done
    ;;
browser)
    need chromium chromium
    ;;
units)
    need systemd-analyze systemd
    need curl curl
    # A container that boots needs root anyway; elsewhere the stories about it say that they skip.
    if [ "$(id -u)" = 0 ]; then need systemd-nspawn systemd-container; need dbus-daemon dbus; fi
    ;;
esac
