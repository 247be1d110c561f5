"""Serves a model with llama.cpp's own HTTP server on 127.0.0.1 until killed; prints its address when it listens.

usage: llama_serve.py PORT MODEL.gguf   (needs xllamacpp; port 0 takes a free one)
"""

import socket
import sys
import threading

import xllamacpp


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


port = int(sys.argv[1]) or free_port()
params = xllamacpp.CommonParams()
params.model.path = sys.argv[2]
params.hostnames = ["127.0.0.1"]
params.port = port
params.n_parallel = 2
params.n_ctx = 2048
params.warmup = False
params.use_jinja = True
server = xllamacpp.Server(params)
print(f"listening on http://127.0.0.1:{port}", flush=True)
threading.Event().wait()
