# One image for all three processes; unless told otherwise it is the web process. See "With containers" in
# docs/deploying.md.
FROM python:3.13-slim

RUN useradd --system --uid 10001 --home-dir /data --create-home gateway
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir --require-hashes -r requirements.txt
COPY gateway gateway
COPY schemas schemas
COPY gunicorn.conf.py wsgi.py ./
# So that 'docker exec web gateway status' works, in whatever folder.
RUN printf '#!/bin/sh\nexec python -m gateway "$@"\n' > /usr/local/bin/gateway && chmod 755 /usr/local/bin/gateway

# Inside a container, 127.0.0.1 cannot be reached from outside. SQLite is for a single machine; with Postgres nothing is
# stored in /data.
ENV HOST=0.0.0.0 PORT=8000 DATABASE_URL=sqlite:////data/gateway.db PYTHONPATH=/app PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 8000
USER gateway

# For web only: the worker does not answer HTTP; /metrics says when it was last seen.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "import os, urllib.request as web; web.urlopen(f\"http://127.0.0.1:{os.environ['PORT']}/healthz\", timeout=4)"]
CMD ["gunicorn", "wsgi:app"]
