"""OpenStack Swift in one process, on one address, for tests: the real proxy, account, container and
object servers, and tempauth (version 1 of its authentication).

    swift_server.py ADDRESS PORT DIRECTORY USER KEY

Its tokens are kept in this process, as there is no memcached. Objects need a file system with extended
attributes.
"""

import os
import socket
import sys

# Held from the start, and by one alone: who was told the same port ends at once and is told another.
held = socket.socket()
held.bind((sys.argv[1], int(sys.argv[2])))

import eventlet
import eventlet.greenio
import eventlet.wsgi

eventlet.monkey_patch()

from swift.account.server import AccountController
from swift.common import utils
from swift.common.middleware import catch_errors, gatekeeper, listing_formats, tempauth
from swift.common.ring import RingBuilder
from swift.container.server import ContainerController
from swift.obj.server import ObjectController
from swift.proxy.server import Application


class Cache:
    """What Swift asks of memcached, in this process."""

    def __init__(self, app):
        self.app = app
        self.kept = {}

    def __call__(self, env, start_response):
        env["swift.cache"] = self
        return self.app(env, start_response)

    def get(self, key, *_, **__):
        return self.kept.get(key)

    def set(self, key, value, *_, **__):
        self.kept[key] = value

    def delete(self, key, *_, **__):
        self.kept.pop(key, None)

    def incr(self, key, delta=1, *_, **__):
        self.kept[key] = int(self.kept.get(key) or 0) + delta
        return self.kept[key]

    def get_multi(self, keys, *_, **__):
        return [self.kept.get(key) for key in keys]


# A machine that is busy is no failure: what is late would be left to daemons that do not run here, and
# a server that was late too often would not be asked for a minute.
PATIENCE = {
    "conn_timeout": "60",
    "node_timeout": "60",
    "container_update_timeout": "60",
    "error_suppression_interval": "0",
}


def main():
    address, _, directory, user, key = sys.argv[1:]
    try:
        os.setxattr(directory, "user.probe", b"")
    except OSError as error:
        sys.exit(f"Swift needs extended attributes, set TMPDIR to where files have them: {error}")
    utils.HASH_PATH_PREFIX, utils.HASH_PATH_SUFFIX = b"", b"tests"
    os.makedirs(os.path.join(directory, "devices", "one"), exist_ok=True)
    conf = {
        "swift_dir": directory,
        "devices": os.path.join(directory, "devices"),
        "mount_check": "false",
        "fallocate_reserve": "0",
        "disable_fallocate": "true",
        **PATIENCE,
    }
    servers = [
        ("account", AccountController(conf)),
        ("container", ContainerController(conf)),
        ("object", ObjectController(conf)),
    ]
    pool = eventlet.GreenPool()
    quiet = open(os.devnull, "w")
    for name, app in servers:
        listener = eventlet.listen((address, 0))
        pool.spawn(eventlet.wsgi.server, listener, app, quiet)
        builder = RingBuilder(2, 1, 0)
        builder.add_dev({
            "region": 1, "zone": 1, "weight": 1, "device": "one",
            "ip": address, "port": listener.getsockname()[1],
        })
        builder.rebalance()
        builder.get_ring().save(os.path.join(directory, name + ".ring.gz"))
    app = Application({
        "swift_dir": directory,
        "account_autocreate": "true",
        "allow_account_management": "true",
        **PATIENCE,
    })
    app = listing_formats.filter_factory({})(app)
    app = tempauth.filter_factory({"user_" + user.replace(":", "_"): key + " .admin"})(app)
    app = Cache(app)
    app = gatekeeper.filter_factory({})(app)
    app = catch_errors.filter_factory({})(app)
    held.listen(50)
    eventlet.wsgi.server(eventlet.greenio.GreenSocket(held), app, quiet)


main()
