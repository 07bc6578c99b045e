"""etcd v3 by its JSON gateway, as far as it is needed: reads, transactions, waiting for one key. Standard library only, so that
neutron-server's green threads work with it.

Must not know: what is kept there."""

import base64
import contextlib
import http.client
import json
import socket
import time

TIMEOUT_S = 10


class Failure(Exception):
    """etcd has not done it, or nobody knows."""


@contextlib.contextmanager
def _understood():
    """What is answered need not be etcd's: a proxy's, say."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Failure(f"etcd's answer cannot be read: {error!r}") from error


def _coded(text):
    return base64.b64encode(text.encode()).decode()


def _text(coded):
    return base64.b64decode(coded or "").decode(errors="replace")


def _after(prefix):
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def is_value(key, value):
    return {"key": _coded(key), "result": "EQUAL", "target": "VALUE", "value": _coded(value)}


def is_at(key, revision):
    """Unchanged since that revision; 0: it is not there."""
    return {"key": _coded(key), "result": "EQUAL", "target": "MOD", "mod_revision": str(revision)}


def put(key, value):
    return {"request_put": {"key": _coded(key), "value": _coded(value)}}


def delete(key):
    return {"request_delete_range": {"key": _coded(key)}}


class Etcd:
    def __init__(self, host, port):
        self._place = (host, port)

    def _open(self, path, body, timeout):
        connection = http.client.HTTPConnection(*self._place, timeout=timeout)
        try:
            connection.request("POST", f"/v3/{path}", json.dumps(body))
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Failure(f"etcd at {self._place[0]}:{self._place[1]}: {error}") from error

    def _call(self, path, **body):
        connection, answer = self._open(path, body, TIMEOUT_S)
        try:
            value = json.loads(answer.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Failure(f"etcd: {error}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise Failure(f"etcd: {value.get('message', value) if isinstance(value, dict) else value}")
        return value

    def read(self, key):
        """(value or None, the revision of the last change of it, the store's revision)"""
        answer = self._call("kv/range", key=_coded(key))
        with _understood():
            revision = int(answer["header"]["revision"])
            for kv in answer.get("kvs", []):
                return _text(kv.get("value")), int(kv["mod_revision"]), revision
            return None, 0, revision

    def get(self, key):
        return self.read(key)[0]

    def list(self, prefix):
        """{key: value} of all keys that begin so."""
        answer = self._call("kv/range", key=_coded(prefix), range_end=_coded(_after(prefix)))
        with _understood():
            int(answer["header"]["revision"])  # nothing is not "no keys"
            return {_text(kv["key"]): _text(kv.get("value")) for kv in answer.get("kvs", [])}

    def transact(self, compares, operations):
        """The revision if all compares held and the operations are done, else None."""
        answer = self._call("kv/txn", compare=compares, success=operations, failure=[])
        with _understood():
            revision = int(answer["header"]["revision"])
            return revision if answer.get("succeeded") else None

    def wait_for(self, key, value, revision, seconds):
        """True once the key has, or had at any time after that revision, this value; False when time is over. What changed before
        this was called is not missed."""
        deadline = time.monotonic() + seconds
        create = {"create_request": {"key": _coded(key), "start_revision": str(revision + 1)}}
        while time.monotonic() < deadline:
            try:
                connection, answer = self._open("watch", create, max(0.1, deadline - time.monotonic()))
            except Failure:
                time.sleep(0.2)
                continue
            try:
                while time.monotonic() < deadline:
                    line = answer.readline()
                    if not line:
                        break
                    with _understood():
                        result = json.loads(line).get("result", {})
                        canceled = result.get("canceled")
                        told = [_text(event["kv"].get("value")) for event in result.get("events", []) if event.get("type") != "DELETE"]
                    if canceled:  # its history is compacted: what stands there now must do
                        return self.get(key) == value
                    if value in told:
                        return True
            except (socket.timeout, TimeoutError):
                return False
            except (OSError, Failure, http.client.HTTPException):
                time.sleep(0.2)
            finally:
                connection.close()
        return False
