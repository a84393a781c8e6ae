package main

const usageText = `transfer moves models between a directory and an OCI, Docker or Ollama registry.

  transfer demo [flags]            make a model, push it, pull it back, compare every byte
  transfer pull [flags] REF DIR    fetch a model into DIR: its blobs, then manifest.json
  transfer push [flags] DIR REF    send the model that DIR/manifest.json describes

REF names a model:
  registry.example[:port]/repository[:tag][@digest]   https, except for localhost, 127.0.0.0/8 and [::1]
  http://host[:port]/repository[:tag]                 with the scheme said aloud
  name[:tag], namespace/name[:tag]                    registry.ollama.ai/library/name, registry.ollama.ai/namespace/name
The tag is "latest" where none is given. A word before the first slash is a host when it
has a dot or a colon in it or is localhost.

Blobs lie in DIR as sha256-<hex>. What was moved is not moved again: after a failure or
Ctrl-C, run the same command again.

Flags of all commands:
  --concurrency N      most blobs in flight at once (default: 64 down, 32 up)
  --limit-rate RATE    most bytes per second, such as 10M
  --username NAME      log in as NAME with the password in TRANSFER_PASSWORD; without it,
                       the "auths" of ~/.docker/config.json, or anonymous
  --verbose            log each step to stderr
  --quiet              print nothing but errors

Flags of pull:
  --verify             hash the files that are already there again, repair what is wrong
  --mirror URL         ask this registry first; may be repeated

Flags of demo:
  --registry URL       use this registry, also host[:port], instead of one inside the program
  --repository NAME    repository to push to (default demo/tensors)
  --dir DIR            work in DIR and leave the files there; otherwise they are removed
  --size BYTES         size of the one big blob, 0 for none (default 256M)
  --tensors N          number of small blobs (default 300)
  --seed N             another number makes another model (default 1)
The demo needs about three times the size of its model on disk, in TMPDIR or DIR.

Sizes may end in K, M, G or T (powers of 1000) or Ki, Mi, Gi or Ti (powers of 1024).

Exit codes: 0 done, 1 failed, 2 not understood, 130 interrupted.

Examples:
  transfer demo
  transfer demo --size 2G --tensors 5000 --dir /tmp/demo
  transfer pull all-minilm ./all-minilm
  transfer pull --limit-rate 10M --mirror https://mirror.example registry.example/me/model:v1 ./model
  TRANSFER_PASSWORD=... transfer push --username me ./model registry.example/me/model:v1
  transfer push ./model localhost:5000/me/model
`
