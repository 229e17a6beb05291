#!/usr/bin/env bash
# Prints the section "On real GPUs" of docs/benchmarks.md; with a page, puts it there in place of the
# one that it has. The figures are those that `make gpu-check` wrote on a host with GPUs.
set -euo pipefail
figures=$(dirname "$0")/gpu-figures.txt

section() {
    echo "## On real GPUs"
    echo
    echo "\`make gpu-check\`"
    echo
    if [ -s "$figures" ]; then
        echo '```'
        cat "$figures"
        echo '```'
    else
        echo "It has not run on a GPU yet: all other figures here come from the fake driver of \`fakes/\`."
    fi
    echo
}

if [ $# -eq 0 ]; then
    section
    exit
fi
page=$1
new=$(mktemp "$page.XXXXXX")
trap 'rm -f "$new"' EXIT
awk -v section="$(section)" '
    /^## / { skipping = 0 }
    /^## On real GPUs$/ { skipping = 1; next }
    /^## Against the aims$/ { print section "\n" }
    !skipping { print }
' "$page" > "$new"
chmod 644 "$new"
mv "$new" "$page"
echo "written: $page"
