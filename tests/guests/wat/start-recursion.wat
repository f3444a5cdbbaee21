;; Overflows its stack before anybody has called it.
(component
  (core module $m
    (func $start (call $start) (call $start))
    (start $start))
  (core instance (instantiate $m)))
