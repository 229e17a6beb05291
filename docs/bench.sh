#!/usr/bin/env bash
# Runs every bench and writes docs/benchmarks.md: machine, date, command, and what was measured.
set -euo pipefail
cd "$(dirname "$0")/.."
page=docs/benchmarks.md
part=$(mktemp)
trap 'rm -f "$part"' EXIT

cargo build --locked --workspace --release

cat > "$part" <<EOF
# Benchmarks

Measured only, by \`make bench\`. Machines are noisy: compare CPU per operation, and ratios inside one
run. Where anything is durable, raw syncs per second of the same run stand beside it.

- machine: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores, $(awk '/MemTotal/ {printf "%.0f GiB", $2/1048576}' /proc/meminfo)
- system: $(uname -sr)
- date: $(date -u +%Y-%m-%d)
- commit: $(git rev-parse --short HEAD 2>/dev/null || echo unknown)
- traces: ${WHARFAGE_DATA:+given by WHARFAGE_DATA}${WHARFAGE_DATA:-none; benches that need them say so and are left out}

EOF
sed -i "s#given by WHARFAGE_DATA.*#given by WHARFAGE_DATA#" "$part"

bench() { # title, package, bench
    echo "== $1"
    local out
    out=$(cargo bench --locked -q -p "$2" --bench "$3" 2>&1 | tee /dev/stderr)
    { echo "## $1"; echo; echo "\`cargo bench -p $2 --bench $3\`"; echo; echo '```'; echo "$out"; echo '```'; echo; } >> "$part"
}

while IFS='|' read -r title package name; do
    bench "$title" "$package" "$name"
done < docs/benches.txt

mv "$part" "$page"
trap - EXIT
echo "written: $page"
