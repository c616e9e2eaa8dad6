"""How gunicorn serves the gateway; each value with its reason. Read by ``gunicorn wsgi:app``."""

import errno
import gc
import logging
import multiprocessing
import os
import shutil
import socket
import sys
import time
from contextlib import suppress

from gateway.errors import ConfigurationError
from gateway.limits import capacity, raise_limit_of_files
from gateway.logs import configuration
from gateway.settings import Settings
from gateway.web.metrics_folder import metrics_folder

raise_limit_of_files()
# Checked before any process exists: a worker that cannot start is restarted forever.
try:
    settings = Settings.from_env(os.environ)
except ConfigurationError as error:
    sys.exit(str(error))

# What the web processes count, for /metrics; must be set before the application is imported.
with suppress(OSError):  # without it each process serves what it counted itself
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics_folder()

# How many web processes have started; all of them share it.
started = multiprocessing.Value("i", 0)

bind = f"[{settings.host}]:{settings.port}"  # the brackets are for IPv6, and do no harm
# Two, so that one is there while the other is replaced.
workers = settings.web_processes
worker_class = "gateway.web.gunicorn_worker.DeadlineWorker"
threads = settings.web_threads
worker_connections = capacity(workers).connections
# All libraries once in memory instead of once a process.
preload_app = True
# Heroku's router keeps connections for 90 s; who closes first must not be us, or a request is lost.
keepalive = 95
# Would wait for slow clients in a way that the worker does not see.
sendfile = False
# By default a proxy on this machine may send SCRIPT_NAME and PATH_INFO as headers, and most proxies
# forward their client's headers: a client could reach addresses that the proxy does not publish.
forwarder_headers = ""
# A call to CRM Text ends within 20 s, and the platform kills after 30 s.
graceful_timeout = 25
# Our own lines say the same without addresses, which may hold anything.
accesslog = None
logconfig_dict = configuration(settings.log_level)
# Not used, and it would be a file in the home directory.
control_socket_disable = True
# For the heartbeat of each process, which needs no disk there.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108


def on_starting(server):
    for warning in settings.warnings:
        logging.getLogger("gateway.settings").warning("settings warning", extra={"why": warning})
    if limited := capacity(workers).warning:
        logging.getLogger("gateway.limits").warning("capacity limited", extra={"why": limited})
    if not {"GUNICORN_FD", "LISTEN_FDS"} & os.environ.keys():  # else a socket was handed over
        for address in server.cfg.address:
            if isinstance(address, tuple):  # else the path of a Unix socket
                _wait_until_free(server, *address)


def _wait_until_free(server, host, port):
    """gunicorn itself would say so five times over, and never which setting it comes from."""
    ends_at = time.monotonic() + 5  # what is being replaced may need a moment to end
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        try:
            socket.create_server((host, port), family=family).close()
        except OSError as error:
            in_use = error.errno == errno.EADDRINUSE
            if not in_use or time.monotonic() > ends_at:
                on_exit(server)
                why = str(error.strerror).partition(" (")[0]
                advice = (
                    "Stop the program that uses it, or set PORT to another one."
                    if in_use
                    else "Check HOST and PORT."
                )
                sys.exit(f"Cannot listen on {host} port {port}: {why}. {advice}")
        else:
            return
        time.sleep(0.1)


def post_worker_init(worker):
    with started:
        started.value += 1
        is_last = started.value == worker.cfg.workers
    if is_last:
        listener = str(worker.sockets[0])
        here = listener.replace("/0.0.0.0:", "/127.0.0.1:").replace("/[::]:", "/[::1]:")
        worker.log.info("Ready: %s/docs", settings.public_url or here)


def when_ready(server):
    # The collector would write to what was preloaded, and so copy it for each process.
    gc.collect()
    gc.freeze()


def on_exit(server):
    shutil.rmtree(os.environ.get("PROMETHEUS_MULTIPROC_DIR", ""), ignore_errors=True)
