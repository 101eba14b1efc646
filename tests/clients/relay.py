"""A relay between a client and an engine that cuts its connections whenever a test wants, in mid-message or not."""

import socket
import struct
import threading


class Relay:
    """Listens on a port of its own and passes bytes on to `port`; `with` ends it."""

    def __init__(self, port):
        self.to = port
        self.pairs = set()
        self.lock = threading.Lock()
        self.accepted = 0
        # Requests as their bytes came, to see what a client asks for.
        self.requests = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Wakes `accept`, which a close alone does not.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()

    def cut(self):
        """Ends every connection with a reset, as a machine does that was switched off and on."""
        with self.lock:
            pairs, self.pairs = self.pairs, set()
        for pair in pairs:
            for end in pair:
                # Linger of no seconds: a reset instead of an orderly end.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                try:
                    end.shutdown(socket.SHUT_RD)
                except OSError:
                    pass  # The peer was faster.
                end.close()
        return len(pairs)

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                near.close()
                continue
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = (near, far)
            with self.lock:
                self.accepted += 1
                self.pairs.add(pair)
            threading.Thread(target=self._pass, args=(near, far, pair, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, pair, False), daemon=True).start()

    def _pass(self, source, sink, pair, asks):
        try:
            while data := source.recv(65536):
                if asks and data.startswith(b"GET "):
                    self.requests.append(data.decode("latin-1"))
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except (OSError, ValueError):
            pass  # One of the two was cut.
        with self.lock:
            if pair in self.pairs and not asks:
                self.pairs.discard(pair)
                for end in pair:
                    end.close()
