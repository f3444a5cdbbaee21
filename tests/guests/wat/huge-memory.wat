;; Declares a memory of 4 GiB.
(component
  (core module $m
    (memory 65536))
  (core instance (instantiate $m)))
