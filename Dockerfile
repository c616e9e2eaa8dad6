# One image for all three processes. What it is not told otherwise is the web process:
#   docker run -d --env-file gateway.env -v ledger:/data -p 8000:8000 crmtext-gateway
# Once before it, at each release, and the worker beside it:
#   docker run --rm --env-file gateway.env -v ledger:/data crmtext-gateway python -m gateway release
#   docker run -d --env-file gateway.env -v ledger:/data --no-healthcheck crmtext-gateway python -m gateway worker
FROM python:3.13-slim

RUN useradd --system --uid 10001 --home-dir /data --create-home gateway
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir --require-hashes -r requirements.txt
COPY gateway gateway
COPY schemas schemas
COPY gunicorn.conf.py wsgi.py ./

# The default ledger, for one machine; with Postgres nothing is kept here.
ENV DATABASE_URL=sqlite:////data/gateway.db HOST=0.0.0.0 PORT=8000 PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 8000
USER gateway

# The worker answers no HTTP; its sign of life is in /metrics.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "import os, urllib.request as web; web.urlopen(f\"http://127.0.0.1:{os.environ['PORT']}/healthz\", timeout=4)"]
CMD ["gunicorn", "wsgi:app"]
