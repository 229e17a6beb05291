#!/usr/bin/env bash
# Runs the benches of docs/benches.txt and writes docs/benchmarks.md: machine, date, commands, what
# was measured, and a last table that holds it against docs/aims.txt.
#
# A bench that lacks something prints a line `skipped: NAME ...` and goes on; the page repeats it.
# A bench that fails is named, the rest still runs, the page stays as it was, and the status is 1.
set -uo pipefail
cd "$(dirname "$0")/.."
page=docs/benchmarks.md
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

lines() { # a list's lines without comments
    grep -v '^#' "$1"
}

load() { # the load average of a minute
    cut -d' ' -f1 /proc/loadavg
}

echo "== building"
cargo build --locked --workspace --release || exit 1
# The development engine as a program of its own, which the agent's bench runs.
cargo build --locked --release -p wharfage-agent --example development_engine || exit 1
while IFS='|' read -r _ package name; do
    cargo bench --locked -q -p "$package" --bench "$name" --no-run || exit 1
done < <(lines docs/benches.txt)

before=$(load)
failed=()
while IFS='|' read -r title package name; do
    echo "== $title"
    out=$work/out
    if cargo bench --locked -q -p "$package" --bench "$name" < /dev/null > "$out" 2> "$work/errors"; then
        cat "$out"
    else
        failed+=("$package --bench $name")
        cat "$out" "$work/errors" >&2
    fi
    cat "$out" >> "$work/all-$package"
    { echo "## $title"; echo; echo "\`cargo bench -p $package --bench $name\`"; echo
      echo '```'; cat "$out"; echo '```'; echo; } >> "$work/sections"
done < <(lines docs/benches.txt)

if [ "${#failed[@]}" -gt 0 ]; then
    printf 'failed: cargo bench -p %s\n' "${failed[@]}" >&2
    echo "$page is not written" >&2
    exit 1
fi

number() { # package, pattern: the number of the first line that fits
    while IFS= read -r line; do
        if [[ $line =~ $2 ]]; then echo "${BASH_REMATCH[1]}"; return 0; fi
    done < "$work/all-$1"
    return 1
}

row() { # one line of docs/aims.txt as a row of the table
    local id=$1 figure=$2 package=$3 pattern=$4 factor=$5 op=$6 limit=$7 unit=$8 got
    if [ "$package" = - ]; then
        echo "| $id | $figure | $limit | - | not measured yet |"
    elif ! got=$(number "$package" "$pattern"); then
        echo "| $id | $figure | $op $limit $unit | - | not measured in this run |"
    else
        awk -v id="$id" -v figure="$figure" -v got="$got" -v factor="$factor" -v op="$op" \
            -v limit="$limit" -v unit="$unit" 'BEGIN {
            value = got * factor
            met = op == "<=" ? value <= limit : value >= limit
            text = value == int(value) ? sprintf("%d", value) : sprintf("%.6g", value)
            printf "| %s | %s | %s %s %s | %s %s | %s |\n", id, figure, op, limit, unit, text, unit,
                met ? "met" : "not met"
        }'
    fi
}

{
    cat << HEAD
# Benchmarks

Written by \`make bench\`; measured only. Machines are noisy: compare CPU per operation, and ratios
inside one run. Where anything is durable, raw syncs per second of the same run stand beside it.

- machine: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores, $(awk '/MemTotal/ {printf "%.0f GiB", $2/1048576}' /proc/meminfo)
- system: $(uname -sr), $(rustc --version | cut -d' ' -f1-2), release profile
- date: $(date -u +%Y-%m-%d)
- commit: $(git describe --always --dirty 2> /dev/null || echo unknown)
- load of the machine: $before before the first bench, $(load) after the last, on $(nproc) cores$(awk -v load="$before" 'BEGIN { if (load >= 0.5) print "; other work ran beside this" }')
- traces: $([ -n "${WHARFAGE_DATA:-}" ] && echo "given by WHARFAGE_DATA" || echo "none (WHARFAGE_DATA is not set)")
HEAD
    cat "$work"/all-* | sed -n 's/^skipped: /- skipped: /p'
    echo
    cat "$work/sections"
    docs/gpu-section.sh
    cat << 'HEAD'
## Against the aims

| id | figure | aim | measured | |
|---|---|---|---|---|
HEAD
    while IFS='|' read -r id figure package pattern factor op limit unit; do
        row "$id" "$figure" "$package" "$pattern" "$factor" "$op" "$limit" "$unit"
    done < <(lines docs/aims.txt)
} > "$work/page"
mv "$work/page" "$page"
echo "written: $page"
