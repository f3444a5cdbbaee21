;; Loops before anybody has called it.
(component
  (core module $m
    (func $start (loop (br 0)))
    (start $start))
  (core instance (instantiate $m)))
