#!/bin/sh
# rustc for our own packages, as cargo calls it for `cargo dev fuzz` (RUSTC_WORKSPACE_WRAPPER): with coverage for the fuzzer
# and AddressSanitizer, whose runtime comes with the toolchain. Dependencies are built as ever, and once for all.
rustc=$1
shift
RUSTC_BOOTSTRAP=1 exec "$rustc" "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address -Cdebuginfo=0
