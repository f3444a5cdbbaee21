;; Panics before anybody has called it.
(component
  (core module $m
    (func $start (unreachable))
    (start $start))
  (core instance (instantiate $m)))
