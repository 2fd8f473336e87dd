# The service as an image: no compiler, no shell needed, no root, nothing written outside /tmp and the volume.
#   docker build -t ngt-renewal --build-arg REVISION="$(git rev-parse HEAD)" .
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
WORKDIR /src
COPY locks/ locks/
RUN python -m venv /build \
 && /build/bin/pip install --no-cache-dir --require-hashes -r locks/build.txt \
 && /build/bin/uv venv /opt/ngt-renewal \
 && /build/bin/uv pip sync --no-cache --compile-bytecode --python /opt/ngt-renewal/bin/python \
      --require-hashes locks/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY app/ app/
COPY migrations/ migrations/
RUN /build/bin/hatchling build -t wheel -d /dist \
 && /build/bin/uv pip install --no-cache --compile-bytecode --python /opt/ngt-renewal/bin/python --no-deps /dist/*.whl

FROM ${PYTHON}
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ngt-renewal" \
      org.opencontainers.image.description="Renews the client certificates of Nutanix Guest Tools over one HTTP call, and proves that it did." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"
# PostgreSQL asks for the name of its user, so the number alone would not do.
RUN useradd --system --uid 65532 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin ngt-renewal \
 && install -d -o ngt-renewal -g ngt-renewal -m 700 /var/lib/ngt-renewal
COPY --from=build /opt/ngt-renewal /opt/ngt-renewal
ENV PATH=/opt/ngt-renewal/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NGT_RENEWAL_HOST=0.0.0.0 \
    NGT_RENEWAL_DATA_DIR=/var/lib/ngt-renewal
# For the embedded PostgreSQL alone: without DATABASE_URL, mount a volume here that outlives the container.
VOLUME /var/lib/ngt-renewal
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ.get('NGT_RENEWAL_PORT') or 8080}/livez\", timeout=4)"]
# A given database is never migrated by a replica that starts: run `migrate` first, once.
ENTRYPOINT ["ngt-renewal"]
CMD ["serve"]
