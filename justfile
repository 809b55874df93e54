# Every verb a developer or CI may use. `just` alone lists them.

_list:
    @just --list --unsorted

# Install what this machine lacks
setup:
    cargo xtask setup --lint --bench

# Replicate real directories and verify the result
demo:
    cargo xtask demo

# Build everything and run every test
test:
    cargo xtask test

# The long runs: a thousand kills, more random cases
test-slow:
    cargo xtask test --long

# Format
fmt:
    cargo fmt --all

# Everything CI checks besides the tests
lint: tidy deny doc
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Dependency rules, names, sizes
tidy:
    cargo xtask tidy

# Licences, duplicates and sources of dependencies
deny:
    cargo deny check bans licenses sources

# Known vulnerabilities of dependencies; needs the advisory database
audit:
    cargo deny check advisories

# The API documentation
doc:
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps

# Build every crate alone, which shows features it only borrows
check-each:
    for manifest in crates/*/Cargo.toml movers/*/Cargo.toml; do cargo check --all-targets --manifest-path "$manifest" || exit 1; done

# Write deploy/crds from the Rust types
crds:
    cargo xtask crdgen

# Write deploy/install.yaml from the Helm chart
render:
    cargo xtask render

# Measure the rsync mover against rsync, or the operator in a cluster
bench name *options:
    cargo xtask bench {{name}} {{options}}

# Build a container image: localhost/volsync-NAME:dev
image name:
    cargo xtask image {{name}}

# Run one scenario folder of test-e2e/scenarios
scenario name:
    cargo build --workspace --all-targets
    cargo test --workspace --test scenarios {{name}}

# Fuzz one target of the rsync mover for a minute
fuzz target:
    cd movers/rsync && RUSTC_BOOTSTRAP=1 cargo fuzz run {{target}} -- -max_total_time=60

# What CI runs
ci:
    .ci/run
