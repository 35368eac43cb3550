# syntax=docker/dockerfile:1
# One image for every service; docker-compose.yml gives each its command. Set-up is the same script
# as on a bare machine: every package by hash, the weights by digest.
#
#   docker build -t liuhen .
#   docker build -t liuhen --build-arg PIP_INDEX_URL=... .                     behind a mirror
#   docker build -t liuhen --build-context wheels=dist/wheels .                from `make bundle`, no network
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# Stands in where no build context `wheels` is given.
FROM scratch AS wheels

FROM ${PYTHON_IMAGE} AS build
ARG PIP_INDEX_URL=
ENV PIP_INDEX_URL=${PIP_INDEX_URL} PIP_NO_CACHE_DIR=1
WORKDIR /opt/liuhen
COPY requirements requirements
COPY tools tools
COPY pyproject.toml LICENSE ./
COPY api api
COPY cli cli
COPY config config
COPY evidence evidence
COPY ingest ingest
COPY media media
COPY messaging messaging
COPY redaction redaction
COPY storage storage
COPY transcode transcode
COPY workers workers
RUN --mount=from=wheels,target=/wheels \
    if [ -n "$(ls -A /wheels)" ]; then export WHEELS=/wheels; fi; \
    python3 tools/setup.py --no-samples \
    && rm -rf .cache/*.log .cache/setup.lock

FROM ${PYTHON_IMAGE}
ENV PATH=/opt/liuhen/.venv/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    LIUHEN_DATA__DIR=/var/lib/liuhen \
    LIUHEN_REDACTION__MODELS_DIR=/opt/liuhen/.cache/models
# A fixed number, so that files on a shared volume belong to the same user in every container.
RUN groupadd --gid 10001 liuhen \
    && useradd --uid 10001 --gid liuhen --home-dir /var/lib/liuhen --shell /usr/sbin/nologin liuhen \
    && install -d -o liuhen -g liuhen -m 0750 /var/lib/liuhen
COPY --from=build /opt/liuhen /opt/liuhen
USER liuhen
WORKDIR /var/lib/liuhen
VOLUME /var/lib/liuhen
CMD ["liuhen", "--help"]
