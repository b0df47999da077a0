# The processes web, worker and beat in one image; compose.yaml starts them.
# .ci/image runs these steps without Docker, and knows only the instructions that are used here.
FROM python:3.11-slim

# The package index is that of pip's default, or --build-arg PIP_INDEX_URL=...
ARG PIP_INDEX_URL
ENV PYTHONUNBUFFERED=1
ENV PATH=/opt/outbound/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
RUN python3 -m venv /opt/outbound
COPY requirements-extras.lock /srv/outbound/
RUN python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes --requirement /srv/outbound/requirements-extras.lock

WORKDIR /srv/outbound
COPY manage.py ./
COPY audiences ./audiences
COPY config ./config
COPY container ./container
COPY delivery ./delivery
COPY docs/examples.md ./docs/
COPY messaging ./messaging
COPY outbound ./outbound
COPY static ./static
COPY templates ./templates
RUN python -m compileall -q .

# Files, journals and the folder of the broker are in .data, which compose.yaml mounts as a volume. Metrics are not:
# process ids, after which their files are named, are unique in one container only.
ENV METRICS_DIR=/tmp/outbound-metrics
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin outbound
RUN install --directory --owner outbound --group outbound --mode 700 .data
USER outbound
EXPOSE 8000
CMD ["gunicorn", "config.wsgi", "--bind", "0.0.0.0:8000", "--workers", "2", "--threads", "4", "--no-control-socket"]
