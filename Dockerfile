# syntax=docker/dockerfile:1
# The command `alignwatch`, as a user without privileges.
#
#   docker build -t alignwatch .
#   docker run --rm -v "$PWD/demo:/data" alignwatch demo --out /data/demo      (./demo belongs to uid 10001)
#
# Without a GPU, take the CPU build of torch; it is several gigabytes smaller. Name an index that has it in PIP_ARGS:
#   docker build --build-arg TORCH="torch==2.13.0+cpu" --build-arg PIP_ARGS="--extra-index-url <index>" -t alignwatch .
# Credentials do not belong into build arguments: they stay in the image's history.
#
# For a reproducible base image add its digest after the tag, in both FROM lines: python:…@sha256:….

FROM python:3.11.14-slim-bookworm AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ARG TORCH="torch==2.13.0"
ARG PIP_ARGS=""
# torch in a layer of its own: it is by far the largest and changes the least.
# hadolint ignore=SC2086
RUN python -m venv /opt/alignwatch \
    && /opt/alignwatch/bin/pip install --no-cache-dir ${PIP_ARGS} "${TORCH}"
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY policies ./policies
COPY adapters ./adapters
COPY guards ./guards
COPY monitor ./monitor
# hadolint ignore=SC2086
RUN /opt/alignwatch/bin/pip install --no-cache-dir ${PIP_ARGS} .

FROM python:3.11.14-slim-bookworm
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin alignwatch \
    && install --directory --owner alignwatch --group alignwatch /data
COPY --from=build /opt/alignwatch /opt/alignwatch
ENV PATH=/opt/alignwatch/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001
WORKDIR /data
ENTRYPOINT ["alignwatch"]
CMD ["--help"]
