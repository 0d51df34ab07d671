#!/bin/sh
# Makes .venv and installs a lock file into it: devstack/install.sh run|dev
# Does nothing when that is done already. Needs a Python 3.11 or newer, and nothing else.
set -eu

VENV=.venv
LOCK="requirements-$1.lock"
# There from before the first change to after the last: a .venv that has it is not whole.
UNFINISHED="$VENV/.unfinished"

say() { printf '%s\n' "$@" >&2; }
die() { say "$@"; exit 1; }

# The stamp of a finished installation is a copy of the lock file it was made from.
is_installed() { [ ! -e "$UNFINISHED" ] && cmp -s "requirements-$1.lock" "$VENV/installed-$1.lock"; }

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

has_pip() { "$1" -m pip --version >/dev/null 2>&1; }

find_python() {
    for candidate in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3}; do
        if is_new_enough "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    die "No Python 3.11 or newer here${PYTHON:+: $PYTHON is none}." \
        "Install one, or name it: make run PYTHON=/path/to/python3"
}

make_venv() {
    python=$(find_python)
    say "Making $VENV with $("$python" --version)"
    rm -rf "$VENV"
    mkdir "$VENV"
    : > "$UNFINISHED"
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv "$VENV"
    elif has_pip "$python"; then
        # Debian and Ubuntu keep ensurepip in a package of its own; pip from outside will do.
        "$python" -m venv --without-pip "$VENV"
    else
        die "$python cannot make a virtual environment: it lacks the ensurepip module." \
            "On Debian or Ubuntu: apt-get install python3-venv"
    fi
}

install_lock() {
    if has_pip "$VENV/bin/python"; then
        set -- "$VENV/bin/python" -m pip
    else
        set -- "$(find_python)" -m pip --python "$VENV/bin/python"
    fi
    # Quiet: what goes wrong is said all the same.
    "$@" install --quiet --disable-pip-version-check --require-hashes -r "$LOCK"
}

is_installed "$1" && exit
# What tests need includes what a run needs, in the same versions.
[ "$1" = run ] && is_installed dev && exit
[ -e "$LOCK" ] || die "There is no $LOCK: make lock writes it."

if [ -e "$UNFINISHED" ] || ! is_new_enough "$VENV/bin/python"; then
    make_venv
fi
: > "$UNFINISHED"
say "Installing $LOCK, which takes a minute or less"
install_lock
cp "$LOCK" "$VENV/installed-$1.lock"
rm "$UNFINISHED"
