;; The two chunkers. Memory: 0 to 2047 the gear table (256 u64), 2048 to 4095 the same shifted left by one,
;; from 4096 the data. Both functions return the length of the chunk that starts at $data.
;;
;; To regenerate KERNEL_BASE64 in fastcdc.ts: wat2wasm fastcdc_kernel.wat -o - | base64 -w 96
(module
  (memory (export "memory") 1)

  ;; FastCDC as in Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage
  ;; Systems", IEEE TPDS 31 (2020), algorithm 3: two bytes per step. Masks are tested one bit higher at the first byte
  ;; of a step, where the hash is already shifted by two.
  (func (export "fastCdc")
    (param $data i32) (param $length i32) (param $min i32) (param $average i32) (param $max i32)
    (param $maskSmall i64) (param $maskLarge i64)
    (result i32 i64)
    (local $hash i64) (local $at i32) (local $center i32) (local $mask i64) (local $end i32)
    (if (i32.le_u (local.get $length) (local.get $min))
      (then (return (local.get $length) (i64.const 0))))
    (if (i32.gt_u (local.get $length) (local.get $max))
      (then (local.set $length (local.get $max))))
    (local.set $center (select (local.get $length) (local.get $average)
      (i32.lt_u (local.get $length) (local.get $average))))
    (local.set $at (i32.add (local.get $data) (i32.and (local.get $min) (i32.const -2))))
    ;; First up to the average with the harder mask, then up to the end with the easier one.
    (local.set $mask (local.get $maskSmall))
    (local.set $end (i32.add (local.get $data) (i32.and (local.get $center) (i32.const -2))))
    (loop $phase
      (block $done
        (loop $step
          (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
          (local.set $hash (i64.add
            (i64.shl (local.get $hash) (i64.const 2))
            (i64.load offset=2048 (i32.shl (i32.load8_u (local.get $at)) (i32.const 3)))))
          (if (i64.eqz (i64.and (local.get $hash) (i64.shl (local.get $mask) (i64.const 1))))
            (then (return (i32.sub (local.get $at) (local.get $data)) (local.get $hash))))
          (local.set $hash (i64.add
            (local.get $hash)
            (i64.load (i32.shl (i32.load8_u offset=1 (local.get $at)) (i32.const 3)))))
          (if (i64.eqz (i64.and (local.get $hash) (local.get $mask)))
            (then (return
              (i32.add (i32.sub (local.get $at) (local.get $data)) (i32.const 1))
              (local.get $hash))))
          (local.set $at (i32.add (local.get $at) (i32.const 2)))
          (br $step)))
      (local.set $mask (local.get $maskLarge))
      (local.set $center (i32.add (local.get $data) (i32.and (local.get $length) (i32.const -2))))
      (if (i32.ne (local.get $end) (local.get $center))
        (then (local.set $end (local.get $center)) (br $phase))))
    (local.get $length) (local.get $hash))

  ;; A plain gear chunker: one mask, one byte per step, the chunk ends with the byte that matches. Only the last 64
  ;; bytes affect the hash, so hashing starts 64 bytes before the first possible cut.
  (func (export "gear")
    (param $data i32) (param $length i32) (param $min i32) (param $max i32) (param $mask i64)
    (result i32 i64)
    (local $hash i64) (local $at i32) (local $first i32) (local $end i32)
    (if (i32.gt_u (local.get $length) (local.get $max))
      (then (local.set $length (local.get $max))))
    (local.set $end (i32.add (local.get $data) (local.get $length)))
    (local.set $first (i32.add (local.get $data) (local.get $min)))
    (local.set $at (select
      (i32.sub (local.get $first) (i32.const 64)) (local.get $data)
      (i32.ge_u (local.get $min) (i32.const 64))))
    (block $done
      (loop $step
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $hash (i64.add
          (i64.shl (local.get $hash) (i64.const 1))
          (i64.load (i32.shl (i32.load8_u (local.get $at)) (i32.const 3)))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $step (i32.lt_u (local.get $at) (local.get $first)))
        (br_if $step (i64.ne (i64.and (local.get $hash) (local.get $mask)) (i64.const 0)))
        (return (i32.sub (local.get $at) (local.get $data)) (local.get $hash))))
    (local.get $length) (local.get $hash)))
