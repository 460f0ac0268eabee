"""The measurements that the README quotes, and the plain designs they compare with.

    python -m benchmarks.cold_start     process start to first correct answer, and memory
    python -m benchmarks.waterfall      a picture of where that time goes
    python -m benchmarks.load           many clients at once: errors, latency, requests a second

    plain_torch, plain_onnx    what people deploy today
    servers                    starts and stops a server of each kind
    lambda_runtime_api         the API that Lambda's runtime client polls, on this machine
    start, files, traced       one start of one server; the files it opens; when it imports what
    checkpoints                what the torch baselines serve
    processes, report          memory of a process tree; tables and JSON

`make bench` runs them. Everything is compared within one run: absolute figures are this machine's.
May import anything.
"""
