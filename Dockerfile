# Builds from the hashed locks; what runs has no compiler, no package installer of its own, and no rights.
FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore UV_NO_CACHE=1
WORKDIR /src
COPY locks/ locks/
RUN pip install --quiet --require-hashes --requirement locks/build.txt \
 && python -m venv --without-pip /opt/ngt-renewal \
 && uv pip sync --quiet --require-hashes --compile-bytecode --python /opt/ngt-renewal/bin/python locks/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY app/ app/
COPY migrations/ migrations/
RUN python -m hatchling build --target wheel --directory /wheels \
 && uv pip install --quiet --no-deps --compile-bytecode --python /opt/ngt-renewal/bin/python /wheels/*.whl

FROM python:3.13-slim
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ngt-renewal" \
      org.opencontainers.image.description="Renews the client certificates of Nutanix Guest Tools over one HTTP call, and proves that it did." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The user has a name, since PostgreSQL's initdb refuses a number without one; a volume takes the folder's owner over.
RUN groupadd --gid 65532 ngt-renewal \
 && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin ngt-renewal \
 && install --directory --owner 65532 --group 65532 --mode 0700 /var/lib/ngt-renewal
COPY --from=build /opt/ngt-renewal /opt/ngt-renewal
ENV PATH=/opt/ngt-renewal/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    NGT_RENEWAL_HOST=0.0.0.0 \
    NGT_RENEWAL_PORT=8080 \
    NGT_RENEWAL_DATA_DIR=/var/lib/ngt-renewal
# For the embedded PostgreSQL: without a DATABASE_URL, mount a volume here that outlives the container.
VOLUME /var/lib/ngt-renewal
USER 65532:65532
WORKDIR /
EXPOSE 8080
# A running change on a CVM is finished first: give it `--stop-timeout 90`.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['NGT_RENEWAL_PORT']}/livez\", timeout=4)"]
# Tables are made by `migrate`, run once before a new version; a `serve` that finds others says so and ends.
ENTRYPOINT ["ngt-renewal"]
CMD ["serve"]
