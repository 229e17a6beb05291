#!/usr/bin/env bash
# Runs a real engine through the agent: llama.cpp's own server, built from the source package of
# llama-cpp-python, with a tiny random model. Skips, loudly, where it cannot be built.
set -euo pipefail
cd "$(dirname "$0")/.."
package=llama-cpp-python==0.3.36
work=${ENGINE_CHECK_DIR:-target/engine-check}

skip() {
    echo "engine-check: SKIPPED: $1" >&2
    echo "engine-check: nothing was proven about a real engine" >&2
    exit 0
}

mkdir -p "$work"
work=$(cd "$work" && pwd)
server=$work/build/bin/llama-server
if [ ! -x "$server" ]; then
    command -v python3 >/dev/null || skip "python3 is not there"
    command -v c++ >/dev/null || skip "there is no C++ compiler (apt-get install g++)"
    [ -x "$work/venv/bin/cmake" ] || {
        python3 -m venv "$work/venv" || skip "python3 makes no virtual environment (apt-get install python3-venv)"
        "$work/venv/bin/pip" install -q cmake ninja || skip "cmake cannot be installed from the package index"
    }
    if ! ls "$work"/llama_cpp_python-*.tar.gz >/dev/null 2>&1; then
        "$work/venv/bin/pip" download -q --no-deps --no-binary llama-cpp-python "$package" -d "$work" ||
            skip "$package cannot be fetched from the package index"
    fi
    tar -xzf "$work"/llama_cpp_python-*.tar.gz -C "$work"
    source=$(echo "$work"/llama_cpp_python-*/vendor/llama.cpp)
    # Its speed does not matter here: what is compiled fast is enough.
    "$work/venv/bin/cmake" -S "$source" -B "$work/build" -G Ninja \
        -DCMAKE_MAKE_PROGRAM="$work/venv/bin/ninja" -DCMAKE_BUILD_TYPE=Release \
        -DCMAKE_CXX_FLAGS_RELEASE=-O1 -DBUILD_SHARED_LIBS=OFF \
        -DGGML_NATIVE=OFF -DGGML_OPENMP=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF \
        -DLLAMA_BUILD_UI=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
        >"$work/configure.log" 2>&1 || skip "cmake does not accept its source (see $work/configure.log)"
    echo "engine-check: building llama-server; the first time takes minutes"
    "$work/venv/bin/ninja" ${CMAKE_BUILD_PARALLEL_LEVEL:+-j$CMAKE_BUILD_PARALLEL_LEVEL} -C "$work/build" llama-server >"$work/build.log" 2>&1 ||
        skip "llama-server cannot be built (see $work/build.log)"
fi
mkdir -p "$work/model"
python3 tests/tiny_gguf.py "$work/model/model.gguf"
# One test alone does not build the examples, and the node of the tests runs one as an engine.
"${CARGO:-cargo}" build --locked -p wharfage-agent --example development_engine
WHARFAGE_LLAMA_SERVER=$server WHARFAGE_LLAMA_MODEL=$work/model/model.gguf \
    "${CARGO:-cargo}" test --locked -p wharfage-agent --test node -- --nocapture \
    the_real_server_of_llama_cpp
"$server" --version
echo "engine-check: llama.cpp's real server was started, proven, asked and ended by the agent"
