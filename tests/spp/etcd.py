"""A real etcd on an address of its own, and its JSON gateway, as networking-spp's driver and agent use it (etcd3gw).

Must not know: what is tested."""

import base64
import http.client
import json
import os
import ssl
import subprocess
import time

DEADLINE_S = 60


def find():
    """The program, or None."""
    for path in (os.environ.get("PENSTOCK_ETCD"), "/usr/bin/etcd"):
        if path and os.access(path, os.X_OK):
            return path
    return None


def text(value):
    return base64.b64decode(value or "").decode(errors="replace")


def coded(value):
    return base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()


class Etcd:
    def __init__(self, folder, address):
        self.folder, self.address = folder, address
        self.process = self.tls = self.token = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *unused):
        self.kill()

    def file(self, name):
        return str(self.folder / name)

    def openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=self.folder)

    def secure(self):
        """Under mutual TLS from its next start on: an authority, and what it has signed for the server and its clients. False: no openssl."""
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        try:
            self.openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=ca", "-days", "2")
        except FileNotFoundError:
            return False
        for name in ("etcd", "client", "caller"):
            (self.folder / "names").write_text(f"subjectAltName=DNS:{name}.test\n", encoding="utf-8")
            self.openssl("req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/O=caller" if name == "caller" else f"/CN={name}.test")
            self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", f"{name}.crt",
                         "-days", "2", "-extfile", "names")  # fmt: skip
        self.tls = ssl.create_default_context(cafile=self.file("ca.crt"))
        self.tls.check_hostname = False
        self.tls.load_cert_chain(self.file("caller.crt"), self.file("caller.key"))  # the gateway takes nobody with a common name
        return True

    def enable_users(self, name, password, prefix):
        """One who may read and write below a prefix, and root, whom our own calls come from."""
        self.call("auth/role/add", name=name)
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        self.call("auth/role/grant", name=name, perm={"permType": "READWRITE", "key": coded(prefix), "range_end": coded(end)})
        for user, word, role in ((name, password, name), ("root", "of all", "root")):
            self.call("auth/user/add", name=user, password=word)
            self.call("auth/user/grant", user=user, role=role)
        self.call("auth/enable")
        self.token = self.call("auth/authenticate", name="root", password="of all")["token"]

    def start(self):
        client, peer = f"http{'s' if self.tls else ''}://{self.address}:2379", f"http://{self.address}:2380"
        tls = ["--cert-file", self.file("etcd.crt"), "--key-file", self.file("etcd.key"), "--trusted-ca-file", self.file("ca.crt"), "--client-cert-auth"]
        with open(self.folder / "etcd.log", "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [find(), "--data-dir", str(self.folder / "etcd"), "--name", "one", "--listen-client-urls", client, "--advertise-client-urls", client,
                 "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"one={peer}", "--unsafe-no-fsync", *(tls if self.tls else [])],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL)  # fmt: skip
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                self.call("kv/range", key=coded("x"))
                return
            except (OSError, http.client.HTTPException, ValueError, AssertionError):
                assert time.monotonic() < deadline and self.process.poll() is None, "etcd does not come up"
                time.sleep(0.05)

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def call(self, path, **body):
        plain = self.tls is None
        connection = (http.client.HTTPConnection(self.address, 2379, timeout=DEADLINE_S) if plain
                      else http.client.HTTPSConnection(self.address, 2379, timeout=DEADLINE_S, context=self.tls))  # fmt: skip
        try:
            connection.request("POST", f"/v3/{path}", json.dumps(body), {"Authorization": self.token} if self.token else {})
            answer = connection.getresponse()
            data = answer.read()
            assert answer.status == 200 or data[:1] == b"{", (path, answer.status, data)
            value = json.loads(data)
            if answer.status != 200:
                raise ValueError(value)
            return value
        finally:
            connection.close()

    def put(self, key, value):
        self.call("kv/put", key=coded(key), value=coded(value))

    def get(self, key):
        """The value, or None."""
        kvs = self.call("kv/range", key=coded(key)).get("kvs", [])
        return text(kvs[0].get("value")) if kvs else None

    def prefix(self, key):
        end = key[:-1] + chr(ord(key[-1]) + 1)
        return {text(kv["key"]): text(kv.get("value")) for kv in self.call("kv/range", key=coded(key), range_end=coded(end)).get("kvs", [])}

    def delete(self, key):
        self.call("kv/deleterange", key=coded(key))

    def replace(self, key, old, new):
        """Compare and swap, as etcd3gw has it."""
        return self.call("kv/txn", compare=[{"key": coded(key), "result": "EQUAL", "target": "VALUE", "value": coded(old)}],
                         success=[{"request_put": {"key": coded(key), "value": coded(new)}}], failure=[]).get("succeeded", False)  # fmt: skip

    def revision(self):
        return int(self.call("kv/range", key=coded("x"))["header"]["revision"])

    def compact(self):
        self.call("kv/compaction", revision=str(self.revision()), physical=True)

    def history(self, since, prefix="/spp/"):
        """All that was done after a revision, in order: "put KEY VALUE", "delete KEY"."""
        last = self.revision()
        if last <= since:
            return []
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        connection = http.client.HTTPConnection(self.address, 2379, timeout=DEADLINE_S)
        lines, seen = [], 0
        # The last revision need not be below the prefix: one key of our own marks the end.
        self.put(prefix + "~", "end")
        try:
            connection.request("POST", "/v3/watch", json.dumps(
                {"create_request": {"key": coded(prefix), "range_end": coded(end), "start_revision": str(since + 1)}}))  # fmt: skip
            answer = connection.getresponse()
            while seen == 0:
                for event in json.loads(answer.readline())["result"].get("events", []):
                    key = text(event["kv"]["key"])
                    if key == prefix + "~":
                        seen = 1
                    elif event.get("type") == "DELETE":
                        lines.append(f"delete {key}")
                    else:
                        lines.append(f"put {key} {text(event['kv'].get('value'))}")
        finally:
            connection.close()
        return lines
