# syntax=docker/dockerfile:1
# The service (and every other command) as a user without privileges, for a read-only root.
#
#   docker build --target cpu  --tag alignwatch:cpu  .
#   docker build --target cuda --tag alignwatch:cuda .
#   docker run --rm --read-only --tmpfs /tmp --volume "$PWD/data:/data" alignwatch:cpu demo --out /data/demo
#
# ./data has to belong to uid 10001. docs/deploy.md says what to mount and why; deploy/compose.yaml has all of it.
#
# The base image is pinned by its tag; for the same bytes every time, add its digest:
#   --build-arg PYTHON_IMAGE=python:3.11.14-slim-bookworm@sha256:…
# A package index of your own, or one that has the CPU build of torch, stands in a pip.conf, which leaves no trace in the image:
#   --secret id=pip,src=$HOME/.config/pip/pip.conf
# Without that build the cpu image works too, and is several gigabytes larger.

ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

# Our own package, as a wheel: sources and build tools stay behind.
FROM ${PYTHON_IMAGE} AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY policies ./policies
COPY adapters ./adapters
COPY guards ./guards
COPY monitor ./monitor
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

# One virtual environment an image. torch is a layer of its own: it is by far the largest and changes the least. Nothing
# but wheels is installed, so that no package's build script runs.
FROM ${PYTHON_IMAGE} AS environment
RUN python -m venv /opt/alignwatch
COPY deploy/constraints.txt /constraints.txt

FROM environment AS environment-cpu
ARG TORCH=2.13.0
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/alignwatch/bin/pip install --no-cache-dir --only-binary :all: "torch==${TORCH}+cpu" \
    || /opt/alignwatch/bin/pip install --no-cache-dir --only-binary :all: "torch==${TORCH}"
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    /opt/alignwatch/bin/pip install --no-cache-dir --only-binary :all: --constraint /constraints.txt /wheels/*.whl

FROM environment AS environment-cuda
ARG TORCH=2.11.0
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/alignwatch/bin/pip install --no-cache-dir --only-binary :all: "torch==${TORCH}"
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    /opt/alignwatch/bin/pip install --no-cache-dir --only-binary :all: --constraint /constraints.txt /wheels/*.whl

# All that both images share. Nothing is written outside /data and /tmp.
FROM ${PYTHON_IMAGE} AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Alignwatch" \
      org.opencontainers.image.description="Decides whether a freshly trained LoRA adapter may reach a deployed agent" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin alignwatch \
    && install --directory --owner alignwatch --group alignwatch --mode 0755 /data
# The service listens on every address of the container: what reaches it is decided by what is published. Models are
# mounted, never fetched, unless HF_HUB_OFFLINE=0 is given.
ENV PATH=/opt/alignwatch/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    XDG_CACHE_HOME=/tmp/cache \
    MPLCONFIGDIR=/tmp/matplotlib \
    TRITON_CACHE_DIR=/tmp/triton \
    HF_HOME=/data/huggingface \
    HF_HUB_OFFLINE=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    ALIGNWATCH_HTTP__HOST=0.0.0.0 \
    ALIGNWATCH_HTTP__PORT=9464
WORKDIR /data
USER 10001:10001
EXPOSE 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=6s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ['ALIGNWATCH_HTTP__PORT']), timeout=5); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["alignwatch"]
CMD ["serve", "--config", "/etc/alignwatch/alignwatch.yaml"]

# torch brings the CUDA libraries; the driver comes from the host (docker run --gpus all).
FROM runtime AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=environment-cuda /opt/alignwatch /opt/alignwatch

# The last one is what a build without --target makes.
FROM runtime AS cpu
COPY --from=environment-cpu /opt/alignwatch /opt/alignwatch
