# What the benchmarks have in common: a work folder that goes at the end, free ports, nginx and gateways as peers, their
# CPU time and memory. Sourced, with `here`, `root` and `workers` set.

fail() {
    echo "bench/${0##*/}: $*" >&2
    exit 1
}

# Debian keeps nginx where the path of an ordinary user does not lead.
PATH=$PATH:/usr/sbin
modules() { nginx -V 2>&1 | grep -o -- '--modules-path=[^ ]*' | cut -d= -f2; }

# built PACKAGE: builds a program, and says where it is.
built() {
    (cd "$root" && cargo build --locked --release --package "$1" --bin "$1") >&2
    echo "${CARGO_TARGET_DIR:-$root/target}/release/$1"
}

# In memory where that is possible: a disk's mood is nobody's merit.
shm=/dev/shm
[[ -d $shm && -w $shm ]] || shm=${TMPDIR:-/tmp}
work=$(mktemp -d "$shm/aiproxy-bench.XXXXXX")
started=()
finish() {
    local status=$?
    trap - EXIT
    if ((${#started[@]})); then
        kill "${started[@]}" 2>/dev/null || true
        wait "${started[@]}" 2>/dev/null || true
    fi
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

taken=()
free_port() {
    while port=$((RANDOM % 20000 + 10000)); do
        if [[ " ${taken[*]} " != *" $port "* ]] && ! answers "$port"; then break; fi
    done
    taken+=("$port")
}

# wait_for WHAT CONDITION…: until the condition holds, for ten seconds at most.
wait_for() {
    local what=$1 tries
    shift
    for ((tries = 0; tries < 100; tries++)); do
        if "$@"; then return; fi
        sleep 0.1
    done
    cat "$work/$what/"*.log >&2 || true
    fail "$what does not start"
}

upstream_key=sk-upstream-bench-0123456789abcdef0123456789abcdef
PROXY_KEY=sk-aiproxy-bench-0123456789abcdef0123456789abcdef
export PROXY_KEY

# What a mock upstream answers, where it is an nginx.
reply=
declare -A pid port_of path_of

# start_nginx NAME: with NAME.conf, on a port of its own.
start_nginx() {
    local name=$1 extra=()
    free_port
    if [[ $name == mock ]]; then mock=$port; fi
    port_of[$name]=$port
    mkdir "$work/$name"
    sed -e "s|@PORT@|$port|; s|@MOCK@|$mock|; s|@WORKERS@|$workers|; s|@REPLY@|$reply|; s|@MODULES@|$(modules)|" \
        -e "s|@UPSTREAM_KEY@|$upstream_key|; s|@PROXY_KEY@|$PROXY_KEY|" "$here/$name.conf" >"$work/$name/nginx.conf"
    # As root, the workers stay root, so that they may write below the private temporary folder.
    if ((EUID == 0)); then extra=(-g 'user root;'); fi
    nginx -p "$work/$name/" -c nginx.conf -e error.log "${extra[@]}" >"$work/$name/out.log" 2>&1 &
    pid[$name]=$!
    started+=($!)
    wait_for "$name" answers "$port"
}

# start_gateway NAME BINARY
start_gateway() {
    local name=$1 binary=$2 folder=$work/$1
    mkdir -p "$folder/conf" "$folder/plugins"
    cat >"$folder/conf/channels_config.json" <<JSON
{"channels": {"bailian": {
  "name": "bench", "api_key": "$upstream_key", "base_url": "http://127.0.0.1:$mock", "proxy": "direct",
  "supports_websocket": true
}}}
JSON
    echo "[{\"id\": \"bench-1\", \"proxy_key\": \"$PROXY_KEY\", \"channel\": \"bailian\"}]" >"$folder/conf/api_keys.json"
    echo "{\"access_log\": \"$folder/access.log\"}" >"$folder/conf/gateway.json"
    : >"$folder/out.log"
    "$binary" serve --conf "$folder/conf" --plugins "$folder/plugins" --state "$folder/state" \
        --listen 127.0.0.1:0 --workers "$workers" >"$folder/out.log" 2>"$folder/error.log" &
    pid[$name]=$!
    started+=($!)
    wait_for "$name" grep -q '^listening on ' "$folder/out.log"
    port_of[$name]=$(sed -n 's/^listening on .*://p' "$folder/out.log")
}

processes() { echo "$1"; cat "/proc/$1/task/$1/children"; }

# User and system time of all threads of all processes of a peer, in microseconds; those that ended count too.
cpu_us() {
    local process
    for process in $(processes "${pid[$1]}"); do cat "/proc/$process/stat"; done |
        awk -v tick="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); sum += $12 + $13 } END { printf "%d\n", sum * 1e6 / tick }'
}

# The memory that a peer would give back, shared pages counted by share.
memory_kb() {
    local process
    for process in $(processes "${pid[$1]}"); do cat "/proc/$process/smaps_rollup"; done |
        awk '/^Pss:/ { sum += $2 } END { print sum }'
}

# A function of awk's that is needed for every table of medians.
median_awk='
    function median(values, count,    i, j, kept) {
        for (i = 2; i <= count; i++) {
            kept = values[i]
            for (j = i - 1; j >= 1 && values[j] > kept; j--) values[j + 1] = values[j]
            values[j + 1] = kept
        }
        return count % 2 ? values[(count + 1) / 2] : (values[count / 2] + values[count / 2 + 1]) / 2
    }'
