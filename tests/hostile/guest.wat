;; A channel's plugin without a language: what no compiler would emit can be written into it. Its records stand in memory
;; byte by byte, as the canonical ABI has them.
;;
;; It answers every request with the plan `GET /`, until it is asked for `/arm`: from then on it does what was put in the
;; places marked `{…}`, which see the locals and functions below, once. Only the instance that was asked is armed.
;;
;;   8      "/"
;;   1024   the answer: the discriminant (0 sends, 1 declines, 2 refuses), then the plan at 1028:
;;            endpoint 1028, path 1040, query 1048, headers 1060, body 1068, credentials 1076, model 1084, meters 1096,
;;            options 1104 (a text or list: address, length; an option: its discriminant before)
;;          or the refusal: status 1028, code 1032, message 1040
;;   2048   what `configure` answers: a profile of nothing
;;   4096   the arguments, which the host writes
;;   131072 "aaa…", 3 MiB of it once `$fill` was called; zeros before
(module
  (import "aiproxy:plugin/log@0.1.0" "log" (func $log (param i32 i32 i32)))
  (import "wasi:cli/stdout@0.2.6" "get-stdout" (func $stdout (result i32)))
  (import "wasi:cli/stderr@0.2.6" "get-stderr" (func $stderr (result i32)))
  (import "wasi:io/streams@0.2.6" "[method]output-stream.write" (func $write (param i32 i32 i32 i32)))
  (import "wasi:io/streams@0.2.6" "[method]output-stream.write-zeroes" (func $write_zeroes (param i32 i64 i32)))
  (import "wasi:io/poll@0.2.6" "poll" (func $poll (param i32 i32 i32)))
  (import "wasi:clocks/monotonic-clock@0.2.6" "now" (func $now (result i64)))
  (import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration" (func $subscribe (param i64) (result i32)))
  (import "wasi:random/random@0.2.6" "get-random-bytes" (func $random_bytes (param i64 i32)))
  (import "wasi:random/random@0.2.6" "get-random-u64" (func $random (result i64)))
  (import "wasi:random/insecure@0.2.6" "get-insecure-random-bytes" (func $insecure_bytes (param i64 i32)))
  (memory (export "memory") 64)
  (table $table 1 funcref)
  (global $armed (mut i32) (i32.const 0))
  (global $next (mut i32) (i32.const 4096))
  {parts}

  (func $fill
    (memory.fill (i32.const 131072) (i32.const 97) (i32.const 3145728)))
  (func $deep (param $level i32) (result i32)
    (i32.add (i32.const 1) (call $deep (i32.add (local.get $level) (i32.const 1)))))
  (func $deep_and_talking (param $level i32) (result i32)
    (call $log (i32.const 0) (i32.const 8) (i32.const 1))
    (i32.add (i32.const 1) (call $deep_and_talking (i32.add (local.get $level) (i32.const 1)))))

  (func (export "cabi_realloc") (param $old i32) (param $had i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (if (i32.eq (global.get $armed) (i32.const 2)) (then {realloc}))
    (local.set $at
      (i32.and
        (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
    (global.set $next (i32.add (local.get $at) (local.get $size)))
    (local.get $at))

  (func (export "aiproxy:plugin/channel@0.1.0#configure")
    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    {configure}
    (global.set $next (i32.const 4096))
    (i32.const 2048))

  (func (export "aiproxy:plugin/channel@0.1.0#decide") (param $request i32) (result i32)
    (global.set $next (i32.const 4096))
    (i32.store8 (i32.const 8) (i32.const 47))
    (memory.fill (i32.const 1024) (i32.const 0) (i32.const 88))
    (i32.store (i32.const 1040) (i32.const 8))
    (i32.store (i32.const 1044) (i32.const 1))
    (if (i32.eq (global.get $armed) (i32.const 2)) (then {decide}))
    ;; The path's length is that of `/arm`.
    (if (i32.eq (i32.load offset=16 (local.get $request)) (i32.const 4)) (then (global.set $armed (i32.const 1))))
    (i32.const 1024))

  (func (export "cabi_post_aiproxy:plugin/channel@0.1.0#decide") (param i32)
    (if (i32.eq (global.get $armed) (i32.const 2)) (then (global.set $armed (i32.const 0)) {after}))
    (if (i32.eq (global.get $armed) (i32.const 1)) (then (global.set $armed (i32.const 2))))))
