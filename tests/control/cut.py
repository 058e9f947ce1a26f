#!/usr/bin/env python3
"""A wire that breaks: cut.py PORT BYTES…: leads to PORT of this machine, and cuts the connection on which that many bytes were
sent, once for each number. Prints its own port."""

import socket
import sys
import threading

TARGET, LIMITS = int(sys.argv[1]), [int(text) for text in sys.argv[2:]]


def carry(source, sink, limit):
    """Carries bytes until there are none, or more than `limit` asks how many there may be."""
    carried = 0
    try:
        while data := source.recv(4096):
            carried += len(data)
            if limit and LIMITS and carried > LIMITS[0]:
                print(f"cut after {LIMITS.pop(0)} bytes", flush=True)
                break
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    client, _ = listener.accept()
    server = socket.create_connection(("127.0.0.1", TARGET))
    threading.Thread(target=carry, args=(client, server, True), daemon=True).start()
    threading.Thread(target=carry, args=(server, client, False), daemon=True).start()
